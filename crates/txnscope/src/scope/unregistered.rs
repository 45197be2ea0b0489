//! A request whose operation was never asked for before.
//!
//! The method of a request is its caller's to choose, and a route answers every one of them, most with 405. If each made
//! an operation, a stranger could use up the table before the application's own routes are asked for. So such a name takes
//! its place when a handler has been reached: at the latest when it has answered, and at once when code below the layer
//! asks which operation it serves.

use txnscope_catalog::UNMATCHED;

use super::OperationGuard;
use crate::registry::OperationMetrics;
use crate::timestamp::Timestamp;
use crate::{Classification, Outcome, Registry};

#[derive(Debug)]
pub(super) struct UnregisteredOperation {
    registry: Registry,
    /// Until it is counted by it.
    name: Option<String>,
    started_at: Timestamp,
}

impl UnregisteredOperation {
    pub(super) fn new(registry: Registry, name: String, started_at: Timestamp) -> Self {
        Self { registry, name: Some(name), started_at }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// It was reached, and serves.
    pub(super) fn handler_reached(mut self) -> (&'static OperationMetrics, Timestamp) {
        self.register(true)
    }

    /// It was answered so. No handler takes a method that its route does not have; whether one was reached by what was
    /// refused, or left before an answer, cannot be told.
    pub(super) fn answered(
        mut self,
        classification: &Classification,
    ) -> (&'static OperationMetrics, Timestamp) {
        if classification.is_without_handler() {
            self.name = Some(UNMATCHED.to_owned());
        }
        self.register(!matches!(classification.outcome(), Outcome::Rejected | Outcome::Cancelled))
    }

    fn register(&mut self, handler_was_reached: bool) -> (&'static OperationMetrics, Timestamp) {
        let name = self.name.take();
        let operation =
            self.registry.register_unproven(name.as_deref().unwrap_or(UNMATCHED), handler_was_reached);
        operation.attempts.increment(1);
        operation.concurrent.increment(1.0);
        (operation, self.started_at)
    }
}

/// Its caller has left before an answer.
impl Drop for UnregisteredOperation {
    fn drop(&mut self) {
        if self.name.is_some() {
            let (operation, started_at) = self.register(false);
            drop(OperationGuard::already_counted(operation, started_at));
        }
    }
}
