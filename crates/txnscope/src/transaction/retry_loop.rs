//! The retry loop of one transaction: the consequence of each error, and the metrics of each attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use quanta::Instant as Clock;
use tokio::time::{Instant, timeout_at};
use txnscope_catalog::UNSCOPED;

use super::attempt::{Attempt, ReadyToCommit, Transaction};
use super::attempt_failure::{AttemptFailure, NextStep};
use super::attempt_recorder::Identity;
use super::backoff::Backoff;
use super::builder::TransactionBuilder;
use super::driver_error::{
    MAX_TIME_MS_EXPIRED, NO_SUCH_TRANSACTION, aborted_by_callback, code, ended_by_callback,
    is_write_concern_error,
};
use super::error::{Abort, ApplicationError, Cause, Failure, TransactionError};
use super::keyed_queue::{AcquireError, QueuePermit};
use super::log;
use super::metrics::{AttemptOutcome, NotStartedCause, TransactionMetrics};
use super::nesting::RunScope;
use super::runner::{Options, Shared};
use crate::scope;
use crate::{OperationName, Reason};

/// The result of one attempt.
pub(super) enum AttemptResult<T, E> {
    Committed(T),
    Rejected(E, Reason),
    /// The transaction may be retried.
    Retry(AttemptFailure<E>),
    Failed(AttemptFailure<E>),
    Unknown(AttemptFailure<E>),
}

/// The state of one transaction, from its first attempt to its end.
pub(super) struct RetryLoop {
    pub(super) metrics: &'static TransactionMetrics,
    /// The scope that nested transactions see.
    run_scope: Arc<RunScope>,
    /// The permits of the queues for its keys.
    permits: Vec<QueuePermit>,
    pub(super) attempts: u32,
    /// The identity of the last attempt.
    pub(super) identity: Identity,
    began: Clock,
    pub(super) backoff: Backoff,
    /// The driver error of the previous attempt.
    pub(super) last: Option<Error>,
    /// Identifies this transaction's notes in the operation's scope.
    note_id: u64,
}

impl RetryLoop {
    pub(super) fn begin(run: &TransactionBuilder<'_>) -> Self {
        let operation = match (run.operation, scope::metrics()) {
            (None, Some(current)) => current,
            (name, _) => run.runner.shared.registry.resolve(OperationName::named(name.unwrap_or(UNSCOPED))),
        };
        let limit = saturating_deadline(run.runner.options.time_limit);
        let metrics = operation.transaction_metrics();
        Self {
            metrics,
            run_scope: RunScope::new(metrics),
            permits: Vec::new(),
            attempts: 0,
            identity: Identity::default(),
            began: Clock::now(),
            backoff: Backoff::new(run.deadline.map_or(limit, |deadline| deadline.min(limit))),
            last: None,
            note_id: next_note_id(),
        }
    }

    pub(super) async fn acquire_keys<E>(&mut self, run: &TransactionBuilder<'_>) -> Result<(), Cause<E>> {
        if run.keys.is_empty() {
            return Ok(());
        }
        let permits =
            run.runner.shared.queues.acquire(&run.keys, run.runner.options.max_queue, &self.run_scope);
        match timeout_at(self.backoff.deadline, permits).await {
            Ok(Ok(permits)) => self.permits = permits,
            Ok(Err(AcquireError::QueueFull)) => return Err(Cause::QueueFull),
            Ok(Err(AcquireError::Deadlock(deadlock))) => return Err(Cause::Deadlock(deadlock)),
            Err(_) => return Err(Cause::Deadline(None)),
        }
        Ok(())
    }

