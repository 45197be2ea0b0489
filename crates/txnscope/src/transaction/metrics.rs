//! The metrics of one operation's transactions.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use txnscope_catalog as catalog;
use txnscope_catalog::{ATTEMPT_OUTCOMES, CLEANUP_RESULTS, Metric, NOT_STARTED_CAUSES};

use super::open_transactions::OpenTransactions;
use crate::Reason;
use crate::registry::{RecorderHandle, SecondsCounter, label, operation};

/// The outcome of an attempt, in the catalog's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    Committed,
    Aborted(Reason),
    Unknown,
}

impl AttemptOutcome {
    const fn index(self) -> usize {
        match self {
            Self::Committed => 0,
            Self::Aborted(_) => 1,
            Self::Unknown => 2,
        }
    }
}

/// Why the server did not, or may not have, started an attempt, in the catalog's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotStartedCause {
    NotSent,
    Refused,
    Lost,
}

/// The result of a background cleanup, in the catalog's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CleanupResult {
    Aborted,
    Fenced,
    Committed,
    LeftToServer,
}

/// The metric handles of one operation's transactions.
pub(crate) struct TransactionMetrics {
    recorder: &'static RecorderHandle,
    name: &'static str,
    /// The table of open transactions.
    pub(crate) table: &'static OpenTransactions,
    started: Counter,
    committed: Counter,
    unknown: Counter,
    aborted: RwLock<Vec<(Reason, Counter)>>,
    not_started: [Counter; NOT_STARTED_CAUSES.len()],
    open: Gauge,
    durations: [Histogram; ATTEMPT_OUTCOMES.len()],
    pub(super) commit_duration: Histogram,
    pub(super) commit_retries: Counter,
    pub(super) overload_retries: Counter,
    pub(super) backoff: SecondsCounter,
    wasted: SecondsCounter,
    cleanups: [Counter; CLEANUP_RESULTS.len()],
    pub(super) queued: Gauge,
    pub(super) queue_wait: Histogram,
    pub(super) abandoned: Counter,
    pub(super) untracked: Counter,
    /// Attempts without a statement, and writes outside of the transaction; and whether each was logged.
    without_statements: (Counter, AtomicBool),
    writes_outside: (Counter, AtomicBool),
}

impl TransactionMetrics {
    pub(crate) fn new(
        recorder: &'static RecorderHandle,
        name: &'static str,
        table: &'static OpenTransactions,
    ) -> Self {
        let of_operation = || vec![operation(name)];
        let counter = |metric| recorder.counter(metric, of_operation());
        let with = |key, value| vec![operation(name), label(key, value)];
        let metrics = Self {
            recorder,
            name,
            table,
            started: counter(&catalog::CLIENT_TRANSACTIONS_STARTED),
            committed: counter(&catalog::CLIENT_TRANSACTIONS_COMMITTED),
            unknown: counter(&catalog::CLIENT_TRANSACTIONS_UNKNOWN),
            aborted: RwLock::default(),
            not_started: each(NOT_STARTED_CAUSES, |cause| {
                recorder.counter(&catalog::CLIENT_TRANSACTIONS_NOT_STARTED, with("cause", cause))
            }),
            open: recorder.gauge(&catalog::CLIENT_TRANSACTIONS_OPEN, of_operation()),
            durations: each(ATTEMPT_OUTCOMES, |outcome| {
                recorder.histogram(&catalog::CLIENT_TRANSACTION_DURATION, with("outcome", outcome))
            }),
            commit_duration: recorder.histogram(&catalog::CLIENT_TRANSACTION_COMMIT_DURATION, of_operation()),
            commit_retries: counter(&catalog::CLIENT_TRANSACTION_COMMIT_RETRIES),
            overload_retries: counter(&catalog::CLIENT_OVERLOAD_RETRIES),
            backoff: seconds(recorder, name, &catalog::CLIENT_TRANSACTION_BACKOFF),
            wasted: seconds(recorder, name, &catalog::CLIENT_TRANSACTION_WASTED),
            cleanups: each(CLEANUP_RESULTS, |result| {
                recorder.counter(&catalog::CLIENT_TRANSACTION_CLEANUPS, with("result", result))
            }),
            queued: recorder.gauge(&catalog::CLIENT_TRANSACTION_QUEUED, of_operation()),
            queue_wait: recorder.histogram(&catalog::CLIENT_TRANSACTION_QUEUE_WAIT, of_operation()),
            abandoned: counter(&catalog::CLIENT_TRANSACTIONS_ABANDONED),
            untracked: counter(&catalog::CLIENT_TRANSACTIONS_UNTRACKED),
            without_statements: (
                counter(&catalog::CLIENT_TRANSACTIONS_WITHOUT_STATEMENTS),
                AtomicBool::new(false),
            ),
            writes_outside: (counter(&catalog::CLIENT_WRITES_OUTSIDE_TRANSACTION), AtomicBool::new(false)),
        };
        // The reasons that any transaction can have.
        metrics.declare(&[
            Reason::WRITE_CONFLICT,
            Reason::NO_SUCH_TRANSACTION,
            Reason::NOT_PRIMARY,
            Reason::NETWORK,
            Reason::OVERLOADED,
            Reason::CANCELLED,
            Reason::PANIC,
            Reason::TIMEOUT,
            Reason::OTHER,
        ]);
        metrics
    }

