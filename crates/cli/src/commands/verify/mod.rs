//! `txnscope verify`: compares metrics before and after a deployment, and decides: go or no-go.
//!
//! | module | contents |
//! | --- | --- |
//! | `traffic` | the counts of each operation in Prometheus, before and after |
//! | `aggregation` | the aggregation of query results |
//! | `report` | the decision about the rollout |
//! | `criteria` | the success criteria, each with its decision and its evidence |
//! | `output` | the report as a table, as JSON and as Markdown |

mod aggregation;
mod args;
mod criteria;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod malformed_input;
mod output;
mod report;
mod traffic;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ArgMatches;
use mongodb::Client;
use tokio::time::Instant;
use txnscope_checks::{Checks, SampleOptions, run as run_check};
use txnscope_rollout::{Limits, alpha_spent, interim_analyses};

pub(crate) use self::args::VerifyArgs;

use crate::args::duration::format_duration;
use crate::args::exit_status::ExitStatus;
use crate::client::mongodb::connect;
use crate::client::services::prometheus::Prometheus;
use crate::commands::verify::args::now;
use crate::commands::verify::report::{Audit, Decision, Report};
use crate::commands::verify::traffic::{TimeRange, TrafficCounts};
use crate::config::checks::load_checks;
use crate::config::file::ConfigFile;
use crate::output::{print, print_warning, report_result};
use crate::runtime::block_on;

/// The minimum length of a window, in seconds. A shorter one does not hold two samples.
const MIN_WINDOW: f64 = 30.0;
/// The minimum length of the baseline, in seconds.
const MIN_BASELINE: f64 = 3_600.0;

pub(crate) fn run(args: &VerifyArgs, matches: &ArgMatches) -> ExitStatus {
    report_result(block_on(verify(args, matches)))
}

async fn verify(args: &VerifyArgs, matches: &ArgMatches) -> Result<ExitStatus> {
    let analysis = RolloutAnalysis::new(args, matches).await?;
    let report = analysis.run().await?;
    print(&output::render(args.output, &report))?;
    Ok(match report.decision() {
        Decision::Go => ExitStatus::Success,
        Decision::NoGo => ExitStatus::Failure,
        Decision::Inconclusive | Decision::Skipped => ExitStatus::Inconclusive,
    })
}

/// The sources of a rollout analysis, and its window.
struct RolloutAnalysis<'a> {
    args: &'a VerifyArgs,
    prometheus: Prometheus,
    data: Option<(Client, Checks)>,
    deployed_at: f64,
    until: Option<f64>,
}

impl<'a> RolloutAnalysis<'a> {
    async fn new(args: &'a VerifyArgs, matches: &ArgMatches) -> Result<Self> {
        let prometheus = Prometheus::new(&args.prometheus, matches, args.timeout)?;
        let prometheus =
            prometheus.context("no Prometheus configured: give --prometheus.url=http://host:9090")?;
        let config = ConfigFile::load(args.config.file.as_deref())?;
        let data = match load_checks(&args.checks, &config, "\n  ")? {
            Some(checks) => Some((connect(args.mongodb.clone(), &config, matches).await?, checks)),
            None => None,
        };
        let now = now();
        let deployed_at = args.deployed_at.seconds(now);
        let until = args.until.map(|until| until.seconds(now));
        ensure!(deployed_at < now, "--deployed-at is in the future: give the time of the deployment");
        if let Some(until) = until {
            ensure!(until <= now + 1.0, "--until is in the future: to wait for more data, give --wait=30m");
            ensure!(
                until - deployed_at >= MIN_WINDOW,
                "--until must be at least {MIN_WINDOW} s after --deployed-at"
            );
        }
        if args.wait.is_none() && now - deployed_at < MIN_WINDOW {
            bail!("the deployment was less than {MIN_WINDOW} s ago: give --wait=30m to wait for data");
        }
        Ok(Self { args, prometheus, data, deployed_at, until })
    }

    fn windows(&self) -> (TimeRange, TimeRange) {
        let after = TimeRange { start: self.deployed_at, end: self.until.unwrap_or_else(now) };
        let baseline = self.args.baseline.map(|baseline| baseline.as_secs_f64());
        let baseline = baseline.unwrap_or_else(|| after.seconds().max(MIN_BASELINE));
        (TimeRange { start: self.deployed_at - baseline, end: self.deployed_at }, after)
    }

    /// Rejects a selector that matches nothing, and lists the values of its labels.
    ///
    /// # Errors
    ///
    /// If no series that can be compared has these labels, before or after the deployment.
    async fn check_selector(&self) -> Result<()> {
        let (before, after) = self.windows();
        let whole = TimeRange { start: before.start, end: after.end };
        match traffic::label_choices(&self.prometheus, &self.args.selector, whole).await {
            // The queries of the analysis report the error.
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(choices)) => bail!("no series matches {}: {choices}", self.args.selector),
        }
    }

    /// Analyzes once, or at each interval until the time is over or the decision is a certain no-go.
    async fn run(&self) -> Result<Report> {
        let args = self.args;
        self.check_selector().await?;
        let Some(wait) = args.wait else {
            let audit = self.audit().await;
            return self.analyze(args.alpha, audit.as_ref()).await;
        };
        let (began, analyses) = (Instant::now(), interim_analyses(wait, args.interval));
        let mut audit = None;
        let mut analyzed = 0;
        loop {
            tokio::time::sleep_until(began + wait.min(args.interval * analyzed)).await;
            analyzed += 1;
            let (first, last) = (analyzed == 1, analyzed >= analyses);
            // The first audit finds violations early, the last one finds those of the new version.
            if first || last {
                audit = self.audit().await;
            }
            let report = self.analyze(alpha_spent(args.alpha, analyses, last), audit.as_ref()).await;
            let left = wait.saturating_sub(began.elapsed());
            match report {
                Ok(report) if last || report.decision() == Decision::NoGo => return Ok(report),
                Ok(report) => print_progress(left, report.decision()),
                Err(error) if last => return Err(error),
                // Prometheus may be restarting.
                Err(error) => print_warning(&format!("{error:#}; retrying")),
            }
        }
    }

    async fn analyze(&self, alpha: f64, audit: Option<&Audit>) -> Result<Report> {
        let args = self.args;
        let (before, after) = self.windows();
        // Right after the deployment there is no data yet.
        let counts = if after.seconds() < MIN_WINDOW {
            TrafficCounts::default()
        } else {
            let counts = traffic::read(&self.prometheus, &args.selector, before, after).await;
            counts.map_err(|error| anyhow!("{}: {error}", self.prometheus.0.display_address()))?
        };
        let limits = Limits {
            failures: args.failure_rise,
            latency: args.latency_ratio,
            conflicts: args.conflict_rise,
            alpha,
        };
        Ok(report::report((before, after), &counts, &limits, audit))
    }

    /// Runs the checks one after the other, to keep the load on the deployment low.
    async fn audit(&self) -> Option<Audit> {
        let (client, checks) = self.data.as_ref()?;
        let mut audit = Audit::new();
        for check in checks.iter() {
            audit.push((check.clone(), run_check(client, check, SampleOptions::NONE).await));
        }
        Some(audit)
    }
}

/// Prints the interim result for a user on a terminal, or the log of a pipeline.
fn print_progress(left: Duration, decision: Decision) {
    let interim = match decision {
        Decision::Go => "not worse so far",
        Decision::Inconclusive | Decision::Skipped | Decision::NoGo => "not enough traffic yet",
    };
    print_warning(&format!("{interim}; {} left", format_duration(Duration::from_secs(left.as_secs()))));
}
