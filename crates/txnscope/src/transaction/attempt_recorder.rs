//! What is counted of one attempt, exactly once.

use mongodb::ClientSession;
use mongodb::error::Error;
use quanta::Instant;

use super::driver_error::{NO_SUCH_TRANSACTION, code};
use super::first_statement::{ServerStarted, server_started};
use super::metrics::{AttemptOutcome, NotStartedCause, TransactionMetrics};
use super::open_transactions::{Lsid, Owner};
use super::session_debug::SessionState;
use crate::Reason;

/// What is counted of one attempt, exactly once, whatever becomes of it: if nobody says how it ended, its drop does.
pub(super) struct AttemptRecorder {
    pub(super) metrics: &'static TransactionMetrics,
    lsid: Option<Lsid>,
    /// What the driver said of the session before its first statement.
    before: SessionState,
    /// When the first statement was handed to the driver. Without one there is no transaction, and nothing is counted.
    started: Option<Instant>,
    /// Whether the server had answered before the last statement was handed over.
    answered: bool,
    /// Whether a statement was sent, never answered, and followed by another one: what the server then says is no answer to
    /// the one before, which may still be under way.
    abandoned_statement: bool,
    /// What it means if this is dropped.
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

    /// A statement is about to be handed to the driver.
    pub(super) fn statement(&mut self, session: &ClientSession) {
        // The session is this attempt's own: it has a time only if the server has answered in it.
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

    /// Whether a statement without an answer may be under way, although a later one was answered.
    pub(super) fn has_abandoned_statement(&self) -> bool {
        self.abandoned_statement
    }

    pub(super) fn has_started(&self) -> bool {
        self.started.is_some()
    }

    /// What the driver said of the session before its first statement.
    pub(super) fn before(&self) -> SessionState {
        self.before
    }

    /// For the log.
    pub(super) fn identity(&self) -> Identity {
        Identity { lsid: self.lsid, txn_number: self.before.txn_number() }
    }

    /// The server has answered, the last time with this error, and that was the end of the attempt.
    pub(super) fn record_error(&self, error: &Error) {
        if self.started.is_none() {
            return;
        }
        match server_started(error) {
            // It is the answer to the last statement, and that was the first that was answered.
            ServerStarted::No if !self.answered => self.metrics.count_not_started(NotStartedCause::Refused),
            // Of a transaction that it never began, and of one that it has ended, the server says the same, also later.
            ServerStarted::Unknown if !self.answered || code(error) == Some(NO_SUCH_TRANSACTION) => {
                self.lost()
            }
            ServerStarted::Yes | ServerStarted::No | ServerStarted::Unknown => {}
        }
    }

    /// It is not known whether the server began it.
    pub(super) fn lost(&self) {
        self.metrics.count_not_started(NotStartedCause::Lost);
    }

    /// Counts how it ended.
    pub(super) fn end(mut self, outcome: AttemptOutcome) {
        self.count(outcome);
    }

    /// The same, of one that is still to be ended on the server.
    pub(super) fn count(&mut self, outcome: AttemptOutcome) {
        let Some(started) = self.started.take() else { return };
        // First out of the table: whoever sees the gauge at zero finds no row.
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

/// What the server's log and `$currentOp` know a transaction by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Identity {
    pub(super) lsid: Option<Lsid>,
    pub(super) txn_number: Option<i64>,
}
