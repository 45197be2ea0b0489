//! The guard that counts an operation.

use std::time::Duration;

use super::newcomer::Newcomer;
use super::notes::Pad;
use super::slot::{self, Outer};
use crate::clock::Moment;
use crate::registry::OperationMetrics;
use crate::{Classification, OperationName, Outcome, Reason, Registry, event};

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
    /// Admits an operation that has waited for so many ticks. Dropped unfinished, it counts as cancelled.
    pub(crate) fn new(operation: &'static OperationMetrics, waited: u64) -> Self {
        Self::since(operation, Moment::ago(waited))
    }

    /// Admits an operation that has waited since then.
    pub(crate) fn since(operation: &'static OperationMetrics, since: Moment) -> Self {
        operation.attempts.increment(1);
        operation.concurrent.increment(1.0);
        Self::of(operation, since)
    }

    /// One that has been counted when it entered.
    pub(super) fn of(operation: &'static OperationMetrics, since: Moment) -> Self {
        Self { operation, pad: Pad::Empty, since: Some(since) }
    }

    /// The same, of a name that was never asked for. If anybody can make it up (the method is the caller's to choose),
    /// it takes no place among the operations before it was answered by a handler. `None` if the task works for it already.
    #[cold]
    #[inline(never)]
    pub(crate) fn first(registry: Registry, name: OperationName<'_>, waited: u64) -> Option<Self> {
        if name.is_made_by_the_caller() && !registry.makes_ready_and_knows(name) {
            let name = name.label();
            if slot::is_newcomer(&name) {
                return None;
            }
            let newcomer = Newcomer::new(registry, name, Moment::ago(waited));
            return Some(Self { operation: registry.newcomers(), pad: Pad::of(newcomer), since: None });
        }
        let operation = registry.resolve(name);
        (!Self::is_within(operation)).then(|| Self::new(operation, waited))
    }

    /// Whether the current task already works for that operation, so that a second layer must not count it again.
    pub(crate) fn is_within(operation: &'static OperationMetrics) -> bool {
        slot::entered().is_some_and(|current| std::ptr::eq(current, operation))
    }

    /// Makes it the operation that the thread works for, until the guard [leaves](Entered::leave).
    pub(crate) fn enter(&mut self) -> Entered<'_> {
        let outer = slot::enter(self.operation, &mut self.pad);
        Entered { admission: self, outer, panicked: true }
    }

    /// Counts the end of the operation, if it has not ended before.
    pub(crate) fn finish(&mut self, classification: Classification) {
        let Some(since) = self.since.take() else { return self.finish_newcomer(classification) };
        let nanos = since.elapsed();
        if classification.outcome() == Outcome::Succeeded {
            self.end(Outcome::Succeeded, nanos);
        } else {
            self.explain(classification, nanos);
        }
    }

    /// A name that was never asked for before is answered: it becomes an operation, or is none.
    #[cold]
    #[inline(never)]
    fn finish_newcomer(&mut self, classification: Classification) {
        if let Some(newcomer) = self.pad.newcomer() {
            self.adopt(newcomer.answered(&classification));
            self.finish(classification);
        }
    }

    /// Somebody may have asked for a name that was never asked for before: it is an operation then.
    #[cold]
    #[inline(never)]
    fn look_at_notes(&mut self) {
        if let Some(admitted) = self.pad.admitted() {
            self.adopt(admitted);
        }
    }

    /// It is that operation from now on.
    fn adopt(&mut self, (operation, since): (&'static OperationMetrics, Moment)) {
        self.operation = operation;
        self.since = Some(since);
    }

    #[inline]
    fn end(&self, outcome: Outcome, nanos: u64) {
        // The duration before the gauge: a scrape in between sees the operation twice rather than not at all.
        #[allow(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
        self.operation.duration(outcome).record(nanos as f64 / 1e9);
        self.operation.concurrent.decrement(1.0);
    }

    /// Counts and logs why it did not succeed.
    #[cold]
    #[inline(never)]
    fn explain(&mut self, classification: Classification, nanos: u64) {
        let notes = self.pad.take();
        let classification = classification.apply_scope_reason(notes.reason());
        self.end(classification.outcome(), nanos);
        self.operation.failure(classification.outcome(), classification.reason()).increment(1);
        event::emit(self.operation.name, &classification, Duration::from_nanos(nanos), notes.span.as_ref());
    }

    /// Counts the end of an operation that nobody finished.
    #[cold]
    fn abandon(&mut self, outcome: Outcome, reason: Reason) {
        self.finish(Classification::new(outcome, reason));
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

    fn exit(&mut self) {
        if slot::leave(&self.outer, &mut self.admission.pad) {
            self.admission.look_at_notes();
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.exit();
        if self.panicked {
            self.admission.abandon(Outcome::Panicked, Reason::PANIC);
        }
    }
}
