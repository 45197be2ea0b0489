//! `txnscope verify`: after a deployment, go or no-go.
//!
//! | file | what |
//! | --- | --- |
//! | `books` | what Prometheus has of each operation, before and after |
//! | `judge` | whether that is worse, on counts alone |
//! | `report` | the success criteria, each with its verdict and its evidence |
//! | `output` | how that is told |

mod books;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod output;
mod report;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ArgMatches;
use mongodb::Client;
use tokio::time::Instant;
use txnscope_catalog::escape_text;
use txnscope_checks::{Checks, SampleOptions, run as run_check};

pub(crate) use flags::VerifyFlags;

use crate::file::File;
use crate::services::prometheus::Prometheus;
use crate::verify::books::{Books, Span};
use crate::verify::flags::now;
use crate::verify::report::{Audit, Report, Verdict};
use crate::{FAILURE, MISUSE, checks, complain, print, span};
use txnscope_rollout::Limits;
use txnscope_rollout::{alpha_spent, interim_analyses};

/// It cannot be said: its own exit status, since a pipeline may treat it as it likes.
const INCONCLUSIVE: u8 = 3;
/// Of a shorter window, Prometheus has no two samples.
const SHORTEST: f64 = 30.0;
const LEAST_BASELINE: f64 = 3_600.0;

pub(crate) fn run(flags: &VerifyFlags, matches: &ArgMatches) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = async {
        let plan = Plan::new(flags, matches).await?;
        let report = plan.analyze().await?;
        print(&output::render(flags.output, &report))?;
        Ok(match report.verdict() {
            Verdict::Go => 0,
            Verdict::NoGo => FAILURE,
            Verdict::Inconclusive | Verdict::Unasked => INCONCLUSIVE,
        })
    };
    match runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(work)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error, MISUSE),
    }
}

/// What is to be judged, and how.
struct Plan<'a> {
    flags: &'a VerifyFlags,
    prometheus: Prometheus,
    data: Option<(Client, Checks)>,
    since: f64,
    until: Option<f64>,
}

impl<'a> Plan<'a> {
    async fn new(flags: &'a VerifyFlags, matches: &ArgMatches) -> Result<Self> {
        let prometheus = Prometheus::new(&flags.prometheus, matches, flags.timeout)?;
        let prometheus = prometheus.context("where is Prometheus? Give --prometheus.url=http://host:9090")?;
        let file = File::named(flags.config_file.as_deref())?;
        let data = match checks::named(flags.checks.as_deref(), &file, "\n  ")? {
            Some(checks) => Some((checks::client(flags.deployment.clone(), &file, matches).await?, checks)),
            None => None,
        };
        let now = now();
        let (since, until) = (flags.since.seconds(now), flags.until.map(|until| until.seconds(now)));
        ensure!(since < now, "--since is in the future: say when the deployment was");
        if let Some(until) = until {
            ensure!(until <= now + 1.0, "--until is in the future: to watch for a while, say --wait=30m");
            ensure!(until - since >= SHORTEST, "--until must be at least {SHORTEST} s after --since");
        }
        if flags.wait.is_none() && now - since < SHORTEST {
            bail!(
                "the deployment was less than {SHORTEST} s ago: say --wait=30m to watch what becomes of it"
            );
        }
        Ok(Self { flags, prometheus, data, since, until })
    }

    fn spans(&self) -> (Span, Span) {
        let after = Span { start: self.since, end: self.until.unwrap_or_else(now) };
        let baseline = self.flags.baseline.map(|baseline| baseline.as_secs_f64());
        let baseline = baseline.unwrap_or_else(|| after.seconds().max(LEAST_BASELINE));
        (Span { start: self.since - baseline, end: self.since }, after)
    }

    /// A selector that matches nothing is mistyped: what there is helps.
    ///
    /// # Errors
    ///
    /// If nothing that could be judged has these labels, in all of the time.
    async fn has_series(&self) -> Result<()> {
        let (before, after) = self.spans();
        let whole = Span { start: before.start, end: after.end };
        match books::choices(&self.prometheus, &self.flags.selector, whole).await {
            // It is asked again, and that answer counts.
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(choices)) => bail!("no series has {}: {choices}", self.flags.selector),
        }
    }

    /// Looks once, or again and again until the time is over or it is certainly a no-go.
    async fn analyze(&self) -> Result<Report> {
        let flags = self.flags;
        self.has_series().await?;
        let Some(wait) = flags.wait else {
            let audit = self.audit().await;
            return self.look(flags.alpha, audit.as_ref()).await;
        };
        let (began, looks) = (Instant::now(), interim_analyses(wait, flags.every));
        let mut audit = None;
        let mut looked = 0;
        loop {
            tokio::time::sleep_until(began + wait.min(flags.every * looked)).await;
            looked += 1;
            let (first, last) = (looked == 1, looked >= looks);
            // What is wrong at the beginning is known at once; what becomes wrong, in the end.
            if first || last {
                audit = self.audit().await;
            }
            let report = self.look(alpha_spent(flags.alpha, looks, last), audit.as_ref()).await;
            let left = wait.saturating_sub(began.elapsed());
            match report {
                Ok(report) if last || report.verdict() == Verdict::NoGo => return Ok(report),
                Ok(report) => say(left, report.verdict()),
                Err(error) if last => return Err(error),
                // Prometheus may be restarted meanwhile.
                Err(error) => {
                    let said = escape_text(&format!("{error:#}")).into_owned();
                    let _ = writeln!(io::stderr().lock(), "txnscope: {said}; looking again");
                }
            }
        }
    }

    async fn look(&self, alpha: f64, audit: Option<&Audit>) -> Result<Report> {
        let flags = self.flags;
        let (before, after) = self.spans();
        // Right after the deployment there is nothing to read yet.
        let books = if after.seconds() < SHORTEST {
            Books::default()
        } else {
            let read = books::read(&self.prometheus, &flags.selector, before, after).await;
            read.map_err(|trouble| anyhow!("{}: {trouble}", self.prometheus.0.shown()))?
        };
        let limits = Limits {
            failures: flags.failure_rise,
            latency: flags.latency_ratio,
            conflicts: flags.conflict_rise,
            alpha,
        };
        Ok(report::report((before, after), &books, &limits, audit))
    }

    /// One check after the other: it is no load test.
    async fn audit(&self) -> Option<Audit> {
        let (client, checks) = self.data.as_ref()?;
        let mut audit = Audit::new();
        for check in checks.iter() {
            audit.push((check.clone(), run_check(client, check, SampleOptions::NONE).await));
        }
        Some(audit)
    }
}

/// For whoever watches, or reads the pipeline's log.
fn say(left: Duration, verdict: Verdict) {
    let sofar = match verdict {
        Verdict::Go => "as before",
        Verdict::Inconclusive | Verdict::Unasked | Verdict::NoGo => "not enough traffic yet",
    };
    let _ = writeln!(
        io::stderr().lock(),
        "txnscope: {sofar}; {} left",
        span::shown(Duration::from_secs(left.as_secs()))
    );
}
