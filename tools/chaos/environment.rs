//! The environment of fault injection.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use end_to_end::client::Client;
use end_to_end::load::Responses;
use mongodb::bson::{Document, doc};
use tempfile::TempDir;
use testkit::{Prometheus, ReplicaSet, ReplicaSetOptions, Scrape, ScrapeJob, wait};
use txnscope_checks::Checks;

use crate::backend::{LIFETIME_LIMIT, TOKEN, URI};
use crate::daemon::{Daemon, built};
use crate::fault::Fault;
use crate::resource_limits::ResourceUsage;
use crate::say;

/// The poll interval of the sidecar.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The servers and programs. Dropping it ends every process.
pub(crate) struct Environment {
    pub(crate) set: ReplicaSet,
    pub(crate) backend: Daemon,
    pub(crate) sidecar: Daemon,
    pub(crate) prometheus: Prometheus,
    pub(crate) checks: Checks,
    /// A client of the whole set.
    pub(crate) whole: mongodb::Client,
    /// Clients of each member, bypassing the proxies.
    pub(crate) each: Vec<mongodb::Client>,
    /// The responses to requests outside of the load.
    pub(crate) other_responses: Responses,
    /// The resource usage after the first round.
    pub(crate) first: Option<ResourceUsage>,
    _folder: TempDir,
}

impl Environment {
    pub(crate) async fn set() -> Result<Self> {
        let set = ReplicaSetOptions::new(3)
            .parameter("transactionLifetimeLimitSeconds", LIFETIME_LIMIT.as_secs())
            .proxied()
            // Long enough that a busy machine does not cause an election.
            .election_timeout(Duration::from_secs(3))
            .start()
            .await?;
        let folder = tempfile::Builder::new().prefix("txnscope-chaos-").tempdir()?;
        // The backtrace of a panic would dominate the ledger's memory.
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
        // A transaction cannot create the collection without conflicts.
        whole.database("ledger").create_collection("chaos").await?;
        Ok(Self {
            set,
            backend,
            sidecar,
            prometheus,
            checks,
            whole,
            each,
            other_responses: Responses::new(),
            first: None,
            _folder: folder,
        })
    }

    /// Makes the program whose clock is changed use its own clock, and all others the machine's.
    pub(crate) async fn clocks(&mut self, fault: Fault) -> Result<()> {
        self.sidecar.go_by_own_clock(fault == Fault::TurnClock).await?;
        self.backend.go_by_own_clock(fault == Fault::TurnBackendClock).await
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.backend.url(), TOKEN)
    }

    /// The counters of the callers and the driver.
    pub(crate) async fn ledger_page(&self) -> Result<Scrape> {
        Scrape::get(&self.backend.metrics_url()).await
    }

    /// The sidecar's metrics.
    pub(crate) async fn sidecar_page(&self) -> Result<Scrape> {
        Scrape::get(&self.sidecar.metrics_url()).await
    }

    /// Runs a command on a member, bypassing its proxy.
    pub(crate) async fn member(&self, index: usize, command: Document) -> Result<Document> {
        let address = self.set.members()[index].address();
        let reply = self.each[index].database("admin").run_command(command).await;
        reply.with_context(|| format!("the member {address}"))
    }

    /// The primary, bypassing its proxy.
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

    /// Records the response to a request outside of the load.
    pub(crate) fn record_response(&mut self, operation: &'static str, answer: impl Into<String>, times: u64) {
        *self.other_responses.entry((operation, answer.into())).or_default() += times;
    }

    /// Prints the ends of the programs' logs, to analyze a failure.
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

    /// Shuts everything down in order.
    pub(crate) async fn shut_down(self) -> Result<()> {
        self.backend.stop().await?;
        self.sidecar.stop().await
    }
}

/// The ledger's own checks with short intervals.
fn frequent_checks(folder: &TempDir) -> Result<(std::path::PathBuf, Checks)> {
    let file = testkit::workspace().join("examples/ledger/checks.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let often = text.replace("interval = \"1m\"", "interval = \"2s\"");
    ensure!(often != text, "{} has another interval", file.display());
    let file = folder.path().join("checks.toml");
    std::fs::write(&file, &often)?;
    Ok((file, Checks::parse(&often)?))
}

/// A whole number in a document.
pub(crate) fn number(document: &Document, field: &str) -> f64 {
    let value = document.get(field);
    let whole = value.and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from)));
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    whole.map_or(f64::NAN, |whole| whole as f64)
}

/// `serverStatus` with little more than the section `transactions`.
pub(crate) fn status() -> Document {
    doc! {"serverStatus": 1, "metrics": 0, "wiredTiger": 0, "tcmalloc": 0}
}
