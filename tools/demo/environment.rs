//! The environment of the demo: a replica set, the ledger, the sidecar, Prometheus, and Grafana if it is installed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use end_to_end::client::Client;
use tempfile::TempDir;
use testkit::{Port, Process, Prometheus, ReplicaSet, ScrapeJob, Signal};

use crate::grafana::Grafana;

/// Not a secret: readers of the demo's output may use it.
const TOKEN: &str = "demo";

/// The servers and programs. Dropping it ends every process.
pub(crate) struct Environment {
    pub(crate) set: ReplicaSet,
    ledger: Daemon,
    sidecar: Daemon,
    prometheus: Prometheus,
    grafana: Option<Grafana>,
    _folder: TempDir,
}

impl Environment {
    pub(crate) async fn set(say: fn(&str)) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("txnscope-demo-").tempdir()?;
        say("Starting a replica set of three members …");
        let set = ReplicaSet::start(3).await?;
        say("Starting the ledger, the sidecar and Prometheus …");
        let uri = set.uri();
        let database = ("MONGODB_URI", uri.as_str());
        let environment = [database, ("LEDGER_TOKEN", TOKEN)];
        let ledger = Daemon::start("ledger", 3000, &folder, &[], &environment);
        let ledger = ledger.await?;
        // The ledger knows which operation holds an open transaction.
        let config = folder.path().join("txnscope.toml");
        let backends =
            format!("[collector.open_by_operation]\nbackends = [\"{}/-/transactions\"]\n", ledger.url());
        std::fs::write(&config, backends)?;
        let checks = testkit::workspace().join("examples/ledger/checks.toml");
        let arguments = [
            "--poll.interval=1s".to_owned(),
            "--collector.replication.interval=1s".to_owned(),
            "--collector.storage-engine.interval=3s".to_owned(),
            format!("--config.file={}", config.display()),
            format!("--checks.file={}", checks.display()),
        ];
        let sidecar = Daemon::start("txnscope", 9917, &folder, &arguments, &environment[..1]).await?;
        let jobs = [&ledger, &sidecar]
            .map(|daemon| ScrapeJob { name: daemon.name.to_owned(), target: daemon.address.clone() });
        // The objectives and thresholds that the dashboards show.
        let rules = testkit::workspace().join("alerts/rules");
        let prometheus = Prometheus::start_with_rules(Port::near(9090)?, &jobs, &rules).await?;
        let grafana = Grafana::start_if_installed(Port::near(3001)?, &prometheus.url()).await?;
        Ok(Self { set, ledger, sidecar, prometheus, grafana, _folder: folder })
    }

    pub(crate) fn introduction(&self) -> String {
        let grafana = self.grafana.as_ref().map_or_else(
            || {
                "none on the PATH: import dashboards/*.json into yours, or run `cargo xtask preview` meanwhile"
                    .to_owned()
            },
            Grafana::url,
        );
        format!(
            "
  ledger      {ledger}/metrics   (the API wants `Authorization: Bearer {TOKEN}`)
  sidecar     {sidecar}/
  Prometheus  {prometheus}/graph?g0.tab=0&g0.range_input=5m&g0.expr=rate(mongodb_transactions_committed_total%5B1m%5D)
  Grafana     {grafana}
  MongoDB     {uri}
",
            ledger = self.ledger.url(),
            sidecar = self.sidecar.url(),
            prometheus = self.prometheus.url(),
            uri = self.set.uri(),
        )
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.ledger.url(), TOKEN)
    }

    /// The URL of the callers' and the driver's metrics.
    pub(crate) fn ledger_metrics(&self) -> String {
        format!("{}/metrics", self.ledger.url())
    }

    /// The URL of the server's metrics.
    pub(crate) fn sidecar_metrics(&self) -> String {
        format!("{}/metrics", self.sidecar.url())
    }

    /// The median and the 99th percentile of each operation's duration, as computed by Prometheus.
    pub(crate) async fn percentiles(&self) -> Result<BTreeMap<String, [f64; 2]>> {
        let mut percentiles: BTreeMap<String, [f64; 2]> = BTreeMap::new();
        for (column, quantile) in [0.5, 0.99].into_iter().enumerate() {
            let query = format!(
                "histogram_quantile({quantile}, sum by (le, operation) (transaction_duration_seconds_bucket))"
            );
            for sample in self.prometheus.query(&query).await? {
                let operation = sample.labels.get("operation").cloned().unwrap_or_default();
                percentiles.entry(operation).or_insert([f64::NAN; 2])[column] = sample.value;
            }
        }
        Ok(percentiles)
    }

    /// Verifies that all processes still run.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.ledger.process.check()?;
        self.sidecar.process.check()
    }

    /// Shuts everything down in the order of dependencies.
    pub(crate) async fn shut_down(self) -> Result<()> {
        self.ledger.stop().await?;
        self.sidecar.stop().await?;
        drop((self.grafana, self.prometheus, self.set));
        Ok(())
    }
}

/// A process of one of our own programs.
struct Daemon {
    name: &'static str,
    address: String,
    _port: Port,
    process: Process,
}

impl Daemon {
    async fn start(
        name: &'static str,
        port: u16,
        folder: &TempDir,
        arguments: &[String],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        // The usual port, or another one if it is in use.
        let port = Port::near(port)?;
        let address = port.address();
        let listen = format!("--web.listen-address={address}");
        // The sidecar is a subcommand of its program.
        let serve = (name == "txnscope").then(|| "serve".to_owned());
        let arguments: Vec<_> = serve.into_iter().chain([listen]).chain(arguments.iter().cloned()).collect();
        let log = folder.path().join(format!("{name}.log"));
        let mut process = Process::spawn_with(&program(name)?, &arguments, log, |command| {
            command.envs(environment.iter().copied());
        })
        .await?;
        process.wait_ready(port.number(), "/-/ready").await?;
        Ok(Self { name, address, _port: port, process })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait().await?;
        ensure!(status.success(), "{} ended with {status}; its log:\n{}", self.name, self.process.log());
        Ok(())
    }
}

/// A program that was built next to this one.
fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where is this program?")?;
    let folder = own.parent().context("a folder of built programs")?;
    let program = folder.join(name);
    ensure!(program.exists(), "{} is not built; run the demo with: cargo xtask demo", program.display());
    Ok(program)
}
