//! A real Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::Binary;
use crate::port::Port;
use crate::process::Process;

/// A target that Prometheus scrapes every second.
#[derive(Debug, Clone)]
pub struct ScrapeJob {
    /// The label `job`.
    pub name: String,
    /// `host:port`.
    pub target: String,
}

/// One sample of a query result.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    arguments: Vec<String>,
    port: Port,
    http: reqwest::Client,
    folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus on a reserved port.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn start(jobs: &[ScrapeJob]) -> Result<Self> {
        Self::start_on(Port::reserve()?, jobs).await
    }

    /// Starts Prometheus on a given port.
    ///
    /// # Errors
    ///
    /// If it does not start, for example because the port is in use.
    pub async fn start_on(port: Port, jobs: &[ScrapeJob]) -> Result<Self> {
        Self::start_with(port, jobs, "", &[]).await
    }

    /// Starts Prometheus on a reserved port, with rule files and an Alertmanager.
    ///
    /// # Errors
    ///
    /// If it does not start, for example because a rule is invalid.
    pub async fn start_alerting(jobs: &[ScrapeJob], rules: &Path, alertmanager: &str) -> Result<Self> {
        let address = alertmanager.trim_start_matches("http://");
        let more = format!(
            "rule_files: [{:?}]\nalerting:\n  alertmanagers:\n  - static_configs: [{{targets: [{address:?}]}}]\n",
            rules.join("*.yml")
        );
        Self::start_with(Port::reserve()?, jobs, &more, &[]).await
    }

    /// Starts Prometheus on a given port, with rule files and without an Alertmanager.
    ///
    /// # Errors
    ///
    /// If it does not start, for example because a rule is invalid.
    pub async fn start_with_rules(port: Port, jobs: &[ScrapeJob], rules: &Path) -> Result<Self> {
        let more = format!("rule_files: [{:?}]\n", rules.join("*.yml"));
        Self::start_with(port, jobs, &more, &[]).await
    }

    /// Starts Prometheus on a reserved port. It scrapes in protobuf where a target offers it.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn start_with_protobuf(jobs: &[ScrapeJob]) -> Result<Self> {
        Self::start_with(Port::reserve()?, jobs, "", &["--enable-feature=native-histograms"]).await
    }

    async fn start_with(port: Port, jobs: &[ScrapeJob], configuration: &str, more: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("txnscope-prometheus-")
            .tempdir()
            .context("no temporary folder")?;
        let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
        for job in jobs {
            let _ = writeln!(
                config,
                "- job_name: {:?}\n  static_configs: [{{targets: [{:?}]}}]",
                job.name, job.target
            );
        }
        config.push_str(configuration);
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("prometheus.yml"), config)?;
        let mut arguments = vec![
            format!("--config.file={}", at("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", at("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let process = Process::spawn(&Binary::Prometheus.path()?, &arguments, at("log")).await?;
        let mut prometheus = Self { process, arguments, port, http: reqwest::Client::new(), folder };
        prometheus.ready().await?;
        Ok(prometheus)
    }

    async fn ready(&mut self) -> Result<()> {
        self.process.wait_ready(self.port.number(), "/-/ready").await
    }

    /// Kills the process (SIGKILL). Its data is kept.
    ///
    /// # Errors
    ///
    /// If the process does not end.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts Prometheus again on its port and data, after [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let log = self.folder.path().join("log");
        self.process = Process::spawn(&Binary::Prometheus.path()?, &self.arguments, log).await?;
        self.ready().await
    }

    /// The base URL, for a browser.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Evaluates an expression at the present time. A scalar is returned as one sample without labels.
    ///
    /// # Errors
    ///
    /// If Prometheus does not respond or rejects the expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let url = format!("{}/api/v1/query", self.url());
        let url = reqwest::Url::parse_with_params(&url, [("query", expression)])?;
        let answer: Value = self.http.get(url).send().await?.json().await?;
        if answer["status"] != "success" {
            bail!("Prometheus rejects `{expression}`: {}", answer["error"]);
        }
        let number = |value: &Value| -> Result<f64> { Ok(value[1].as_str().context("a value")?.parse()?) };
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            return Ok(vec![Sample { labels: BTreeMap::new(), value: number(result)? }]);
        }
        let samples = result.as_array().context("a list of samples")?;
        samples
            .iter()
            .map(|sample| {
                let labels = serde_json::from_value(sample["metric"].clone())?;
                Ok(Sample { labels, value: number(&sample["value"])? })
            })
            .collect()
    }

    /// The value of an expression with exactly one sample.
    ///
    /// # Errors
    ///
    /// If there is no sample, or more than one.
    pub async fn value(&self, expression: &str) -> Result<f64> {
        match self.query(expression).await?.as_slice() {
            [sample] => Ok(sample.value),
            samples => bail!("`{expression}` has {} samples: {samples:?}", samples.len()),
        }
    }
}
