//! The ledger and the sidecar inside the test's own process, so that a failure shows all their output.

use std::time::Duration;

use end_to_end::client::Client;
use ledger::{Ledger, Server, Settings, Token};
use testkit::{ReplicaSet, Scrape, wait};
use tokio::net::TcpListener;
use txnscope::Metrics;
use txnscope_catalog::{self as catalog};
use txnscope_checks::Checks;
use txnscope_sidecar::{Config, Sidecar};

const TOKEN: &str = "token-for-tests";

/// A running ledger, with metrics of its own.
pub(crate) struct Backend {
    pub(crate) server: Server,
    pub(crate) metrics: Metrics,
}

impl Backend {
    pub(crate) async fn start(uri: &str) -> Self {
        let client = ledger::connect(uri).await.unwrap();
        let metrics = Metrics::isolated().unwrap();
        let mut settings = Settings::new(Token::new(TOKEN).unwrap());
        settings.registry = metrics.registry();
        let ledger = Ledger::open(client, settings).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { server: Server::start(listener, ledger, &metrics).unwrap(), metrics }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(format!("http://{}", self.server.address()), TOKEN)
    }

    pub(crate) fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.server.address())
    }

    /// The metrics page, rendered without HTTP.
    pub(crate) fn scrape(&self) -> Scrape {
        Scrape::parse(&self.metrics.render()).unwrap()
    }

    /// Sends raw bytes, for clients that violate HTTP.
    pub(crate) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nhost: ledger\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A sidecar with a short poll interval.
pub(crate) async fn sidecar(uri: &str) -> Sidecar {
    sidecar_with(uri, None).await
}

/// A sidecar with a short poll interval that also runs checks.
pub(crate) async fn sidecar_with(uri: &str, checks: Option<Checks>) -> Sidecar {
    let mut config = Config::new(uri);
    config.checks = checks;
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    config.collectors.replication.interval = config.poll_interval;
    config.collectors.storage_engine.interval = 3 * config.poll_interval;
    config.collectors.parameters.interval = 12 * config.poll_interval;
    Sidecar::start(config).await.unwrap()
}

/// The ledger's own checks and some more, with short intervals.
pub(crate) fn frequent_checks(more: &str) -> Checks {
    let path = testkit::workspace().join("examples/ledger/checks.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let often = text.replace("interval = \"1m\"", "interval = \"1s\"");
    assert_ne!(often, text, "the file has another interval");
    Checks::parse(&format!("{often}\n{more}")).unwrap()
}

pub(crate) fn metrics_url(sidecar: &Sidecar) -> String {
    format!("http://{}/metrics", sidecar.local_addr())
}

/// The server's own `transactions` section, summed over the members: the reference for all other counters.
pub(crate) struct ServerCounters {
    pub(crate) started: i64,
    pub(crate) committed: i64,
    pub(crate) aborted: i64,
    pub(crate) open: i64,
}

pub(crate) async fn server_counters(set: &ReplicaSet) -> ServerCounters {
    let mut counters = ServerCounters { started: 0, committed: 0, aborted: 0, open: 0 };
    for member in set.members() {
        let status = member.admin(mongodb::bson::doc! {"serverStatus": 1}).await.unwrap();
        let transactions = status.get_document("transactions").unwrap();
        let number = |field: &str| transactions.get_i64(field).unwrap();
        counters.started += number("totalStarted");
        counters.committed += number("totalCommitted");
        counters.aborted += number("totalAborted");
        counters.open += number("currentOpen");
    }
    counters
}

/// Waits until no transaction is open on the server and no operation is in flight.
pub(crate) async fn quiet(set: &ReplicaSet, backend: &Backend) {
    wait::until("everything to have ended", async || {
        let open = server_counters(set).await.open;
        let in_flight = backend.scrape().sum(catalog::CONCURRENT_OPERATIONS.name, &[]);
        anyhow::ensure!(
            open == 0 && in_flight == 0.0,
            "{open} transactions open, {in_flight} operations in flight"
        );
        Ok(())
    })
    .await
    .unwrap();
}

/// The number of operations with that outcome; with any outcome, if it is empty.
pub(crate) fn ended(scrape: &Scrape, labels: &[(&str, &str)]) -> f64 {
    scrape.sum(&format!("{}_count", catalog::TRANSACTION_DURATION.name), labels)
}
