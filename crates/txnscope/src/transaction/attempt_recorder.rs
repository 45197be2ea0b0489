//! The recorder of one attempt's metrics.

use mongodb::ClientSession;
use mongodb::error::Error;
use quanta::Instant;

use super::driver_error::{NO_SUCH_TRANSACTION, code};
use super::first_statement::{ServerStarted, server_started};
use super::metrics::{AttemptOutcome, NotStartedCause, TransactionMetrics};
use super::open_transactions::{Lsid, Owner};
use super::session_debug::SessionState;
use crate::Reason;

/// Records one attempt exactly once: explicitly, or when this is dropped.
pub(super) struct AttemptRecorder {
    pub(super) metrics: &'static TransactionMetrics,
    lsid: Option<Lsid>,
    /// The session's state before its first statement.
    before: SessionState,
    /// When the first statement was passed to the driver. Without a statement there is no transaction, and nothing is
    /// counted.
    started: Option<Instant>,
    /// Whether the server had replied before the last statement was passed to the driver.
    answered: bool,
    /// Whether a statement was sent, never answered, and followed by another one: later replies then do not answer
    /// it, and it may still be in flight.
    abandoned_statement: bool,
    /// The outcome that a drop records.
    pub(super) dropped: AttemptOutcome,
}

impl AttemptRecorder {
    pub(super) fn new(metrics: &'static TransactionMetrics) -> Self {
        Self {
            metrics,
            lsid: None,
            before: SessionState::default(),
            started: None,
            answered: false,
            abandoned_statement: false,
            dropped: AttemptOutcome::Aborted(Reason::CANCELLED),
        }
    }

    /// Records that a statement is about to be passed to the driver.
    pub(super) fn statement(&mut self, session: &ClientSession) {
        // The session belongs to this attempt: it has an operation time only if the server has replied in it.
        self.answered = session.operation_time().is_some();
        if self.started.is_none() {
            let now = Instant::now();
            self.started = Some(now);
            self.metrics.count_start();
            self.before = SessionState::of(session);
            self.lsid = Lsid::of(session.id());
            if let Some(lsid) = self.lsid {
                let (number, operation) = (self.before.txn_number(), self.metrics.operation());
                self.metrics.table.insert(lsid, Owner::Runner, number, operation, now);
            }
        } else if !self.answered && !self.abandoned_statement {
            self.abandoned_statement = !SessionState::of(session).is_unused_since(self.before);
        }
    }

    /// Whether an unanswered statement may be in flight, although a later one was answered.
    pub(super) fn has_abandoned_statement(&self) -> bool {
        self.abandoned_statement
    }

    pub(super) fn has_started(&self) -> bool {
        self.started.is_some()
    }

    /// The session's state before its first statement.
    pub(super) fn before(&self) -> SessionState {
        self.before
    }

    /// Returns the identity of the transaction, for the log.
    pub(super) fn identity(&self) -> Identity {
        Identity { lsid: self.lsid, txn_number: self.before.txn_number() }
    }

    /// Records the error that ended the attempt, as the server's last reply.
    pub(super) fn record_error(&self, error: &Error) {
        if self.started.is_none() {
            return;
        }
        match server_started(error) {
            // The error answers the last statement, and no earlier one was answered.
            ServerStarted::No if !self.answered => self.metrics.count_not_started(NotStartedCause::Refused),
            // For a transaction that never started and for one that has ended, the server returns the same code, also
            // later.
            ServerStarted::Unknown if !self.answered || code(error) == Some(NO_SUCH_TRANSACTION) => {
                self.lost()
            }
            ServerStarted::Yes | ServerStarted::No | ServerStarted::Unknown => {}
        }
    }

    /// Counts the attempt as `lost`: it is unknown whether the server started it.
    pub(super) fn lost(&self) {
        self.metrics.count_not_started(NotStartedCause::Lost);
    }

    /// Records the outcome.
    pub(super) fn end(mut self, outcome: AttemptOutcome) {
        self.count(outcome);
    }

    /// Records the outcome of an attempt that is still to be ended on the server.
    pub(super) fn count(&mut self, outcome: AttemptOutcome) {
        let Some(started) = self.started.take() else { return };
        // Remove the entry first, so that the table is empty when the gauge is zero.
        if let Some(lsid) = self.lsid {
            self.metrics.table.remove(lsid);
        }
        self.metrics.count_end(outcome, started.elapsed());
    }
}

impl Drop for AttemptRecorder {
    fn drop(&mut self) {
        self.count(self.dropped);
    }
}

/// The identity of a transaction in the server's log and in `$currentOp`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Identity {
    pub(super) lsid: Option<Lsid>,
    pub(super) txn_number: Option<i64>,
}
