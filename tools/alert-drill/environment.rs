//! The environment of the drill.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::client::Client;
use ledger::{Ledger, Server, Settings, Token};
use tempfile::TempDir;
use testkit::{Alertmanager, Prometheus, ReplicaSet, ReplicaSetOptions, ScrapeJob};
use tokio::net::TcpListener;
use txnscope::Metrics;
use txnscope_checks::Checks;
use txnscope_sidecar::{Config, Sidecar};

use crate::fast_rules;
use crate::listener::Listener;

const TOKEN: &str = "drill";
/// The server's transaction lifetime limit. Idle transactions must stay open long enough to trigger an alert.
const LIFETIME_LIMIT_SECONDS: u32 = 40;

/// The servers and programs of the drill. Dropping it ends every process.
pub(crate) struct Environment {
    pub(crate) set: ReplicaSet,
    pub(crate) listener: Listener,
    server: Server,
    sidecar: Option<Sidecar>,
    /// The port of the sidecar, which it keeps after a restart.
    sidecar_at: SocketAddr,
    _prometheus: Prometheus,
    _alertmanager: Alertmanager,
    _rules: TempDir,
}

impl Environment {
    pub(crate) async fn set() -> Result<Self> {
        let set = ReplicaSetOptions::new(3)
            .parameter("transactionLifetimeLimitSeconds", LIFETIME_LIMIT_SECONDS)
            .start()
            .await?;
        let client = ledger::connect(&set.uri()).await?;
        let metrics = Metrics::isolated()?;
        let mut settings = Settings::new(Token::new(TOKEN)?);
        settings.registry = metrics.registry();
        let ledger = Ledger::open(client, settings).await?;
        let server = Server::start(TcpListener::bind("127.0.0.1:0").await?, ledger, &metrics)?;
        let any = "127.0.0.1:0".parse()?;
        let sidecar = sidecar(&set, any).await?;
        let sidecar_at = sidecar.local_addr();

        let listener = Listener::default();
        let alerts = testkit::workspace().join("alerts");
        let alertmanager = Alertmanager::start(&patience(&alerts, &listener.start().await?)?).await?;
        let rules = tempfile::Builder::new().prefix("txnscope-rules-").tempdir()?;
        fast_rules::rules(&alerts.join("rules"), rules.path())?;
        let job = |name: &str, target: String| ScrapeJob { name: name.to_owned(), target };
        let jobs = [job("ledger", server.address().to_string()), job("txnscope", sidecar_at.to_string())];
        let prometheus = Prometheus::start_alerting(&jobs, rules.path(), &alertmanager.url()).await?;
        Ok(Self {
            set,
            listener,
            server,
            sidecar: Some(sidecar),
            sidecar_at,
            _prometheus: prometheus,
            _alertmanager: alertmanager,
            _rules: rules,
        })
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(format!("http://{}", self.server.address()), TOKEN)
    }

    pub(crate) async fn stop_sidecar(&mut self) {
        if let Some(sidecar) = self.sidecar.take() {
            sidecar.shutdown().await;
        }
    }

    pub(crate) async fn start_sidecar(&mut self) -> Result<()> {
        self.sidecar = Some(sidecar(&self.set, self.sidecar_at).await?);
        Ok(())
    }

    /// Shuts everything down in order.
    pub(crate) async fn shut_down(mut self) -> Result<()> {
        self.server.shutdown().await?;
        if let Some(sidecar) = self.sidecar.take() {
            sidecar.shutdown().await;
        }
        Ok(())
    }
}

/// A sidecar with short intervals for polls and for the ledger's checks.
async fn sidecar(set: &ReplicaSet, at: SocketAddr) -> Result<Sidecar> {
    let file = testkit::workspace().join("examples/ledger/checks.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let often = text.replace("interval = \"1m\"", "interval = \"5s\"");
    ensure!(often != text, "{} has another interval", file.display());
    let mut config = Config::new(set.uri());
    config.checks = Some(Checks::parse(&often)?);
    config.listen_addresses = vec![at];
    config.poll_interval = Duration::from_millis(500);
    config.collectors.replication.interval = config.poll_interval;
    config.collectors.storage_engine.interval = 3 * config.poll_interval;
    config.collectors.parameters.interval = 12 * config.poll_interval;
    config.poll_timeout = Duration::from_secs(2);
    Ok(Sidecar::start(config).await?)
}

/// Our Alertmanager's configuration, with the listener's address, and waits of a second instead of half a minute or
/// more.
fn patience(alerts: &Path, listener: &str) -> Result<String> {
    let mut config = std::fs::read_to_string(alerts.join("alertmanager.yml"))?;
    for (what, with) in [
        ("127.0.0.1:9099", listener),
        ("group_wait: 30s", "group_wait: 1s"),
        ("group_interval: 5m", "group_interval: 1s"),
    ] {
        ensure!(config.contains(what), "alertmanager.yml has no `{what}`");
        config = config.replace(what, with);
    }
    Ok(config)
}
