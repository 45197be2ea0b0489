//! The guard that counts an operation.

use std::time::Duration;

use super::notes::Pad;
use super::slot::{self, Outer};
use crate::clock::Moment;
use crate::registry::OperationMetrics;
use crate::{Outcome, Reason, Verdict, event};

/// One admitted operation: counted when it enters, and counted once more however it leaves.
///
/// It lives in the request's future, so that a request needs no allocation and no reference count; only notes and
/// handles put something on the heap.
pub(crate) struct Admission {
    operation: &'static OperationMetrics,
    pad: Pad,
    /// When it was admitted; `None` once its end is counted.
    since: Option<Moment>,
}

impl Admission {
    /// Admits an operation. Dropped unfinished, it counts as cancelled.
    pub(crate) fn new(operation: &'static OperationMetrics) -> Self {
        Self::since(operation, None)
    }

    /// Admits an operation that has waited since then.
    pub(crate) fn since(operation: &'static OperationMetrics, since: Option<Moment>) -> Self {
        operation.attempts.increment(1);
        operation.concurrent.increment(1.0);
        Self { operation, pad: Pad::Empty, since: Some(since.unwrap_or_else(Moment::now)) }
    }

    /// Whether the current task already works for that operation, so that a second layer must not count it again.
    pub(crate) fn is_within(operation: &'static OperationMetrics) -> bool {
        slot::operation().is_some_and(|current| std::ptr::eq(current, operation))
    }

    /// Makes it the operation that the thread works for, until the guard [leaves](Entered::leave).
    pub(crate) fn enter(&mut self) -> Entered<'_> {
        let outer = slot::enter(self.operation, &mut self.pad);
        Entered { admission: self, outer, panicked: true }
    }

    /// Counts the end of the operation, if it has not ended before.
    pub(crate) fn finish(&mut self, verdict: Verdict) {
        let Some(since) = self.since.take() else { return };
        let nanos = since.elapsed();
        let outcome = verdict.outcome();
        // The duration before the gauge: a scrape in between sees the operation twice rather than not at all.
        #[allow(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
        self.operation.duration(outcome).record(nanos as f64 / 1e9);
        self.operation.concurrent.decrement(1.0);
        if outcome != Outcome::Succeeded {
            self.explain(verdict, Duration::from_nanos(nanos));
        }
    }

    /// Counts and logs why it did not succeed.
    #[cold]
    fn explain(&mut self, verdict: Verdict, elapsed: Duration) {
        let notes = self.pad.take();
        let verdict = verdict.hearing(notes.reason);
        self.operation.failure(verdict.outcome(), verdict.reason()).increment(1);
        event::emit(self.operation.name, &verdict, elapsed, notes.span.as_ref());
    }

    /// Counts the end of an operation that nobody finished.
    #[cold]
    fn abandon(&mut self, outcome: Outcome, reason: Reason) {
        self.finish(Verdict::new(outcome, reason));
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.abandon(Outcome::Cancelled, Reason::CANCELLED);
        }
    }
}

/// While the thread works for an operation.
///
/// Dropped without having left, it counts a panic, and that ends the operation: whether the future is later dropped while
/// its task unwinds, or calmly by somebody who caught the panic, can't be told from that drop.
pub(crate) struct Entered<'a> {
    admission: &'a mut Admission,
    outer: Outer,
    panicked: bool,
}

impl Entered<'_> {
    pub(crate) fn leave(mut self) {
        self.panicked = false;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        slot::leave(&self.outer, &mut self.admission.pad);
        if self.panicked {
            self.admission.abandon(Outcome::Panicked, Reason::PANIC);
        }
    }
}
