//! A real Prometheus, and a page for it to scrape.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::Router;
use axum::routing::get;
use tempfile::TempDir;
use testkit::{Binary, Port, Process, wait};
use tokio::net::TcpListener;

use super::stdout_and_stderr;

/// A page for Prometheus, served until the test ends.
pub(crate) async fn page(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Router::new().route("/metrics", get(move || std::future::ready(text.clone())));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// A running Prometheus.
pub(crate) struct Prometheus {
    _process: Process,
    _port: Port,
    pub(crate) url: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus. `prepare` writes files into its folder first.
    pub(crate) async fn start(config: &str, prepare: impl AsyncFnOnce(&Path)) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        prepare(folder.path()).await;
        let port = Port::reserve().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let arguments = [
            format!("--config.file={}", at("prometheus.yml")),
            format!("--storage.tsdb.path={}", at("data")),
            "--storage.tsdb.retention.time=10y".to_owned(),
            format!("--web.listen-address={}", port.address()),
            "--log.level=warn".to_owned(),
        ];
        let log: PathBuf = folder.path().join("log");
        let mut process = Process::spawn(&Binary::Prometheus.path().unwrap(), &arguments, log).await.unwrap();
        process.wait_ready(port.number(), "/-/ready").await.unwrap();
        let url = format!("http://{}", port.address());
        Self { _process: process, _port: port, url, _folder: folder }
    }

    /// Starts Prometheus with a history in OpenMetrics.
    pub(crate) async fn with_history(text: &str) -> Self {
        Self::start("global: {}", async |folder: &Path| {
            let file = folder.join("history");
            std::fs::write(&file, text).unwrap();
            let mut promtool = tokio::process::Command::new(Binary::Promtool.path().unwrap());
            promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(folder.join("data"));
            let output = promtool.stdin(Stdio::null()).output().await.unwrap();
            assert!(output.status.success(), "{}", stdout_and_stderr(&output));
        })
        .await
    }

    /// Waits until an expression has a result.
    pub(crate) async fn has(&self, expression: &str) {
        let url =
            reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", expression)]);
        let url = url.unwrap();
        wait::until(expression, async || {
            let answer: serde_json::Value = reqwest::get(url.clone()).await?.json().await?;
            let some = answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty());
            if some { Ok(()) } else { Err(anyhow::anyhow!("{answer}")) }
        })
        .await
        .unwrap();
    }
}
