//! One call of the runner: what it was told, and the loop over attempts.

use std::hash::Hash;

use tokio::time::Instant;

use super::attempt::Transaction;
use super::attempt_failure::AttemptFailure;
use super::error::{Abort, ApplicationError, Committed, TransactionError};
use super::key::Key;
use super::log;
use super::retry_loop::{AttemptResult, RetryLoop};
use super::runner::TransactionRunner;

/// A transaction that is about to be run. Made by [`TransactionRunner::transaction`].
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct TransactionBuilder<'a> {
    pub(super) runner: &'a TransactionRunner,
    pub(super) operation: Option<&'static str>,
    pub(super) deadline: Option<Instant>,
    pub(super) keys: Vec<Key>,
}

impl<'a> TransactionBuilder<'a> {
    pub(super) fn new(runner: &'a TransactionRunner) -> Self {
        Self { runner, operation: None, deadline: None, keys: Vec::new() }
    }

    /// Counts it under that name in place of the current operation's. The name must come from a bounded set.
    pub fn named(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Gives up at that time: what the caller has left.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |known| known.min(deadline)));
        self
    }

    /// Takes turns, in this process and in the order of arrival, with the transactions of the same key: those that
    /// write the same document, and would only undo each other's work. Say it once for each such document; keys of
    /// different kinds of things want different types or a prefix.
    ///
    /// What waits holds neither a session nor a connection, and counts in
    /// `mongodb_client_transactions_queued`. Other processes know nothing of the queue: with them the server still
    /// decides, and the work is tried again.
    ///
    /// Several keys of one run are taken in one order that is the same for every run, so that no two wait for each
    /// other. In the work of another run, a key that can only become free after this run fails at once, with the reason
    /// `deadlock`: name all keys at the outermost run.
    pub fn serialize_on(mut self, key: impl Hash) -> Self {
        self.keys.push(Key::of(&key));
        self
    }

    /// Runs the work in a transaction, and again where the server says that this may help, until it commits, the
    /// application says no, or the time is over.
    ///
    /// The work is called once for each attempt, and what an attempt did is undone before the next one begins; so it
    /// must do nothing outside of the transaction that may not be done twice. An `async` closure that borrows does; it
    /// wants no `move`.
    ///
    /// A statement without `.session(&mut tx)` is none of the transaction. Work that ends without any is warned of. A run
    /// inside the work of another one that writes the same document is tried again for the whole time limit, because
    /// the outer one does not end before it; the log warns of that.
    ///
    /// # Errors
    ///
    /// [`Rejected`](TransactionError::Rejected) if the application said no, [`Failed`](TransactionError::Failed) if
    /// nothing was changed for another reason, [`CommitUnknown`](TransactionError::CommitUnknown) if it may have
    /// been.
    ///
    /// # Cancellation
    ///
    /// Dropped at any point, and also if the work panics, it leaves no transaction open: what was begun is ended by a
    /// task of its own, and counts as `aborted` with the reason `cancelled` or `panic`. A commit that was sent is not
    /// taken back: that task learns its result. Nor does work that gives up a statement by itself leave one open, whatever
    /// it returns then. Nobody waits for that task; see [`wait_idle`](TransactionRunner::wait_idle).
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub async fn run<T, E, F, U>(self, mut work: F) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        let mut retry_loop = RetryLoop::begin(&self);
        if let Err(cause) = retry_loop.acquire_keys(&self).await {
            return Err(retry_loop.failed(AttemptFailure::no_permit(cause)));
        }
        loop {
            let ended = retry_loop.run_attempt(&self.runner.shared, &self.runner.options, &mut work).await;
            let failure = match ended {
                AttemptResult::Committed(value) => {
                    return Ok(Committed { value, attempts: retry_loop.attempts });
                }
                AttemptResult::Rejected(error, reason) => return Err(retry_loop.rejected(error, reason)),
                AttemptResult::Failed(failure) => return Err(retry_loop.failed(failure)),
                AttemptResult::Unknown(failure) => return Err(retry_loop.unknown(failure)),
                AttemptResult::Retry(failure) => failure,
            };
            if retry_loop.attempts >= self.runner.options.max_attempts {
                return Err(retry_loop.failed(failure));
            }
            log::retry(&retry_loop, failure.reason, failure.driver_error());
            if !retry_loop.backoff.wait(retry_loop.metrics).await {
                return Err(retry_loop.failed(failure.without_time_left()));
            }
            retry_loop.last = failure.into_driver_error();
        }
    }
}
