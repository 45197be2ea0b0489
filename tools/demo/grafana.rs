//! Grafana, if it is installed: provisioned as in `dashboards/README.md`, without login.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use testkit::{Port, Process};

pub(crate) struct Grafana {
    url: String,
    _port: Port,
    _process: Process,
    _folder: TempDir,
}

impl Grafana {
    pub(crate) async fn start_if_installed(port: Port, prometheus: &str) -> Result<Option<Self>> {
        let Some((program, home)) = installation() else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("txnscope-grafana-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let ours = testkit::workspace().join("dashboards");
        copy_dashboards(&ours, &at("dashboards"))?;
        let arguments = ["server".to_owned(), format!("--homepath={}", home.display())];
        let url = format!("http://{}", port.address());
        let mut process = Process::spawn_with(&program, &arguments, at("log"), |command| {
            command
                .env("GF_SERVER_HTTP_ADDR", "127.0.0.1")
                .env("GF_SERVER_HTTP_PORT", port.to_string())
                .env("GF_PATHS_DATA", at("data"))
                .env("GF_PATHS_LOGS", at("logs"))
                .env("GF_PATHS_PROVISIONING", ours.join("provisioning"))
                .env("TXNSCOPE_DASHBOARDS", at("dashboards"))
                .env("PROMETHEUS_URL", prometheus)
                .env("PROMETHEUS_SCRAPE_INTERVAL", "1s")
                .env("GF_AUTH_ANONYMOUS_ENABLED", "true")
                .env("GF_AUTH_ANONYMOUS_ORG_ROLE", "Editor")
                .env("GF_ANALYTICS_REPORTING_ENABLED", "false")
                .env("GF_ANALYTICS_CHECK_FOR_UPDATES", "false");
        })
        .await?;
        let ready = process.wait_ready(port.number(), "/api/health").await;
        ready.context("GRAFANA_HOME may point at the wrong folder")?;
        Ok(Some(Self { url, _port: port, _process: process, _folder: folder }))
    }

    /// The URL of the first page.
    pub(crate) fn url(&self) -> String {
        format!("{}/d/txnscope-overview?from=now-5m&refresh=5s", self.url)
    }
}

/// Copies the dashboards alone, because Grafana also reads subfolders, which contain other JSON.
fn copy_dashboards(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let file = entry?.path();
        if let (Some("json"), Some(name)) =
            (file.extension().and_then(|extension| extension.to_str()), file.file_name())
        {
            std::fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

/// The program `grafana` on the `PATH`, and the folder with its public files.
fn installation() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH")?;
    let program =
        std::env::split_paths(&path).map(|folder| folder.join("grafana")).find(|file| file.is_file())?;
    let home = std::env::var_os("GRAFANA_HOME").map(PathBuf::from).into_iter();
    // The layouts of an unpacked archive and of the packages.
    let unpacked = program.canonicalize().ok().and_then(|file| Some(file.parent()?.parent()?.to_owned()));
    let home = home
        .chain(unpacked)
        .chain([PathBuf::from("/usr/share/grafana")])
        .find(|folder| Path::new(folder).join("conf/defaults.ini").is_file())?;
    Some((program, home))
}
