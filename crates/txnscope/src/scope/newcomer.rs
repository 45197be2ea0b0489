//! A request whose operation was never asked for before.
//!
//! The method of a request is its caller's to choose, and a route answers every one of them, most with 405. If each made
//! an operation, a stranger could use up the table before the application's own routes are asked for. So such a name takes
//! its place when a handler has been reached: at the latest when it has answered, and at once when code below the layer
//! asks which operation it serves.

use txnscope_catalog::UNMATCHED;

use super::Admission;
use crate::clock::Moment;
use crate::registry::OperationMetrics;
use crate::{Classification, Outcome, Registry};

#[derive(Debug)]
pub(super) struct Newcomer {
    registry: Registry,
    /// Until it is counted by it.
    name: Option<String>,
    since: Moment,
}

impl Newcomer {
    pub(super) fn new(registry: Registry, name: String, since: Moment) -> Self {
        Self { registry, name: Some(name), since }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// It was reached, and serves.
    pub(super) fn serves(mut self) -> (&'static OperationMetrics, Moment) {
        self.enter(true)
    }

    /// It was answered so. No handler takes a method that its route does not have; whether one was reached by what was
    /// refused, or left before an answer, cannot be told.
    pub(super) fn answered(mut self, classification: &Classification) -> (&'static OperationMetrics, Moment) {
        if classification.is_of_no_handler() {
            self.name = Some(UNMATCHED.to_owned());
        }
        self.enter(!matches!(classification.outcome(), Outcome::Rejected | Outcome::Cancelled))
    }

    fn enter(&mut self, reached: bool) -> (&'static OperationMetrics, Moment) {
        let name = self.name.take();
        let operation = self.registry.admit_newcomer(name.as_deref().unwrap_or(UNMATCHED), reached);
        operation.attempts.increment(1);
        operation.concurrent.increment(1.0);
        (operation, self.since)
    }
}

/// Its caller has left before an answer.
impl Drop for Newcomer {
    fn drop(&mut self) {
        if self.name.is_some() {
            let (operation, since) = self.enter(false);
            drop(Admission::of(operation, since));
        }
    }
}
