//! One call of the runner: its options, and the loop over attempts.

use std::hash::Hash;

use tokio::time::Instant;

use super::attempt::Transaction;
use super::attempt_failure::AttemptFailure;
use super::error::{Abort, ApplicationError, Committed, TransactionError};
use super::key::Key;
use super::log;
use super::retry_loop::{AttemptResult, RetryLoop};
use super::runner::TransactionRunner;

/// A transaction to be run. Created by [`TransactionRunner::transaction`].
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

    /// Counts the transaction under this name instead of the current operation's. The name must come from a bounded
    /// set.
    pub fn named(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Sets the deadline after which the transaction is not retried. The earliest of several deadlines applies.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |known| known.min(deadline)));
        self
    }

    /// Serializes this transaction with the transactions of the same key, in this process and in the order of
    /// arrival. Use it for transactions that write the same document and would only conflict. Call it once for each
    /// such document; give keys of different kinds of things different types or a prefix.
    ///
    /// A waiting transaction holds neither a session nor a connection, and counts in
    /// `mongodb_client_transactions_queued`. The queue is local to this process: conflicts with other processes are
    /// still detected by the server, and the transaction is retried.
    ///
    /// Several keys of one transaction are acquired in one global order, so that transactions do not deadlock. In the
    /// callback of another transaction, waiting for a key that can only become free after this transaction fails at
    /// once with the reason `deadlock`: set all keys on the outermost transaction.
    pub fn serialize_on(mut self, key: impl Hash) -> Self {
        self.keys.push(Key::of(&key));
        self
    }

    /// Runs the callback in a transaction, and retries on transient errors, until the transaction commits, the
    /// application rejects it, or the deadline passes.
    ///
    /// The callback is called once for each attempt, and the changes of an attempt are undone before the next one
    /// starts. Outside of the transaction the callback must therefore do nothing that may not be repeated. An `async`
    /// closure that borrows is sufficient; it needs no `move`.
    ///
    /// A statement without `.session(&mut tx)` is not part of the transaction. A callback without any statement in
    /// the transaction is logged as a warning. A nested transaction that writes the same document as the outer one is
    /// retried for the whole time limit, because the outer transaction does not end before it; this is logged as a
    /// warning.
    ///
    /// # Errors
    ///
    /// [`Rejected`](TransactionError::Rejected) if the application rejected the transaction,
    /// [`Failed`](TransactionError::Failed) if nothing was changed for another reason,
    /// [`CommitUnknown`](TransactionError::CommitUnknown) if changes may have been committed.
    ///
    /// # Cancellation
    ///
    /// No open transaction remains if the future is dropped at any await point or the callback panics: a background
    /// cleanup ends the transaction, which counts as `aborted` with the reason `cancelled` or `panic`. A commit that
    /// was sent is not undone: the background cleanup resolves its result. The same holds for a callback that
    /// abandons a statement, regardless of its result. The caller does not wait for the cleanup; see
    /// [`wait_idle`](TransactionRunner::wait_idle).
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub async fn run<T, E, F, U>(self, mut callback: F) -> Result<Committed<T>, TransactionError<E>>
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
            let ended =
                retry_loop.run_attempt(&self.runner.shared, &self.runner.options, &mut callback).await;
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
