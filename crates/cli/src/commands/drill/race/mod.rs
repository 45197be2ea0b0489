//! `txnscope drill race`: concurrent conflicting requests to the same entity.
//!
//! Each scenario of the file creates its own data, sends a burst of requests, and checks the responses and the data
//! afterwards, all through the API.

mod afterwards;
mod burst;
mod findings;
mod report;
mod round;

use anyhow::{Result, anyhow};
use rand::Rng;

use crate::args::exit_status::ExitStatus;
use crate::commands::drill::args::RaceArgs;
use crate::commands::drill::backend::Backend;
use crate::commands::drill::race::findings::Findings;
use crate::commands::drill::race::round::RoundEnd;
use crate::commands::drill::scenario::file::{Race, ScenarioFile};
use crate::output::print;
use crate::runtime::signals::ShutdownSignals;

/// The backend and the settings of a race test.
#[derive(Debug)]
pub(crate) struct RaceEnvironment {
    backend: Backend,
    /// The number of concurrent requests.
    n: usize,
    /// A mark in all data that this run creates.
    mark: String,
    /// A path whose GET changes nothing.
    probe: String,
    /// Where an error response has its message.
    error: String,
    /// The most decimals that an amount may have.
    decimals: usize,
}

/// The report of one scenario over its rounds.
#[derive(Debug)]
pub(crate) struct ScenarioReport {
    name: String,
    invariant: String,
    rounds: u32,
    findings: Findings,
    /// Why the backend does not offer the scenario.
    not_offered: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RaceResult {
    Passed,
    Failed,
    Inconclusive,
    /// The backend does not have a route of the scenario.
    NotOffered,
}

impl RaceResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::NotOffered => "not offered",
        }
    }

    /// One failure makes the whole race fail, even if other results are inconclusive. A scenario that is not offered does
    /// not change the result of the others.
    fn worst(results: impl Iterator<Item = Self>) -> Self {
        results.fold(Self::NotOffered, |all, one| match (all, one) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Inconclusive, _) | (_, Self::Inconclusive) => Self::Inconclusive,
            (Self::Passed, _) | (_, Self::Passed) => Self::Passed,
            (Self::NotOffered, Self::NotOffered) => Self::NotOffered,
        })
    }
}

/// Runs the scenarios, prints the report, and returns the exit status.
///
/// # Errors
///
/// If the scenario file is invalid, or the backend cannot be reached, or rejects the token.
pub(crate) async fn race(args: &RaceArgs) -> Result<ExitStatus> {
    let mut signals = ShutdownSignals::listen()?;
    let file = ScenarioFile::load(args.scenarios.file.as_deref())?;
    let n = usize::try_from(args.concurrency)?;
    let races = file.select(&args.scenario)?;
    let reports = races.iter().map(|race| ScenarioReport::new(race, n)).collect::<Result<Vec<_>>>()?;
    let backend = Backend::new(&args.backend)?;
    let settings = &file.backend;
    backend.check_access(settings.probe.get_ref(), &settings.probe_status).await?;
    let env = RaceEnvironment {
        backend,
        n,
        mark: format!("txnscope-drill-{:08x}", rand::rng().random::<u32>()),
        probe: settings.probe.get_ref().clone(),
        error: settings.error.0.clone(),
        decimals: *settings.decimals.get_ref(),
    };
    let stop = async {
        tokio::select! {
            _ = signals.next() => "it was interrupted",
            () = tokio::time::sleep(args.deadline) => "the time limit was reached (--deadline)",
        }
    };
    let reports = run_all(&env, races.into_iter().zip(reports), args.rounds, stop).await;
    let result = RaceResult::worst(reports.iter().map(ScenarioReport::result));
    print(&report::render(args, &env, &reports, result))?;
    Ok(match result {
        RaceResult::Passed => ExitStatus::Success,
        RaceResult::Failed => ExitStatus::Failure,
        RaceResult::Inconclusive | RaceResult::NotOffered => ExitStatus::Error,
    })
}

/// Runs the rounds of all scenarios, until `stop` is ready with a reason.
async fn run_all(
    env: &RaceEnvironment,
    races: impl Iterator<Item = (&Race, ScenarioReport)>,
    rounds: u32,
    stop: impl Future<Output = &'static str>,
) -> Vec<ScenarioReport> {
    let mut reports = Vec::new();
    let mut stopped = None;
    tokio::pin!(stop);
    for (race, mut report) in races {
        for round in 1..=rounds {
            if let Some(why) = stopped {
                report.findings.add_uncertainty(format!("round {round} and later were not run: {why}"));
                break;
            }
            let mut found = Findings::default();
            let ran = tokio::select! {
                ran = round::run(env, race, round, &mut found) => ran,
                why = &mut stop => {
                    stopped = Some(why);
                    Err(anyhow!("the round was stopped: {why}"))
                }
            };
            match ran {
                Ok(RoundEnd::Completed) => {}
                Ok(RoundEnd::NotOffered(reason)) if round == 1 => {
                    report.not_offered = Some(reason);
                    break;
                }
                // An earlier round had the route.
                Ok(RoundEnd::NotOffered(reason)) => found.add_uncertainty(reason),
                Err(error) => found.add_uncertainty(format!("{error:#}")),
            }
            report.add_round(round, found);
        }
        reports.push(report);
    }
    reports
}

impl ScenarioReport {
    /// # Errors
    ///
    /// If the numbers of the scenario cannot be computed.
    fn new(race: &Race, n: usize) -> Result<Self> {
        let name = race.name.get_ref().clone();
        let invariant =
            round::numbers(race, n).and_then(|numbers| race.invariant.get_ref().render(&numbers, 0));
        let invariant = invariant.map_err(|error| anyhow!("the scenario {name}: {error}"))?;
        Ok(Self { name, invariant, rounds: 0, findings: Findings::default(), not_offered: None })
    }

    fn result(&self) -> RaceResult {
        match (self.findings.violations.is_empty(), self.findings.uncertainties.is_empty()) {
            _ if self.not_offered.is_some() => RaceResult::NotOffered,
            (false, _) => RaceResult::Failed,
            (true, false) => RaceResult::Inconclusive,
            (true, true) => RaceResult::Passed,
        }
    }

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A scenario with more lines.
    pub(super) fn scenario(lines: &str) -> Race {
        let text = format!(
            "[backend]\nprobe = \"/\"\n[[race]]\nname = \"a\"\ninvariant = \"b\"\nsucceed = 1\n{lines}\n[[race.burst]]\npath = \"/\""
        );
        ScenarioFile::parse(Path::new("scenarios.toml"), &text).unwrap().race.remove(0)
    }

    #[test]
    fn scenarios_that_are_not_offered_do_not_change_the_result() {
        use RaceResult::{Failed, Inconclusive, NotOffered, Passed};
        for (results, expected) in [
            (&[NotOffered, NotOffered][..], NotOffered),
            (&[NotOffered, Passed], Passed),
            (&[Passed, NotOffered, Inconclusive], Inconclusive),
            (&[Inconclusive, Failed, NotOffered], Failed),
        ] {
            assert_eq!(RaceResult::worst(results.iter().copied()), expected, "{results:?}");
        }
    }
}
