//! What is counted of one attempt, exactly once.

use mongodb::ClientSession;
use mongodb::error::Error;
use quanta::Instant;

use super::begun::{Begun, begun};
use super::books::{AttemptOutcome, Books, Unbegun};
use super::classify::{NO_SUCH_TRANSACTION, code};
use super::driver_session::Account;
use super::open::{Lsid, Owner};
use crate::Reason;

/// What is counted of one attempt, exactly once, whatever becomes of it: if nobody says how it ended, its drop does.
pub(super) struct Tally {
    pub(super) books: &'static Books,
    lsid: Option<Lsid>,
    /// What the driver said of the session before its first statement.
    before: Account,
    /// When the first statement was handed to the driver. Without one there is no transaction, and nothing is counted.
    begun: Option<Instant>,
    /// Whether the server had answered before the last statement was handed over.
    answered: bool,
    /// Whether a statement was sent, never answered, and followed by another one: what the server then says is no answer to
    /// the one before, which may still be under way.
    given_up: bool,
    /// What it means if this is dropped.
    pub(super) dropped: AttemptOutcome,
}

impl Tally {
    pub(super) fn new(books: &'static Books) -> Self {
        Self {
            books,
            lsid: None,
            before: Account::default(),
            begun: None,
            answered: false,
            given_up: false,
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
            self.before = Account::of(session);
            self.lsid = Lsid::of(session.id());
            if let Some(lsid) = self.lsid {
                let (number, operation) = (self.before.txn_number(), self.books.operation());
                self.books.table.insert(lsid, Owner::Runner, number, operation, now);
            }
        } else if !self.answered && !self.given_up {
            self.given_up = !Account::of(session).shows_nothing_sent_since(self.before);
        }
    }

    /// Whether a statement without an answer may be under way, although a later one was answered.
    pub(super) fn has_given_up_a_statement(&self) -> bool {
        self.given_up
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What the driver said of the session before its first statement.
    pub(super) fn before(&self) -> Account {
        self.before
    }

    /// For the log.
    pub(super) fn identity(&self) -> Identity {
        Identity { lsid: self.lsid, txn_number: self.before.txn_number() }
    }

    /// The server has answered, the last time with this error, and that was the end of the attempt.
    pub(super) fn failed_with(&self, error: &Error) {
        if self.begun.is_none() {
            return;
        }
        match begun(error) {
            // It is the answer to the last statement, and that was the first that was answered.
            Begun::No if !self.answered => self.books.unbegun(Unbegun::Refused),
            // Of a transaction that it never began, and of one that it has ended, the server says the same, also later.
            Begun::Perhaps if !self.answered || code(error) == Some(NO_SUCH_TRANSACTION) => self.lost(),
            Begun::Yes | Begun::No | Begun::Perhaps => {}
        }
    }

    /// It is not known whether the server began it.
    pub(super) fn lost(&self) {
        self.books.unbegun(Unbegun::Lost);
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
