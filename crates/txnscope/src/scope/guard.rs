//! The guard that counts an operation.

use std::time::Duration;

use super::context::ContextCell;
use super::current::{self, Previous};
use super::unregistered::UnregisteredOperation;
use crate::registry::OperationMetrics;
use crate::timestamp::Timestamp;
use crate::{Classification, OperationName, Outcome, Reason, Registry, failure_log};

/// One operation in flight: counted when it starts, and counted once more at its end, however it ends.
///
/// The guard lives in the request's future, so that a request needs no allocation and no reference count; only a
/// context (a noted reason, a span, a handle) is on the heap.
pub(crate) struct OperationGuard {
    operation: &'static OperationMetrics,
    context: ContextCell,
    /// When the operation started; `None` once its end is counted.
    started_at: Option<Timestamp>,
}

impl OperationGuard {
    /// Starts an operation that has waited for `waited_ticks`. Dropped unfinished, it counts as cancelled.
    pub(crate) fn new(operation: &'static OperationMetrics, waited_ticks: u64) -> Self {
        Self::started_at(operation, Timestamp::ago(waited_ticks))
    }

    /// Starts an operation whose duration begins at `started_at`.
    pub(crate) fn started_at(operation: &'static OperationMetrics, started_at: Timestamp) -> Self {
        operation.attempts.increment(1);
        operation.concurrent.increment(1.0);
        Self::already_counted(operation, started_at)
    }

    /// Creates the guard of an operation whose start was counted before.
    pub(super) fn already_counted(operation: &'static OperationMetrics, started_at: Timestamp) -> Self {
        Self { operation, context: ContextCell::Empty, started_at: Some(started_at) }
    }

    /// Starts the first operation of an undeclared name. If the caller controls the name (it chooses the method), the
    /// name is only registered after a handler was reached. `None` if the task already runs an operation of this
    /// name.
    #[cold]
    #[inline(never)]
    pub(crate) fn first_request(
        registry: Registry,
        name: OperationName<'_>,
        waited_ticks: u64,
    ) -> Option<Self> {
        if name.is_caller_controlled() && !registry.resolve_pending_and_contains(name) {
            let name = name.label();
            if current::is_unregistered(&name) {
                return None;
            }
            let unregistered = UnregisteredOperation::new(registry, name, Timestamp::ago(waited_ticks));
            return Some(Self {
                operation: registry.placeholder(),
                context: ContextCell::for_unregistered(unregistered),
                started_at: None,
            });
        }
        let operation = registry.resolve(name);
        (!Self::is_within(operation)).then(|| Self::new(operation, waited_ticks))
    }

    /// Whether the current task already runs that operation, so that a second layer must not count it again.
    pub(crate) fn is_within(operation: &'static OperationMetrics) -> bool {
        current::entered().is_some_and(|current| std::ptr::eq(current, operation))
    }

    /// Makes the operation current on this thread, until the guard [exits](Entered::exit).
    pub(crate) fn enter(&mut self) -> Entered<'_> {
        let previous = current::enter(self.operation, &mut self.context);
        Entered { guard: self, previous, panicked: true }
    }

    /// Counts the end of the operation, unless it was counted before.
    pub(crate) fn finish(&mut self, classification: Classification) {
        let Some(started_at) = self.started_at.take() else {
            return self.finish_unregistered(classification);
        };
        let nanos = started_at.elapsed();
        if classification.outcome() == Outcome::Succeeded {
            self.record_end(Outcome::Succeeded, nanos);
        } else {
            self.record_failure(classification, nanos);
        }
    }

    /// Registers an undeclared name after its response, and counts its end.
    #[cold]
    #[inline(never)]
    fn finish_unregistered(&mut self, classification: Classification) {
        if let Some(unregistered) = self.context.take_unregistered() {
            self.set_operation(unregistered.answered(&classification));
            self.finish(classification);
        }
    }

    /// Takes over the registration of an undeclared name, if code below the layer has asked for its scope meanwhile.
    #[cold]
    #[inline(never)]
    fn adopt_registered(&mut self) {
        if let Some(registered) = self.context.take_registered() {
            self.set_operation(registered);
        }
    }

    /// Sets the operation that this guard counts.
    fn set_operation(&mut self, (operation, started_at): (&'static OperationMetrics, Timestamp)) {
        self.operation = operation;
        self.started_at = Some(started_at);
    }

    #[inline]
    fn record_end(&self, outcome: Outcome, nanos: u64) {
        // Records the duration before the gauge: a scrape in between sees the operation twice rather than not at all.
        #[allow(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
        self.operation.duration(outcome).record(nanos as f64 / 1e9);
        self.operation.concurrent.decrement(1.0);
    }

    /// Counts and logs an operation that did not succeed.
    #[cold]
    #[inline(never)]
    fn record_failure(&mut self, classification: Classification, nanos: u64) {
        let context = self.context.take();
        let classification = classification.apply_scope_reason(context.reason());
        self.record_end(classification.outcome(), nanos);
        self.operation.failure(classification.outcome(), classification.reason()).increment(1);
        failure_log::log_failure(
            self.operation.name,
            &classification,
            Duration::from_nanos(nanos),
            context.span.as_ref(),
        );
    }

    /// Counts the end of an operation without a response.
    #[cold]
    fn finish_with(&mut self, outcome: Outcome, reason: Reason) {
        self.finish(Classification::new(outcome, reason));
    }
}

impl Drop for OperationGuard {
    fn drop(&mut self) {
        if self.started_at.is_some() {
            self.finish_with(Outcome::Cancelled, Reason::CANCELLED);
        }
    }
}

/// Keeps an operation current on this thread.
///
/// If the guard is dropped without [`exit`](Self::exit), the poll has panicked, and the operation ends here: a later
/// drop of the future cannot tell whether its task unwinds or the panic was caught.
pub(crate) struct Entered<'a> {
    guard: &'a mut OperationGuard,
    previous: Previous,
    panicked: bool,
}

impl Entered<'_> {
    pub(crate) fn exit(mut self) {
        self.panicked = false;
    }

    fn restore(&mut self) {
        if current::exit(&self.previous, &mut self.guard.context) {
            self.guard.adopt_registered();
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.restore();
        if self.panicked {
            self.guard.finish_with(Outcome::Panicked, Reason::PANIC);
        }
    }
}
