//! `txnscope drill race`: concurrent conflicting requests to the same entity.
//!
//! Each scenario creates its own data, sends a burst of requests, and checks the responses and the data afterwards, all
//! through the API.

mod burst;
mod findings;
mod payments;
mod report;
mod retainers;
mod transfers;

use std::sync::Arc;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use rand::Rng;

use crate::args::exit_status::ExitStatus;
use crate::commands::drill::args::RaceArgs;
use crate::commands::drill::backend::Backend;
use crate::commands::drill::race::findings::Findings;
use crate::output::print;
use crate::runtime::signals::ShutdownSignals;

/// The scenarios, by their names in `--scenario`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Consume,
    ConsumeSome,
    ConsumeAndReplenish,
    ConsumeRepeated,
    Complete,
    CompleteInvoice,
    Transfer,
    TransferBothWays,
    Cancel,
}

impl Scenario {
    const ALL: [Self; 9] = [
        Self::Consume,
        Self::ConsumeSome,
        Self::ConsumeAndReplenish,
        Self::ConsumeRepeated,
        Self::Complete,
        Self::CompleteInvoice,
        Self::Transfer,
        Self::TransferBothWays,
        Self::Cancel,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::ConsumeSome => "consume-some",
            Self::ConsumeAndReplenish => "consume-and-replenish",
            Self::ConsumeRepeated => "consume-repeated",
            Self::Complete => "complete",
            Self::CompleteInvoice => "complete-invoice",
            Self::Transfer => "transfer",
            Self::TransferBothWays => "transfer-both-ways",
            Self::Cancel => "cancel",
        }
    }

    /// The invariant that the scenario checks.
    pub(crate) fn invariant(self, n: usize) -> String {
        match self {
            Self::Consume => format!("of {n} consumptions of 800 from a retainer with 1000, one succeeds"),
            Self::ConsumeSome => {
                format!("of {n} consumptions, exactly those succeed that the balance of the retainer covers")
            }
            Self::ConsumeAndReplenish => format!("{n} consumptions and {n} replenishments all count"),
            Self::ConsumeRepeated => format!("{n} consumptions with the same Idempotency-Key count once"),
            Self::Complete => format!("of {n} completions of a payment, one succeeds"),
            Self::CompleteInvoice => format!("of {n} payments of an invoice, one succeeds"),
            Self::Transfer => format!("of {n} transfers of 800 from an account with 1000, one succeeds"),
            Self::TransferBothWays => {
                format!("{n} transfers in each direction all count, and the sum of the balances is unchanged")
            }
            Self::Cancel => {
                format!("of {n} cancellations of a transfer, one succeeds, and the amount is refunded once")
            }
        }
    }

    /// Runs one round on new data.
    async fn run_round(self, env: &RaceEnvironment, round: u32, findings: &mut Findings) -> Result<()> {
        match self {
            Self::Consume => retainers::consume(env, findings).await,
            Self::ConsumeSome => retainers::consume_some(env, findings).await,
            Self::ConsumeAndReplenish => retainers::consume_and_replenish(env, findings).await,
            Self::ConsumeRepeated => retainers::consume_repeated(env, round, findings).await,
            Self::Complete => payments::complete(env, findings).await,
            Self::CompleteInvoice => payments::complete_invoice(env, round, findings).await,
            Self::Transfer => transfers::transfer(env, round, findings).await,
            Self::TransferBothWays => transfers::both_ways(env, round, findings).await,
            Self::Cancel => transfers::cancel(env, round, findings).await,
        }
    }
}

/// The values of `--scenario`.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(Scenario::ALL.map(Scenario::name))
}

/// The backend and the settings of a race test.
#[derive(Debug)]
pub(crate) struct RaceEnvironment {
    backend: Backend,
    /// The number of concurrent requests.
    n: usize,
    /// A mark in all data that this run creates.
    mark: String,
}

/// The report of one scenario over its rounds.
#[derive(Debug)]
pub(crate) struct ScenarioReport {
    scenario: Scenario,
    rounds: u32,
    findings: Findings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RaceResult {
    Passed,
    Failed,
    Inconclusive,
}

impl RaceResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// One failure makes the whole race fail, even if other results are inconclusive.
    fn worst(results: impl Iterator<Item = Self>) -> Self {
        results.fold(Self::Passed, |all, one| match (all, one) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Inconclusive, _) | (_, Self::Inconclusive) => Self::Inconclusive,
            (Self::Passed, Self::Passed) => Self::Passed,
        })
    }
}

impl ScenarioReport {
    fn result(&self) -> RaceResult {
        match (self.findings.violations.is_empty(), self.findings.uncertainties.is_empty()) {
            (false, _) => RaceResult::Failed,
            (true, false) => RaceResult::Inconclusive,
            (true, true) => RaceResult::Passed,
        }
    }
}

/// Runs the scenarios, prints the report, and returns the exit status.
///
/// # Errors
///
/// If the backend cannot be reached, or rejects the token.
pub(crate) async fn race(args: &RaceArgs) -> Result<ExitStatus> {
    let mut signals = ShutdownSignals::listen()?;
    let backend = Backend::new(&args.backend)?;
    backend.check_access().await?;
    let mark = format!("txnscope-drill-{:08x}", rand::rng().random::<u32>());
    let n = usize::try_from(args.concurrency)?;
    let env = Arc::new(RaceEnvironment { backend, n, mark });
    let wanted = |scenario: &Scenario| {
        args.scenario.is_empty() || args.scenario.iter().any(|name| name == scenario.name())
    };
    let mut reports = Vec::new();
    let mut stopped = None;
    let stop = async {
        tokio::select! {
            _ = signals.next() => "it was interrupted",
            () = tokio::time::sleep(args.deadline) => "the time limit was reached (--deadline)",
        }
    };
    tokio::pin!(stop);
    for scenario in Scenario::ALL.into_iter().filter(wanted) {
        let mut report = ScenarioReport { scenario, rounds: 0, findings: Findings::default() };
        for round in 1..=args.rounds {
            if let Some(why) = stopped {
                report.findings.add_uncertainty(format!("round {round} and later were not run: {why}"));
                break;
            }
            let mut found = Findings::default();
            let ran = tokio::select! {
                ran = scenario.run_round(&env, round, &mut found) => ran,
                why = &mut stop => {
                    stopped = Some(why);
                    Err(anyhow::anyhow!("the round was stopped: {why}"))
                }
            };
            if let Err(error) = ran {
                found.add_uncertainty(format!("{error:#}"));
            }
            report.add_round(round, found);
        }
        reports.push(report);
    }
    let result = RaceResult::worst(reports.iter().map(ScenarioReport::result));
    print(&report::render(args, &env, &reports, result))?;
    Ok(match result {
        RaceResult::Passed => ExitStatus::Success,
        RaceResult::Failed => ExitStatus::Failure,
        RaceResult::Inconclusive => ExitStatus::Error,
    })
}

impl ScenarioReport {
    fn add_round(&mut self, round: u32, found: Findings) {
        let Findings { replies, violations, uncertainties } = found;
        self.rounds = round;
        for (kind, count) in replies.0 {
            *self.findings.replies.0.entry(kind).or_default() += count;
        }
        self.findings
            .violations
            .extend(violations.into_iter().map(|violation| format!("round {round}: {violation}")));
        self.findings
            .uncertainties
            .extend(uncertainties.into_iter().map(|uncertainty| format!("round {round}: {uncertainty}")));
    }
}
