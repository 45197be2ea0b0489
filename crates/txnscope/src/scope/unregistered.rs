//! The first request of an operation that is neither declared nor registered.
//!
//! The caller chooses the method of its request, and a route responds to every method, mostly with 405. If each
//! method registered an operation, a client could exhaust the limit of operations before the application's own routes
//! are called. So such a name is registered when a handler was reached: at the latest with its response, and at once
//! when code below the layer asks for the current operation.

use txnscope_catalog::UNMATCHED;

use super::OperationGuard;
use crate::registry::OperationMetrics;
use crate::timestamp::Timestamp;
use crate::{Classification, Outcome, Registry};

#[derive(Debug)]
pub(super) struct UnregisteredOperation {
    registry: Registry,
    /// `None` once the name is registered.
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

    /// Registers the name: a handler was reached.
    pub(super) fn handler_reached(mut self) -> (&'static OperationMetrics, Timestamp) {
        self.register(true)
    }

    /// Registers the name after its response. A 405 reaches no handler. For other rejections and cancellations it is
    /// unknown whether a handler was reached.
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

/// Counts a request whose caller left before the response.
impl Drop for UnregisteredOperation {
    fn drop(&mut self) {
        if self.name.is_some() {
            let (operation, started_at) = self.register(false);
            drop(OperationGuard::already_counted(operation, started_at));
        }
    }
}
