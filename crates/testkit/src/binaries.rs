//! The paths of the servers' binaries.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// A program that tests start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// The database.
    Mongod,
    /// Prometheus.
    Prometheus,
    /// Prometheus's checker of rules and metric pages.
    Promtool,
    /// Alertmanager.
    Alertmanager,
    /// Alertmanager's checker of routes.
    Amtool,
}

impl Binary {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Mongod => ("mongod", "TXNSCOPE_MONGOD"),
            Self::Prometheus => ("prometheus", "TXNSCOPE_PROMETHEUS"),
            Self::Promtool => ("promtool", "TXNSCOPE_PROMTOOL"),
            Self::Alertmanager => ("alertmanager", "TXNSCOPE_ALERTMANAGER"),
            Self::Amtool => ("amtool", "TXNSCOPE_AMTOOL"),
        }
    }

    /// The path of the binary: from the environment variable, else from `PATH`, else from what `cargo xtask fetch`
    /// has installed.
    ///
    /// # Errors
    ///
    /// If it is not found; the message says what to do. A missing server fails a test and never skips it.
    pub fn path(self) -> Result<PathBuf> {
        let (name, variable) = self.names();
        if let Some(named) = std::env::var_os(variable) {
            let path = PathBuf::from(named);
            if path.is_file() {
                return Ok(path);
            }
            bail!("{variable} names {}, which is not a file", path.display());
        }
        let search = std::env::var_os("PATH").unwrap_or_default();
        let fetched = workspace().join(".tools/bin");
        let mut folders = std::env::split_paths(&search).chain([fetched]);
        match folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file())) {
            Some(path) => Ok(path),
            None => bail!("there is no {name}; run `cargo xtask fetch`, or set {variable} to a binary"),
        }
    }
}

/// The `mongod` of an older version that `cargo xtask fetch` installs.
///
/// # Errors
///
/// If it is not installed.
pub(crate) fn older_mongod(version: &str) -> Result<PathBuf> {
    let path = workspace().join(".tools").join(format!("mongod-{version}")).join("mongod");
    if path.is_file() {
        return Ok(path);
    }
    bail!("there is no mongod {version}; run `cargo xtask fetch`")
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}