    pub(super) async fn run_attempt<T, E, F, U>(
        &mut self,
        shared: &Arc<Shared>,
        options: &Options,
        callback: &mut F,
    ) -> AttemptResult<T, E>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        let deadline = self.backoff.deadline;
        if Instant::now() >= deadline {
            // An expired timer does not fire before the runtime polls its timers, which may be after a fast
            // statement.
            return AttemptResult::Failed(self.deadline_exceeded());
        }
        let mut transaction = options.transaction.clone();
        transaction.max_commit_time = Some(max_commit_time(deadline));
        self.attempts += 1;
        let started = timeout_at(deadline, Attempt::begin(shared, self.metrics, transaction)).await;
        let (attempt, transaction) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(error)) => return AttemptResult::Failed(AttemptFailure::of(Abort::Driver(error))),
            Err(_) => return AttemptResult::Failed(self.deadline_exceeded()),
        };
        let ready = match timeout_at(deadline, self.run_scope.scope(callback(transaction))).await {
            Ok(result) => timeout_at(deadline, attempt.finish_work()).await.map(|ready| (result, ready)),
            Err(deadline_exceeded) => {
                attempt.give_up(Reason::TIMEOUT);
                Err(deadline_exceeded)
            }
        };
        let Ok((result, mut ready)) = ready else { return AttemptResult::Failed(self.deadline_exceeded()) };
        self.identity = ready.running().recorder.identity();
        if !ready.running().recorder.has_started() {
            log::no_statement(self);
        }
        match result {
            Ok(value) => self.commit(ready, value).await,
            Err(abort) => self.abort(ready, AttemptFailure::of(abort), options),
        }
    }

    /// Aborts after an error of the callback. The caller does not wait for the abort on the server.
    fn abort<T, E: ApplicationError>(
        &mut self,
        mut ready: ReadyToCommit,
        mut failure: AttemptFailure<E>,
        options: &Options,
    ) -> AttemptResult<T, E> {
        if failure.lost_connection_in(ready.running()) {
            failure.next_step = NextStep::Retry;
        }
        if failure.next_step != NextStep::Reject {
            self.note(failure.reason);
        }
        let is_the_last = failure.next_step != NextStep::Retry || self.attempts >= options.max_attempts;
        let permits = if is_the_last { std::mem::take(&mut self.permits) } else { Vec::new() };
        if ready.abort_in_background(failure.driver_error(), failure.reason, permits) {
            return AttemptResult::Unknown(failure);
        }
        match (failure.next_step, failure.cause) {
            (NextStep::Reject, Cause::Application(error)) => AttemptResult::Rejected(error, failure.reason),
            (NextStep::Retry, cause) => AttemptResult::Retry(AttemptFailure { cause, ..failure }),
            (NextStep::Fail | NextStep::Reject, cause) => {
                AttemptResult::Failed(AttemptFailure { cause, ..failure })
            }
        }
    }

    /// The failure after the deadline.
    fn deadline_exceeded<E>(&mut self) -> AttemptFailure<E> {
        AttemptFailure::deadline_exceeded(self.last.take())
    }

    /// Notes the reason of a failed attempt, which becomes the operation's unless the transaction commits later.
    fn note(&self, reason: Reason) {
        scope::note_reason_of(self.note_id, reason);
    }

    /// Drops the noted reasons, since the transaction has committed.
    fn forget(&self) {
        scope::forget_reason_of(self.note_id);
    }

    /// Sends the commit, and retries it until its result is known.
    async fn commit<T, E: ApplicationError>(
        &mut self,
        mut ready: ReadyToCommit,
        value: T,
    ) -> AttemptResult<T, E> {
        if !ready.running().recorder.has_started() {
            // Without a statement there is no transaction to commit.
            ready.end(AttemptOutcome::Committed);
            return AttemptResult::Committed(value);
        }
        if ready.running().is_unanswered() && !ready.running().has_sent_nothing() {
            // The driver would report a commit without sending one.
            ready.give_up(Reason::CANCELLED);
            return AttemptResult::Failed(AttemptFailure::unanswered());
        }
        ready.committing();
        let began = Clock::now();
        let ended = loop {
            let commit = ready.running().session.commit_transaction();
            let error = match timeout_at(self.backoff.deadline, commit).await {
                Ok(Ok(())) => {
                    if ready.running().is_unanswered() {
                        // The session was requested and not used, or the driver rejected its statement.
                        self.metrics.count_not_started(NotStartedCause::NotSent);
                        ready.end(AttemptOutcome::Aborted(Reason::OTHER));
                        log::no_statement(self);
                    } else {
                        ready.end(AttemptOutcome::Committed);
                    }
                    self.forget();
                    break AttemptResult::Committed(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    ready.resolve_commit_in_background(true);
                    break AttemptResult::Unknown(AttemptFailure::deadline_exceeded(None));
                }
            };
            let reason = Reason::from_error(&error);
            self.note(reason);
            if ended_by_callback(&error) {
                break self.finish_ended_by_callback(ready, error);
            }
            if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                let recorder = &ready.running().recorder;
                if code(&error) == Some(NO_SUCH_TRANSACTION) && !recorder.has_abandoned_statement() {
                    // The server has ended the transaction, or never started it, because of an error that the
                    // callback swallowed.
                    recorder.lost();
                }
                ready.end(AttemptOutcome::Aborted(reason));
                break AttemptResult::Retry(AttemptFailure::of(Abort::Driver(error)));
            }
            if is_write_concern_error(&error) && !error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
                // The transaction is committed, but may be rolled back.
                ready.end(AttemptOutcome::Unknown);
                break AttemptResult::Unknown(AttemptFailure::of(Abort::Driver(error)));
            }
            // An overloaded server has rejected this commit; the driver does not report the result of its own earlier
            // tries.
            if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
                || matches!(reason, Reason::INTERRUPTED | Reason::OVERLOADED)
            {
                // After the server's own time limit a retry would only take as long again.
                if code(&error) != Some(MAX_TIME_MS_EXPIRED) && self.backoff.wait(self.metrics).await {
                    self.metrics.commit_retries.increment(1);
                    continue;
                }
                ready.resolve_commit_in_background(true);
                break AttemptResult::Unknown(AttemptFailure::of(Abort::Driver(error)));
            }
            // The driver sends no abort after a commit. Most such errors end the transaction on the server, but not
            // all.
            ready.give_up(reason);
            break AttemptResult::Failed(AttemptFailure::of(Abort::Driver(error)));
        };
        self.metrics.commit_duration.record(began.elapsed().as_secs_f64());
        ended
    }

    /// The callback has ended the transaction through the session, and the driver has sent no commit.
    fn finish_ended_by_callback<T, E: ApplicationError>(
        &self,
        mut ready: ReadyToCommit,
        error: Error,
    ) -> AttemptResult<T, E> {
        let not_sent = ready.running().is_unanswered();
        if not_sent {
            self.metrics.count_not_started(NotStartedCause::NotSent);
        }
        if not_sent || aborted_by_callback(&error) {
            ready.end(AttemptOutcome::Aborted(Reason::from_error(&error)));
            return AttemptResult::Failed(AttemptFailure::of(Abort::Driver(error)));
        }
        // The callback may have committed the transaction.
        ready.end(AttemptOutcome::Unknown);
        AttemptResult::Unknown(AttemptFailure::of(Abort::Driver(error)))
    }

    pub(super) fn rejected<E>(self, error: E, reason: Reason) -> TransactionError<E> {
        self.note(reason);
        TransactionError::Rejected { error, reason }
    }

    pub(super) fn failed<E>(self, failure: AttemptFailure<E>) -> TransactionError<E> {
        let failure = self.failure(failure);
        self.note(failure.reason);
        log::failed(&self, &failure);
        TransactionError::Failed(failure)
    }

    pub(super) fn unknown<E>(self, failure: AttemptFailure<E>) -> TransactionError<E> {
        let failure = self.failure(failure);
        self.note(Reason::COMMIT_UNKNOWN);
        log::commit_unknown(&self, &failure);
        TransactionError::CommitUnknown(failure)
    }

    fn failure<E>(&self, failure: AttemptFailure<E>) -> Failure<E> {
        let AttemptFailure { cause, wrapped, reason, .. } = failure;
        Failure { reason, attempts: self.attempts, elapsed: self.began.elapsed(), cause, wrapped }
    }

    /// Whether this transaction runs in the callback of another one, which it may block.
    pub(super) fn is_nested(&self) -> bool {
        self.run_scope.is_nested()
    }

    /// Returns `true` the first time.
    pub(super) fn first_warning(&self) -> bool {
        self.run_scope.first_warning()
    }
}

/// Returns an even number. The listener's note ids have the lowest bit set.
fn next_note_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(2, Relaxed)
}

/// Returns the instant after `limit`, saturating.
fn saturating_deadline(limit: Duration) -> Instant {
    /// The longest sleep of tokio.
    const FOREVER: Duration = Duration::from_secs(86_400 * 365 * 30);
    let now = Instant::now();
    now.checked_add(limit.min(FOREVER)).unwrap_or(now)
}

/// Returns the time that the server may take for a commit, which is an `i32` of milliseconds.
fn max_commit_time(deadline: Instant) -> Duration {
    const MAX: Duration = Duration::from_millis(i32::MAX as u64);
    deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), MAX)
}
