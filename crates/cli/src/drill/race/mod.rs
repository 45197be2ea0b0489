//! `txnscope drill race`: many at once on the same money.
//!
//! Each scenario makes its own data, fires a volley of requests at it, and judges what was answered and what is
//! there afterwards, all of it through the API.

mod judge;
mod payments;
mod report;
mod retainers;
mod transfers;
mod volley;

use std::sync::Arc;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use rand::Rng;

use crate::drill::backend::Backend;
use crate::drill::flags::RaceFlags;
use crate::drill::race::judge::Findings;
use crate::drill::stop::Signals;
use crate::drill::{BROKEN, PROVEN, UNKNOWN};
use crate::print;

/// What is raced for. The names are those of `--scenario`.
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

    /// What must hold, for a person who reads that it does not.
    pub(crate) fn about(self, n: usize) -> String {
        match self {
            Self::Consume => format!("of {n} consumptions of 800 from a retainer with 1000, one succeeds"),
            Self::ConsumeSome => format!("of {n} consumptions, as many succeed as the retainer can pay"),
            Self::ConsumeAndReplenish => format!("{n} consumptions and {n} replenishments all count"),
            Self::ConsumeRepeated => format!("{n} consumptions with one Idempotency-Key are one"),
            Self::Complete => format!("of {n} completions of a payment, one succeeds"),
            Self::CompleteInvoice => format!("of {n} payments of an invoice, one is completed"),
            Self::Transfer => format!("of {n} transfers of 800 from an account with 1000, one succeeds"),
            Self::TransferBothWays => {
                format!("{n} transfers there and {n} back all count, and no money is made or lost")
            }
            Self::Cancel => {
                format!("of {n} cancellations of a transfer, one succeeds, and the money goes back once")
            }
        }
    }

    /// One round on new data.
    async fn round(self, stage: &Stage, round: u32, findings: &mut Findings) -> Result<()> {
        match self {
            Self::Consume => retainers::consume(stage, findings).await,
            Self::ConsumeSome => retainers::consume_some(stage, findings).await,
            Self::ConsumeAndReplenish => retainers::consume_and_replenish(stage, findings).await,
            Self::ConsumeRepeated => retainers::consume_repeated(stage, round, findings).await,
            Self::Complete => payments::complete(stage, findings).await,
            Self::CompleteInvoice => payments::complete_invoice(stage, round, findings).await,
            Self::Transfer => transfers::transfer(stage, round, findings).await,
            Self::TransferBothWays => transfers::both_ways(stage, round, findings).await,
            Self::Cancel => transfers::cancel(stage, round, findings).await,
        }
    }
}

/// What `--scenario` takes.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(Scenario::ALL.map(Scenario::name))
}

/// Where rounds are run.
#[derive(Debug)]
pub(crate) struct Stage {
    backend: Backend,
    /// How many race.
    n: usize,
    /// Marks what this run makes.
    mark: String,
}

/// What is known of a scenario when the race is over.
#[derive(Debug)]
pub(crate) struct Outcome {
    scenario: Scenario,
    rounds: u32,
    findings: Findings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Proven,
    Broken,
    Unknown,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
        }
    }

    /// What is broken is certain, whatever else is not known.
    fn of(verdicts: impl Iterator<Item = Self>) -> Self {
        verdicts.fold(Self::Proven, |all, one| match (all, one) {
            (Self::Broken, _) | (_, Self::Broken) => Self::Broken,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Proven, Self::Proven) => Self::Proven,
        })
    }
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        match (self.findings.faults.is_empty(), self.findings.doubts.is_empty()) {
            (false, _) => Verdict::Broken,
            (true, false) => Verdict::Unknown,
            (true, true) => Verdict::Proven,
        }
    }
}

/// Runs the scenarios, prints what they have shown, and returns the exit status.
///
/// # Errors
///
/// If there is no such backend, or it does not take our token.
pub(crate) async fn race(flags: &RaceFlags) -> Result<u8> {
    let mut signals = Signals::listen()?;
    let backend = Backend::new(&flags.backend)?;
    backend.greet().await?;
    let mark = format!("txnscope-drill-{:08x}", rand::rng().random::<u32>());
    let n = usize::try_from(flags.concurrency)?;
    let stage = Arc::new(Stage { backend, n, mark });
    let wanted = |scenario: &Scenario| {
        flags.scenario.is_empty() || flags.scenario.iter().any(|name| name == scenario.name())
    };
    let mut results = Vec::new();
    let mut stopped = None;
    let stop = signals.next_within(flags.deadline);
    tokio::pin!(stop);
    for scenario in Scenario::ALL.into_iter().filter(wanted) {
        let mut result = Outcome { scenario, rounds: 0, findings: Findings::default() };
        for round in 1..=flags.rounds {
            if let Some(why) = stopped {
                result.findings.doubt(format!("round {round} and later were not run: {why}"));
                break;
            }
            let mut found = Findings::default();
            let ran = tokio::select! {
                ran = scenario.round(&stage, round, &mut found) => ran,
                why = &mut stop => {
                    stopped = Some(why);
                    Err(anyhow::anyhow!("it was given up: {why}"))
                }
            };
            if let Err(error) = ran {
                found.doubt(format!("{error:#}"));
            }
            result.take(round, found);
        }
        results.push(result);
    }
    let verdict = Verdict::of(results.iter().map(Outcome::verdict));
    print(&report::render(flags, &stage, &results, verdict))?;
    Ok(match verdict {
        Verdict::Proven => PROVEN,
        Verdict::Broken => BROKEN,
        Verdict::Unknown => UNKNOWN,
    })
}

impl Outcome {
    fn take(&mut self, round: u32, found: Findings) {
        let Findings { tally, faults, doubts } = found;
        self.rounds = round;
        for (said, count) in tally.0 {
            *self.findings.tally.0.entry(said).or_default() += count;
        }
        self.findings.faults.extend(faults.into_iter().map(|fault| format!("round {round}: {fault}")));
        self.findings.doubts.extend(doubts.into_iter().map(|doubt| format!("round {round}: {doubt}")));
    }
}
