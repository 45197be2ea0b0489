//! The findings of a round: the replies and the data afterwards must agree with each other and with the invariant.

use crate::commands::drill::backend::describe;
use crate::commands::drill::race::burst::{Burst, Count, Outcome, ReplyCounts, Watched, outcome};
use crate::commands::drill::scenario::expression::Expression;
use crate::commands::drill::scenario::file::Race;
use crate::commands::drill::scenario::number::{MAX_DECIMALS, Number};
use crate::commands::drill::scenario::variables::Variables;

/// The maximum number of combinations of outcomes that are tried.
const MAX_COMBINATIONS: usize = 1_000_000;

/// The findings of one round, or of several.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) replies: ReplyCounts,
    /// Violations of the invariant.
    pub(crate) violations: Vec<String>,
    /// Reasons why the result is inconclusive.
    pub(crate) uncertainties: Vec<String>,
}

/// A number of successes that the responses bound: some requests may have taken effect without one.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(crate) count: Count,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equals,
    AtLeast,
    AtMost,
}

impl Comparison {
    fn holds(self, actual: Number, expected: Number) -> bool {
        match self {
            Self::Equals => actual == expected,
            Self::AtLeast => actual >= expected,
            Self::AtMost => actual <= expected,
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Equals => "must be",
            Self::AtLeast => "must be at least",
            Self::AtMost => "must be at most",
        }
    }
}

impl Findings {
    pub(crate) fn add_violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn add_uncertainty(&mut self, what: impl Into<String>) {
        self.uncertainties.push(what.into());
    }

    /// Records the replies, and asserts what holds for every burst: each request succeeds or is rejected as declared, and
    /// no watched number falls below its limit.
    pub(crate) fn record_burst(
        &mut self,
        burst: &Burst,
        race: &Race,
        watched: &[Watched],
        error: &str,
    ) -> Count {
        self.replies.add(burst.replies.iter().map(|(_, reply)| reply), error);
        let count = burst.count(race, None);
        if count.failed > 0 {
            let mut replies = burst.replies.iter().map(|(_, reply)| reply);
            let example = replies.find(|reply| outcome(race, reply) == Outcome::Failed);
            let example = example.map(|reply| describe(reply, error)).unwrap_or_default();
            self.add_violation(format!("{} neither succeeded nor were rejected: {example}", count.failed));
        }
        for (Watched { path, pointer, at_least }, lowest) in watched.iter().zip(&burst.below) {
            if let Some(lowest) = lowest {
                let what = format!("during the burst a reader saw {lowest} at {pointer} of GET {path}");
                self.add_violation(format!("{what}, which must be at least {at_least}"));
            }
        }
        count
    }

    /// Asserts that no successful response has a number below a limit.
    pub(crate) fn assert_responses(&mut self, burst: &Burst, race: &Race, pointer: &str, at_least: Number) {
        let values = burst.successes(&race.success_status);
        let values = values.filter_map(|body| Number::from_json(body.pointer(pointer)?, MAX_DECIMALS).ok());
        if let Some(lowest) = values.min().filter(|lowest| *lowest < at_least) {
            self.add_violation(format!(
                "a response has {lowest} at {pointer}, which must be at least {at_least}"
            ));
        }
    }

    /// Asserts that the number of successes is within bounds.
    pub(crate) fn assert_successes(&mut self, min: usize, max: usize, count: Count) {
        let Count { succeeded, failed, unknown, .. } = count;
        if succeeded > max {
            self.add_violation(format!("{succeeded} succeeded, and at most {max} may"));
        } else if succeeded + failed + unknown < min {
            self.add_violation(format!("{succeeded} succeeded, and {min} must"));
        } else if unknown > 0 {
            self.add_uncertainty(format!("{unknown} got no response, or the backend was unavailable"));
        }
    }
}

/// The result of a comparison that may depend on requests whose outcome is unknown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    Holds,
    /// The value that would be right if exactly the successes took effect.
    Violated(Number),
    /// There are too many possibilities.
    Undecided,
}

