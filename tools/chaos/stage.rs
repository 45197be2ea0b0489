//! What the faults are played on.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use end_to_end::client::Client;
use end_to_end::load::Tally;
use mongodb::bson::{Document, doc};
use tempfile::TempDir;
use testkit::{Prometheus, ReplicaSet, ReplicaSetOptions, Scrape, ScrapeJob, wait};
use txnscope_checks::Checks;

use crate::backend::{LIFETIME_LIMIT, TOKEN, URI};
use crate::bounds::Held;
use crate::daemon::{Daemon, built};
use crate::fault::Fault;
use crate::say;

/// How often the sidecar asks.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Dropping it ends every process.
pub(crate) struct Stage {
    pub(crate) set: ReplicaSet,
    pub(crate) backend: Daemon,
    pub(crate) sidecar: Daemon,
    pub(crate) prometheus: Prometheus,
    pub(crate) checks: Checks,
    /// Of the whole set, as anybody would have one.
    pub(crate) whole: mongodb::Client,
    /// Of each member, past the proxies.
    pub(crate) each: Vec<mongodb::Client>,
    /// What was asked of the ledger beside the load, and answered.
    pub(crate) beside: Tally,
    /// What was held after the first round.
    pub(crate) first: Option<Held>,
    _folder: TempDir,
}

impl Stage {
    pub(crate) async fn set() -> Result<Self> {
        let set = ReplicaSetOptions::new(3)
            .parameter("transactionLifetimeLimitSeconds", LIFETIME_LIMIT.as_secs())
            .proxied()
            // Long enough that a busy machine is no fault of its own.
            .election_timeout(Duration::from_secs(3))
            .start()
            .await?;
        let folder = tempfile::Builder::new().prefix("txnscope-chaos-").tempdir()?;
        // A panic's backtrace would be the largest thing that the ledger ever held.
        let environment = vec![(URI, set.uri()), ("RUST_BACKTRACE", "0".to_owned())];
        let itself = std::env::current_exe().context("where is this program?")?;
        let backend =
            Daemon::start("ledger", itself, vec!["backend".into()], environment.clone(), &folder).await?;
        let (file, checks) = frequent_checks(&folder)?;
        let arguments = vec![
            "serve".to_owned(),
            format!("--poll.interval={}ms", POLL_INTERVAL.as_millis()),
            format!("--collector.replication.interval={}ms", POLL_INTERVAL.as_millis()),
            format!("--collector.storage-engine.interval={}ms", 3 * POLL_INTERVAL.as_millis()),
            "--poll.timeout=1s".to_owned(),
            format!("--checks.file={}", file.display()),
        ];
        let sidecar = Daemon::start("txnscope", built("txnscope")?, arguments, environment, &folder).await?;
        let job = |name: &str, daemon: &Daemon| ScrapeJob {
            name: name.to_owned(),
            target: daemon.address().to_owned(),
        };
        let prometheus = Prometheus::start(&[job("ledger", &backend), job("txnscope", &sidecar)]).await?;
        let mut each = Vec::new();
        for member in set.members() {
            each.push(member.client().await?);
        }
        let whole = set.client_named("chaos").await?;
        // A transaction in which this would be made wants it to be there.
        whole.database("ledger").create_collection("chaos").await?;
        Ok(Self {
            set,
            backend,
            sidecar,
            prometheus,
            checks,
            whole,
            each,
            beside: Tally::new(),
            first: None,
            _folder: folder,
        })
    }

    /// Has the program whose clock is to be turned go by one of its own, and no other.
    pub(crate) async fn clocks(&mut self, fault: Fault) -> Result<()> {
        self.sidecar.go_by_own_clock(fault == Fault::TurnClock).await?;
        self.backend.go_by_own_clock(fault == Fault::TurnBackendClock).await
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.backend.url(), TOKEN)
    }

    /// The callers' books and the driver's.
    pub(crate) async fn ledger_page(&self) -> Result<Scrape> {
        Scrape::get(&self.backend.metrics_url()).await
    }

    /// What Prometheus would be told of the server.
    pub(crate) async fn sidecar_page(&self) -> Result<Scrape> {
        Scrape::get(&self.sidecar.metrics_url()).await
    }

    /// Has a member do something, past its proxy.
    pub(crate) async fn member(&self, index: usize, command: Document) -> Result<Document> {
        let address = self.set.members()[index].address();
        let reply = self.each[index].database("admin").run_command(command).await;
        reply.with_context(|| format!("the member {address}"))
    }

    /// The member that is primary, past its proxy.
    pub(crate) async fn primary(&self) -> Result<usize> {
        wait::until("a primary", async || {
            for index in 0..self.each.len() {
                let hello = self.member(index, doc! {"hello": 1}).await;
                if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                    return Ok(index);
                }
            }
            bail!("no member takes writes")
        })
        .await
    }

    /// Takes down how the ledger has answered somebody who is not of the load.
    pub(crate) fn note(&mut self, operation: &'static str, answer: impl Into<String>, times: u64) {
        *self.beside.entry((operation, answer.into())).or_default() += times;
    }

    /// The ends of our programs' logs, for whoever looks into a failure.
    pub(crate) fn show_logs(&self) {
        for (name, daemon) in [("ledger", &self.backend), ("txnscope", &self.sidecar)] {
            let log = daemon.log();
            let lines: Vec<_> = log.lines().collect();
            say(&format!("  the end of {name}'s log:"));
            for line in &lines[lines.len().saturating_sub(20)..] {
                say(&format!("    {line}"));
            }
        }
    }

    /// Ends everything in order.
    pub(crate) async fn strike(self) -> Result<()> {
        self.backend.stop().await?;
        self.sidecar.stop().await
    }
}

/// The ledger's own checks, so often that nobody has to wait.
fn frequent_checks(folder: &TempDir) -> Result<(std::path::PathBuf, Checks)> {
    let file = testkit::workspace().join("examples/ledger/checks.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let often = text.replace("interval = \"1m\"", "interval = \"2s\"");
    ensure!(often != text, "{} has another interval", file.display());
    let file = folder.path().join("checks.toml");
    std::fs::write(&file, &often)?;
    Ok((file, Checks::parse(&often)?))
}

/// A document's whole number.
pub(crate) fn number(document: &Document, field: &str) -> f64 {
    let value = document.get(field);
    let whole = value.and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from)));
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    whole.map_or(f64::NAN, |whole| whole as f64)
}

/// `serverStatus` of it, with little more than the transactions.
pub(crate) fn status() -> Document {
    doc! {"serverStatus": 1, "metrics": 0, "wiredTiger": 0, "tcmalloc": 0}
}
