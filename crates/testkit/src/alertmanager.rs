//! A real Alertmanager.

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::{Binary, workspace};
use crate::port::Port;
use crate::process::Process;

/// A running Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    _process: Process,
    port: Port,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Alertmanager {
    /// Starts Alertmanager with a configuration (YAML).
    ///
    /// # Errors
    ///
    /// If it does not start, for example because the configuration is invalid; the message contains the end of its
    /// log.
    pub async fn start(config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("txnscope-alertmanager-")
            .tempdir()
            .context("no temporary folder")?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("alertmanager.yml"), config)?;
        let port = Port::reserve()?;
        let arguments = [
            format!("--config.file={}", at("alertmanager.yml").display()),
            format!("--storage.path={}", at("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--cluster.listen-address=".to_owned(),
        ];
        // The package that `cargo xtask fetch` installs looks for its templates in the working directory.
        let share = workspace().join(".tools/share/alertmanager");
        let mut process =
            Process::spawn_with(&Binary::Alertmanager.path()?, &arguments, at("log"), |command| {
                if share.is_dir() {
                    command.current_dir(share);
                }
            })
            .await?;
        process.wait_ready(port.number(), "/-/ready").await?;
        Ok(Self { _process: process, port, http: reqwest::Client::new(), _folder: folder })
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Sends alerts in the format of the API v2.
    ///
    /// # Errors
    ///
    /// If Alertmanager rejects them.
    pub async fn send(&self, alerts: &Value) -> Result<()> {
        let url = format!("{}/api/v2/alerts", self.url());
        self.http.post(url).json(alerts).send().await?.error_for_status()?;
        Ok(())
    }

    /// The active alerts.
    ///
    /// # Errors
    ///
    /// If Alertmanager does not respond.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/v2/alerts", self.url());
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }
}