/// Compares a value with an expression. A request with an unknown outcome may have been processed or not, so the value is
/// right if it is right for any number of these.
///
/// # Errors
///
/// If the expression cannot be computed.
pub(crate) fn compare(
    actual: Number,
    comparison: Comparison,
    expression: &Expression,
    variables: &Variables,
    counters: &[Counter],
) -> Result<Compared, String> {
    let used: Vec<_> =
        counters.iter().filter(|c| expression.variables().contains(&c.name.as_str())).collect();
    let mut steps = vec![0; used.len()];
    let evaluate = |steps: &[usize]| {
        expression.evaluate(&|name| match used.iter().position(|counter| counter.name == name) {
            Some(at) => Ok(Number::from(used[at].count.succeeded + steps[at])),
            None => variables.number(name),
        })
    };
    let expected = evaluate(&steps)?;
    for _ in 0..MAX_COMBINATIONS {
        if comparison.holds(actual, evaluate(&steps)?) {
            return Ok(Compared::Holds);
        }
        // The next combination.
        let Some(at) = (0..steps.len()).find(|at| steps[*at] < used[*at].count.open()) else {
            return Ok(Compared::Violated(expected));
        };
        steps[at] += 1;
        steps[..at].fill(0);
    }
    Ok(Compared::Undecided)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn count(succeeded: usize, rejected: usize, failed: usize, unknown: usize) -> Count {
        Count { succeeded, rejected, failed, unknown }
    }

    fn success_findings(k: usize, count: Count) -> (usize, usize) {
        let mut findings = Findings::default();
        findings.assert_successes(k, k, count);
        (findings.violations.len(), findings.uncertainties.len())
    }

    #[test]
    fn number_of_successes_is_exact() {
        assert_eq!(success_findings(1, count(1, 9, 0, 0)), (0, 0));
        assert_eq!(success_findings(1, count(2, 8, 0, 0)), (1, 0));
        assert_eq!(success_findings(1, count(0, 10, 0, 0)), (1, 0));
        // A request with an unknown outcome may be the one that succeeded.
        assert_eq!(success_findings(1, count(0, 9, 0, 1)), (0, 1));
        assert_eq!(success_findings(1, count(1, 8, 0, 1)), (0, 1));
        assert_eq!(success_findings(1, count(2, 7, 0, 1)), (1, 0));
    }

    #[test]
    fn comparison_allows_for_requests_with_unknown_outcome() {
        let expression = Expression::parse("10 - {succeeded} * 8").unwrap();
        let compared = |now: &str, count| {
            let now = Number::parse(now, 2).unwrap();
            let counters = [Counter { name: "succeeded".to_owned(), count }];
            compare(now, Comparison::Equals, &expression, &Variables::default(), &counters).unwrap()
        };
        assert_eq!(compared("2", count(1, 9, 0, 0)), Compared::Holds);
        assert_eq!(compared("10", count(1, 9, 0, 0)), Compared::Violated(Number::from(2)));
        assert_ne!(compared("-6", count(1, 9, 0, 0)), Compared::Holds);
        assert_eq!(compared("2", count(0, 9, 0, 1)), Compared::Holds);
        assert_eq!(compared("10", count(0, 9, 0, 1)), Compared::Holds);
        assert_ne!(compared("-6", count(0, 9, 0, 1)), Compared::Holds);
        assert_eq!(
            compared("2", count(0, 9, 1, 0)),
            Compared::Holds,
            "a failed request may have been processed"
        );
    }

    #[test]
    fn counters_of_several_requests_are_combined() {
        let expression = Expression::parse("100 - {a.succeeded} * 10 + {b.succeeded} * 7").unwrap();
        let compared = |now: &str, open| {
            let counter =
                |name: &str| Counter { name: format!("{name}.succeeded"), count: count(2, 0, 0, open) };
            let counters = [counter("a"), counter("b")];
            compare(
                Number::parse(now, 2).unwrap(),
                Comparison::Equals,
                &expression,
                &Variables::default(),
                &counters,
            )
            .unwrap()
        };
        assert_eq!(compared("94", 0), Compared::Holds);
        assert_eq!(compared("91", 0), Compared::Violated(Number::from(94)));
        for (now, holds) in
            [("91", true), ("84", true), ("101", true), ("94", true), ("74", true), ("77", false)]
        {
            assert_eq!(compared(now, 2) == Compared::Holds, holds, "{now}");
        }
        assert_eq!(compared("0.5", 2_000), Compared::Undecided);
    }
}