    /// Exports the `aborted` counter of each reason as zero.
    pub(crate) fn declare(&self, reasons: &[Reason]) {
        for reason in reasons {
            let _ = self.aborted_for(*reason);
        }
    }

    pub(crate) fn operation(&self) -> &'static str {
        self.name
    }

    /// Counts the start of an attempt: its first statement is passed to the driver.
    pub(crate) fn count_start(&self) {
        self.started.increment(1);
        self.open.increment(1.0);
    }

    /// Counts the end of a started attempt.
    pub(crate) fn count_end(&self, outcome: AttemptOutcome, elapsed: Duration) {
        self.durations[outcome.index()].record(elapsed.as_secs_f64());
        match outcome {
            AttemptOutcome::Committed => self.committed.increment(1),
            AttemptOutcome::Aborted(reason) => {
                self.wasted.add(elapsed);
                self.aborted_for(reason).increment(1);
            }
            AttemptOutcome::Unknown => {
                self.wasted.add(elapsed);
                self.unknown.increment(1);
            }
        }
        self.open.decrement(1.0);
    }

    pub(crate) fn count_not_started(&self, cause: NotStartedCause) {
        self.not_started[cause as usize].increment(1);
    }

    pub(crate) fn count_cleanup(&self, result: CleanupResult) {
        self.cleanups[result as usize].increment(1);
    }

    /// Counts a callback without a statement in its transaction. Returns `true` the first time.
    pub(super) fn count_without_statements(&self) -> bool {
        count_first(&self.without_statements)
    }

    /// Counts a write outside of the callback's transaction. Returns `true` the first time.
    pub(super) fn count_write_outside(&self) -> bool {
        count_first(&self.writes_outside)
    }

    /// Returns the `aborted` counter of a reason, registered the first time.
    fn aborted_for(&self, reason: Reason) -> Counter {
        let known = |aborted: &[(Reason, Counter)]| {
            aborted.iter().find(|(known, _)| *known == reason).map(|(_, counter)| counter.clone())
        };
        if let Some(counter) = known(&self.aborted.read().unwrap_or_else(PoisonError::into_inner)) {
            return counter;
        }
        let mut aborted = self.aborted.write().unwrap_or_else(PoisonError::into_inner);
        known(&aborted).unwrap_or_else(|| {
            let labels = vec![operation(self.name), label("reason", reason.as_str())];
            let counter = self.recorder.counter(&catalog::CLIENT_TRANSACTIONS_ABORTED, labels);
            aborted.push((reason, counter.clone()));
            counter
        })
    }
}

fn count_first((counter, warned): &(Counter, AtomicBool)) -> bool {
    counter.increment(1);
    !warned.swap(true, Relaxed)
}

fn seconds(recorder: &RecorderHandle, name: &'static str, metric: &'static Metric) -> SecondsCounter {
    recorder.seconds(metric, vec![operation(name)])
}

/// Creates one handle for each value of a closed set.
fn each<T, const N: usize>(values: &[&'static str], handle: impl Fn(&'static str) -> T) -> [T; N] {
    std::array::from_fn(|index| handle(values[index]))
}

impl fmt::Debug for TransactionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionMetrics").field("operation", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_order_matches_catalog() {
        assert_eq!(ATTEMPT_OUTCOMES[AttemptOutcome::Committed.index()], "committed");
        assert_eq!(ATTEMPT_OUTCOMES[AttemptOutcome::Aborted(Reason::OTHER).index()], "aborted");
        assert_eq!(ATTEMPT_OUTCOMES[AttemptOutcome::Unknown.index()], "unknown");
        assert_eq!(NOT_STARTED_CAUSES[NotStartedCause::NotSent as usize], "not_sent");
        assert_eq!(NOT_STARTED_CAUSES[NotStartedCause::Refused as usize], "refused");
        assert_eq!(NOT_STARTED_CAUSES[NotStartedCause::Lost as usize], "lost");
        assert_eq!(CLEANUP_RESULTS[CleanupResult::Aborted as usize], "aborted");
        assert_eq!(CLEANUP_RESULTS[CleanupResult::Fenced as usize], "fenced");
        assert_eq!(CLEANUP_RESULTS[CleanupResult::Committed as usize], "committed");
        assert_eq!(CLEANUP_RESULTS[CleanupResult::LeftToServer as usize], "left_to_server");
    }
}
