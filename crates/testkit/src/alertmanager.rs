//! A real Alertmanager.

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::{Binary, workspace};
use crate::process::{Process, free_port};

/// A running Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    process: Process,
    port: u16,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Alertmanager {
    /// Starts it with that configuration (YAML).
    ///
    /// # Errors
    ///
    /// If it does not come up, because the configuration is wrong, say; the message has the end of its log.
    pub async fn start(config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("txnscope-alertmanager-")
            .tempdir()
            .context("no temporary folder")?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("alertmanager.yml"), config)?;
        let port = free_port()?;
        let arguments = [
            format!("--config.file={}", at("alertmanager.yml").display()),
            format!("--storage.path={}", at("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--cluster.listen-address=".to_owned(),
        ];
        // What `cargo xtask fetch` brought looks for its templates in the folder that it is started in.
        let share = workspace().join(".tools/share/alertmanager");
        let process = Process::spawn_with(&Binary::Alertmanager.path()?, &arguments, at("log"), |command| {
            if share.is_dir() {
                command.current_dir(share);
            }
        })
        .await?;
        let mut alertmanager = Self { process, port, http: reqwest::Client::new(), _folder: folder };
        let ready = format!("{}/-/ready", alertmanager.url());
        crate::wait::until("Alertmanager to be ready", async || {
            if let Err(ended) = alertmanager.process.check() {
                return Ok(Err(ended));
            }
            alertmanager.http.get(&ready).send().await?.error_for_status()?;
            Ok(Ok(()))
        })
        .await??;
        Ok(alertmanager)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends alerts, in the form of its API v2.
    ///
    /// # Errors
    ///
    /// If it refuses them.
    pub async fn send(&self, alerts: &Value) -> Result<()> {
        let url = format!("{}/api/v2/alerts", self.url());
        self.http.post(url).json(alerts).send().await?.error_for_status()?;
        Ok(())
    }

    /// The alerts that it has.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/v2/alerts", self.url());
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }
}
