//! A library for Python, for the dashboards' source: Grafana's own, `.tools/grafana-sdk`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Package, Registry, Scratch, from_pypi, place};

/// Its version names the Grafana that it was made from, after the time of its release.
const SDK: Package = Package {
    name: "grafana-foundation-sdk",
    version: "1769699379!11.6.0",
    sha256: "92d7a8144eba0fa802e728fb70e63d74b056fb1195ff116d812ad7a4ccfa5eca",
    registry: Registry::PyPi(&[]),
};

/// Where the tests look for it too.
const FOLDER: &str = "grafana-sdk";

/// Brings the library if it is not there in that very version, and says where it is.
pub(super) fn sdk(tools: &Path) -> Result<PathBuf> {
    let folder = tools.join(FOLDER);
    let mark = format!("{}-{}.dist-info", SDK.name.replace('-', "_"), SDK.version);
    if folder.join(mark).is_dir() {
        return Ok(folder);
    }
    eprintln!("==> fetching {} {} for the dashboards", SDK.name, SDK.version);
    let scratch = Scratch::new(tools, &SDK)?;
    let unpacked = from_pypi(&SDK, &[], &scratch.0)
        .with_context(|| format!("cannot fetch {} {}; is PyPI within reach?", SDK.name, SDK.version))?;
    if folder.is_dir() {
        fs::rename(&folder, scratch.0.join("older")).context("cannot replace the older library")?;
    }
    place(&unpacked, &folder)?;
    Ok(folder)
}
