//! What is counted of one attempt, exactly once.

use mongodb::ClientSession;
use mongodb::error::Error;
use quanta::Instant;

use super::books::{AttemptOutcome, Books, Unbegun};
use super::classify::{Reached, reached, refuses_to_begin};
use super::driver_session;
use super::open::{Lsid, Owner};
use crate::Reason;

/// What is counted of one attempt, exactly once, whatever becomes of it: if nobody says how it ended, its drop does.
pub(super) struct Tally {
    pub(super) books: &'static Books,
    lsid: Option<Lsid>,
    txn_number: Option<i64>,
    /// When the first statement was handed to the driver. Without one there is no transaction, and nothing is counted.
    begun: Option<Instant>,
    /// Whether the server had answered before the last statement was handed over.
    answered: bool,
    /// What it means if this is dropped.
    pub(super) dropped: AttemptOutcome,
}

impl Tally {
    pub(super) fn new(books: &'static Books) -> Self {
        Self {
            books,
            lsid: None,
            txn_number: None,
            begun: None,
            answered: false,
            dropped: AttemptOutcome::Aborted(Reason::CANCELLED),
        }
    }

    /// A statement is about to be handed to the driver.
    pub(super) fn statement(&mut self, session: &ClientSession) {
        // The session is this attempt's own: it has a time only if the server has answered in it.
        self.answered = session.operation_time().is_some();
        if self.begun.is_none() {
            let now = Instant::now();
            self.begun = Some(now);
            self.books.start();
            self.txn_number = driver_session::txn_number(session);
            self.lsid = Lsid::of(session.id());
            if let Some(lsid) = self.lsid {
                self.books.table.insert(lsid, Owner::Runner, self.txn_number, self.books.operation(), now);
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// For the log.
    pub(super) fn identity(&self) -> Identity {
        Identity { lsid: self.lsid, txn_number: self.txn_number }
    }

    /// The last statement failed, and that was the end of the attempt.
    pub(super) fn failed_with(&self, error: &Error) {
        if self.answered || self.begun.is_none() {
            return;
        }
        match reached(error) {
            Reached::Nobody => self.books.unbegun(Unbegun::Unsent),
            Reached::Perhaps => self.books.unbegun(Unbegun::Lost),
            Reached::Server if refuses_to_begin(error) => self.books.unbegun(Unbegun::Refused),
            Reached::Server => {}
        }
    }

    /// Counts how it ended.
    pub(super) fn end(mut self, outcome: AttemptOutcome) {
        self.count(outcome);
    }

    /// The same, of one that is still to be ended on the server.
    pub(super) fn count(&mut self, outcome: AttemptOutcome) {
        let Some(begun) = self.begun.take() else { return };
        // First out of the table: whoever sees the gauge at zero finds no row.
        if let Some(lsid) = self.lsid {
            self.books.table.remove(lsid);
        }
        self.books.end(outcome, begun.elapsed());
    }
}

impl Drop for Tally {
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
