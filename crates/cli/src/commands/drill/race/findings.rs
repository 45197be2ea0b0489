//! The findings of a round: the replies and the data afterwards must agree with each other and with the invariant.

use serde_json::Value;

use crate::commands::drill::backend::{Backend, Reply, describe};
use crate::commands::drill::money::{cents, format_cents};
use crate::commands::drill::race::burst::{Burst, Count, ReplyCounts};

/// The findings of one round, or of several.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) replies: ReplyCounts,
    /// Violations of the invariant.
    pub(crate) violations: Vec<String>,
    /// Reasons why the result is inconclusive.
    pub(crate) uncertainties: Vec<String>,
}

impl Findings {
    pub(crate) fn add_violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn add_uncertainty(&mut self, what: impl Into<String>) {
        self.uncertainties.push(what.into());
    }

    /// Records the replies, and asserts what holds for every burst: each request succeeds or is rejected, and no balance
    /// is negative, for a reader or in a response.
    pub(crate) fn record_burst(&mut self, burst: &Burst, balance: Option<&str>) -> Count {
        self.replies.add(&burst.replies);
        let count = burst.count();
        if count.failed > 0 {
            let example =
                burst.replies.iter().find(|reply| !is_expected(reply)).map(describe).unwrap_or_default();
            self.add_violation(format!("{} neither succeeded nor were rejected: {example}", count.failed));
        }
        if let Some(lowest) = burst.negative {
            self.add_violation(format!(
                "a reader saw a balance of {} during the burst",
                format_cents(lowest)
            ));
        }
        let balances = balance
            .into_iter()
            .flat_map(|pointer| burst.successes().filter_map(move |body| cents(body.pointer(pointer)?).ok()));
        if let Some(lowest) = balances.filter(|balance| *balance < 0).min() {
            self.add_violation(format!("a response contained a balance of {}", format_cents(lowest)));
        }
        count
    }

    /// Asserts that exactly `k` requests succeeded.
    pub(crate) fn assert_successes(&mut self, k: usize, count: Count) {
        let Count { succeeded, failed, unknown, .. } = count;
        if succeeded > k {
            self.add_violation(format!("{succeeded} succeeded, and at most {k} may"));
        } else if succeeded + failed + unknown < k {
            self.add_violation(format!("{succeeded} succeeded, and {k} must"));
        } else if unknown > 0 {
            self.add_uncertainty(format!("{unknown} got no response, or the backend was unavailable"));
        }
    }

    /// Asserts that a balance is `before` minus `each` for every success. Requests with an unknown outcome may have been
    /// processed or not.
    pub(crate) fn assert_balance_after(
        &mut self,
        what: &str,
        now: i64,
        before: i64,
        each: i64,
        count: Count,
    ) {
        let open = i64::try_from(count.unknown + count.failed).unwrap_or(i64::MAX);
        let succeeded = i64::try_from(count.succeeded).unwrap_or(i64::MAX);
        let fits = (succeeded..=succeeded.saturating_add(open)).any(|times| before - times * each == now);
        if !fits {
            self.add_violation(format!(
                "{what} is {}, and must be {} after {succeeded} × {}",
                format_cents(now),
                format_cents(before - succeeded * each),
                format_cents(each)
            ));
        }
    }

    /// Asserts that an amount has the expected value.
    pub(crate) fn assert_amount(&mut self, what: &str, now: i64, expected: i64) {
        if now != expected {
            self.add_violation(format!(
                "{what} is {}, and must be {}",
                format_cents(now),
                format_cents(expected)
            ));
        }
    }

    /// Reads an amount through the API. A failed request makes the round inconclusive; an invalid amount is a violation.
    pub(crate) async fn read(&mut self, backend: &Backend, path: &str, pointer: &str) -> Option<i64> {
        let value = self.field(backend, path, pointer).await?;
        match cents(&value) {
            Ok(cents) => {
                if cents < 0 {
                    self.add_violation(format!("a balance is {}", format_cents(cents)));
                }
                Some(cents)
            }
            Err(why) => {
                self.add_violation(format!("{pointer} of GET {path} is {why}"));
                None
            }
        }
    }

    /// Reads a field through the API.
    pub(crate) async fn field(&mut self, backend: &Backend, path: &str, pointer: &str) -> Option<Value> {
        match backend.get(path).await {
            Reply::Received(status, body) if status.as_u16() == 200 => match body.pointer(pointer) {
                Some(value) => Some(value.clone()),
                None => {
                    self.add_violation(format!("GET {path} has no {pointer}"));
                    None
                }
            },
            reply => {
                self.add_uncertainty(format!("GET {path} responded with {}", describe(&reply)));
                None
            }
        }
    }
}

fn is_expected(reply: &Reply) -> bool {
    match reply {
        Reply::Received(status, _) => {
            matches!(status.as_u16(), 200 | 201 | 400 | 409 | 422 | 429 | 502..=504)
        }
        Reply::Missing(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn count(succeeded: usize, rejected: usize, failed: usize, unknown: usize) -> Count {
        Count { succeeded, rejected, failed, unknown }
    }

    fn success_findings(k: usize, count: Count) -> (usize, usize) {
        let mut findings = Findings::default();
        findings.assert_successes(k, count);
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
    fn balance_allows_for_requests_with_unknown_outcome() {
        let violations = |now, count| {
            let mut findings = Findings::default();
            findings.assert_balance_after("the balance", now, 1_000, 800, count);
            findings.violations
        };
        assert!(violations(200, count(1, 9, 0, 0)).is_empty());
        assert_eq!(violations(1_000, count(1, 9, 0, 0)), ["the balance is 10, and must be 2 after 1 × 8"]);
        assert_eq!(violations(-600, count(1, 9, 0, 0)).len(), 1);
        assert!(
            violations(200, count(0, 9, 0, 1)).is_empty() && violations(1_000, count(0, 9, 0, 1)).is_empty()
        );
        assert_eq!(violations(-600, count(0, 9, 0, 1)).len(), 1);
        assert!(violations(200, count(0, 9, 1, 0)).is_empty(), "a failed request may have been processed");
    }
}
