//! Judging a round: what was answered and what is there now must tell the same story, and the right one.

use serde_json::Value;

use crate::drill::backend::{Answer, Backend, told};
use crate::drill::money::{cents, shown};
use crate::drill::race::volley::{Count, Tally, Volley};

/// What one round, or several, have shown.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) tally: Tally,
    /// What must not be.
    pub(crate) faults: Vec<String>,
    /// What leaves open whether all is well.
    pub(crate) doubts: Vec<String>,
}

impl Findings {
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    pub(crate) fn doubt(&mut self, what: impl Into<String>) {
        self.doubts.push(what.into());
    }

    /// Takes the answers down, and what every volley must keep to: nothing but success and rejection, and no
    /// balance below zero, neither for a reader nor in an answer.
    pub(crate) fn volley(&mut self, volley: &Volley, balance: Option<&str>) -> Count {
        self.tally.add(&volley.answers);
        let count = volley.count();
        if count.failed > 0 {
            let words =
                volley.answers.iter().find(|answer| !is_promised(answer)).map(told).unwrap_or_default();
            self.fault(format!("{} neither succeeded nor were rejected: {words}", count.failed));
        }
        if let Some(least) = volley.negative {
            self.fault(format!("a reader saw a balance of {} meanwhile", shown(least)));
        }
        let answered = balance.into_iter().flat_map(|pointer| {
            volley.successes().filter_map(move |body| cents(body.pointer(pointer)?).ok())
        });
        if let Some(least) = answered.filter(|balance| *balance < 0).min() {
            self.fault(format!("an answer told of a balance of {}", shown(least)));
        }
        count
    }

    /// Of so many requests exactly `k` may succeed.
    pub(crate) fn exactly(&mut self, k: usize, count: Count) {
        let Count { succeeded, failed, unsure, .. } = count;
        if succeeded > k {
            self.fault(format!("{succeeded} succeeded, and {k} may"));
        } else if succeeded + failed + unsure < k {
            self.fault(format!("{succeeded} succeeded, and {k} can"));
        } else if unsure > 0 {
            self.doubt(format!("{unsure} were not answered, or by a backend that was not available"));
        }
    }

    /// A balance is what is left when `succeeded` took `each` of `before`. Those that were not answered may have
    /// taken theirs as well.
    pub(crate) fn taken(&mut self, what: &str, now: i64, before: i64, each: i64, count: Count) {
        let open = i64::try_from(count.unsure + count.failed).unwrap_or(i64::MAX);
        let told = i64::try_from(count.succeeded).unwrap_or(i64::MAX);
        let fits = (told..=told.saturating_add(open)).any(|times| before - times * each == now);
        if !fits {
            self.fault(format!(
                "{what} is {}, and {} after {told} × {}",
                shown(now),
                shown(before - told * each),
                shown(each)
            ));
        }
    }

    /// Two values that are the same, or else.
    pub(crate) fn is(&mut self, what: &str, now: i64, expected: i64) {
        if now != expected {
            self.fault(format!("{what} is {}, and must be {}", shown(now), shown(expected)));
        }
    }

    /// Reads money back through the API. What cannot be read is a doubt, what is no money a fault.
    pub(crate) async fn read(&mut self, backend: &Backend, path: &str, pointer: &str) -> Option<i64> {
        let value = self.field(backend, path, pointer).await?;
        match cents(&value) {
            Ok(cents) => {
                if cents < 0 {
                    self.fault(format!("a balance is {}", shown(cents)));
                }
                Some(cents)
            }
            Err(why) => {
                self.fault(format!("{pointer} of GET {path} is {why}"));
                None
            }
        }
    }

    /// Reads a field back through the API.
    pub(crate) async fn field(&mut self, backend: &Backend, path: &str, pointer: &str) -> Option<Value> {
        match backend.get(path).await {
            Answer::Came(status, body) if status.as_u16() == 200 => match body.pointer(pointer) {
                Some(value) => Some(value.clone()),
                None => {
                    self.fault(format!("GET {path} has no {pointer}"));
                    None
                }
            },
            answer => {
                self.doubt(format!("GET {path} answered {}", told(&answer)));
                None
            }
        }
    }
}

fn is_promised(answer: &Answer) -> bool {
    match answer {
        Answer::Came(status, _) => matches!(status.as_u16(), 200 | 201 | 400 | 409 | 422 | 429 | 502..=504),
        Answer::None(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn count(succeeded: usize, rejected: usize, failed: usize, unsure: usize) -> Count {
        Count { succeeded, rejected, failed, unsure }
    }

    fn exactly(k: usize, count: Count) -> (usize, usize) {
        let mut findings = Findings::default();
        findings.exactly(k, count);
        (findings.faults.len(), findings.doubts.len())
    }

    #[test]
    fn one_of_ten_is_one_of_ten() {
        assert_eq!(exactly(1, count(1, 9, 0, 0)), (0, 0));
        assert_eq!(exactly(1, count(2, 8, 0, 0)), (1, 0));
        assert_eq!(exactly(1, count(0, 10, 0, 0)), (1, 0));
        // One that nobody has heard of again may have been the one.
        assert_eq!(exactly(1, count(0, 9, 0, 1)), (0, 1));
        assert_eq!(exactly(1, count(1, 8, 0, 1)), (0, 1));
        assert_eq!(exactly(1, count(2, 7, 0, 1)), (1, 0));
    }

    #[test]
    fn a_balance_is_what_was_told_or_may_have_been_done() {
        let taken = |now, count| {
            let mut findings = Findings::default();
            findings.taken("the balance", now, 1_000, 800, count);
            findings.faults
        };
        assert!(taken(200, count(1, 9, 0, 0)).is_empty());
        assert_eq!(taken(1_000, count(1, 9, 0, 0)), ["the balance is 10, and 2 after 1 × 8"]);
        assert_eq!(taken(-600, count(1, 9, 0, 0)).len(), 1);
        assert!(taken(200, count(0, 9, 0, 1)).is_empty() && taken(1_000, count(0, 9, 0, 1)).is_empty());
        assert_eq!(taken(-600, count(0, 9, 0, 1)).len(), 1);
        assert!(taken(200, count(0, 9, 1, 0)).is_empty(), "what failed may have been done all the same");
    }
}
