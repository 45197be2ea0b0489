//! One run, attempt by attempt: what an error means for the next one, and what is counted of each.

use std::sync::Arc;
use std::time::Duration;

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use quanta::Instant as Clock;
use tokio::time::{Instant, timeout_at};
use txnscope_catalog::UNSCOPED;

use super::attempt::{Attempt, Transaction, Worked};
use super::books::{AttemptOutcome, Books, Unbegun};
use super::classify::{
    MAX_TIME_MS_EXPIRED, Reached, code, is_write_concern_error, reached, was_aborted_by_the_work,
    was_ended_by_the_work,
};
use super::error::{Abort, ApplicationError, Cause, Failure, TransactionError};
use super::event;
use super::pause::Pauses;
use super::queue::{Full, Turn};
use super::run::Run;
use super::runner::{Options, Shared};
use super::tally::Identity;
use crate::scope;
use crate::{OperationName, Reason};

/// How one attempt ended.
pub(super) enum Ended<T, E> {
    Committed(T),
    Rejected(E),
    /// The whole transaction may be tried again.
    Again(Error),
    Failed(Cause<E>),
    Unknown(Cause<E>),
}

/// One run, from its first attempt to its end.
pub(super) struct Course {
    pub(super) books: &'static Books,
    pub(super) attempts: u32,
    /// Of the last attempt.
    pub(super) identity: Identity,
    began: Clock,
    pub(super) pauses: Pauses,
    /// Why the attempt before was given up.
    pub(super) last: Option<Error>,
}

impl Course {
    pub(super) fn begin(run: &Run<'_>) -> Self {
        let operation = match (run.operation, scope::metrics()) {
            (None, Some(current)) => current,
            (name, _) => run.runner.shared.registry.resolve(OperationName::named(name.unwrap_or(UNSCOPED))),
        };
        let limit = Instant::now() + run.runner.options.time_limit;
        Self {
            books: operation.books(),
            attempts: 0,
            identity: Identity::default(),
            began: Clock::now(),
            pauses: Pauses::new(run.deadline.map_or(limit, |deadline| deadline.min(limit))),
            last: None,
        }
    }

    pub(super) async fn turns<E>(&self, run: &Run<'_>) -> Result<Vec<Turn>, Cause<E>> {
        if run.keys.is_empty() {
            return Ok(Vec::new());
        }
        let turns = run.runner.shared.queues.turn(&run.keys, run.runner.options.max_queue, self.books);
        match timeout_at(self.pauses.until, turns).await {
            Ok(Ok(turns)) => Ok(turns),
            Ok(Err(Full)) => Err(Cause::QueueFull),
            Err(_) => Err(Cause::Deadline(None)),
        }
    }

    pub(super) async fn attempt<T, E, F, U>(
        &mut self,
        shared: &Arc<Shared>,
        options: &Options,
        work: &mut F,
    ) -> Ended<T, E>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        let until = self.pauses.until;
        let mut transaction = options.transaction.clone();
        transaction.max_commit_time =
            Some(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        self.attempts += 1;
        let begun = timeout_at(until, Attempt::begin(shared, self.books, transaction)).await;
        let (attempt, transaction) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return Ended::Failed(Cause::Driver(error)),
            Err(_) => return Ended::Failed(Cause::Deadline(self.last.take())),
        };
        let worked = match timeout_at(until, work(transaction)).await {
            Ok(result) => timeout_at(until, attempt.worked()).await.map(|worked| (result, worked)),
            Err(late) => {
                attempt.give_up(Reason::TIMEOUT);
                Err(late)
            }
        };
        let Ok((result, mut worked)) = worked else {
            return Ended::Failed(Cause::Deadline(self.last.take()));
        };
        self.identity = worked.live().tally.identity();
        match result {
            Ok(value) => self.commit(worked, value).await,
            Err(Abort::Application(error)) => {
                let abort = worked.live().session.abort_transaction();
                let in_time = timeout_at(until, abort).await.is_ok();
                if in_time && !worked.live().lost_an_answer() {
                    worked.end(AttemptOutcome::Aborted(error.reason()));
                } else {
                    worked.give_up(error.reason());
                }
                if error.is_fault() {
                    Ended::Failed(Cause::Application(error))
                } else {
                    Ended::Rejected(error)
                }
            }
            Err(Abort::Driver(error)) => {
                let reason = Reason::of(&error);
                scope::note_reason(reason);
                if reached(&error) == Reached::Perhaps {
                    // The connection is lost, the transaction perhaps not.
                    worked.give_up(reason);
                } else {
                    worked.live().tally.failed_with(&error);
                    worked.abort_aside(reason);
                }
                if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                    Ended::Again(error)
                } else {
                    Ended::Failed(Cause::Driver(error))
                }
            }
        }
    }

    /// Sends the commit until its result is known.
    async fn commit<T, E>(&mut self, mut worked: Worked, value: T) -> Ended<T, E> {
        if !worked.live().tally.has_begun() {
            // No statement, no transaction: there is nothing to commit.
            worked.end(AttemptOutcome::Committed);
            return Ended::Committed(value);
        }
        worked.committing();
        let began = Clock::now();
        let ended = loop {
            let commit = worked.live().session.commit_transaction();
            let error = match timeout_at(self.pauses.until, commit).await {
                Ok(Ok(())) => {
                    if worked.live().was_never_answered() {
                        // The session was asked for and not used, or the driver refused what it was used for.
                        self.books.unbegun(Unbegun::Unsent);
                        worked.end(AttemptOutcome::Aborted(Reason::OTHER));
                    } else {
                        worked.end(AttemptOutcome::Committed);
                    }
                    break Ended::Committed(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    worked.settle_aside(true);
                    break Ended::Unknown(Cause::Deadline(None));
                }
            };
            let reason = Reason::of(&error);
            scope::note_reason(reason);
            if was_ended_by_the_work(&error) {
                break self.ended_by_the_work(worked, error);
            }
            if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                worked.end(AttemptOutcome::Aborted(reason));
                break Ended::Again(error);
            }
            if is_write_concern_error(&error) && !error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
                // It is committed, and may be rolled back.
                worked.end(AttemptOutcome::Unknown);
                break Ended::Unknown(Cause::Driver(error));
            }
            if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) || reason == Reason::INTERRUPTED {
                // A server whose time was over would only take as long again.
                if code(&error) != Some(MAX_TIME_MS_EXPIRED) && self.pauses.take(self.books).await {
                    self.books.commit_retries.increment(1);
                    continue;
                }
                worked.settle_aside(true);
                break Ended::Unknown(Cause::Driver(error));
            }
            // The driver sends no abort after a commit. Most such errors end the transaction on the server, not all.
            worked.give_up(reason);
            break Ended::Failed(Cause::Driver(error));
        };
        self.books.commit_duration.record(began.elapsed().as_secs_f64());
        ended
    }

    /// The work has ended the transaction through the session, and the driver has sent no commit.
    fn ended_by_the_work<T, E>(&self, mut worked: Worked, error: Error) -> Ended<T, E> {
        let unsent = worked.live().was_never_answered();
        if unsent {
            self.books.unbegun(Unbegun::Unsent);
        }
        if unsent || was_aborted_by_the_work(&error) {
            worked.end(AttemptOutcome::Aborted(Reason::of(&error)));
            return Ended::Failed(Cause::Driver(error));
        }
        // It may just as well have committed it.
        worked.end(AttemptOutcome::Unknown);
        Ended::Unknown(Cause::Driver(error))
    }

    pub(super) fn rejected<E: ApplicationError>(self, error: E) -> TransactionError<E> {
        let reason = error.reason();
        scope::note_reason(reason);
        TransactionError::Rejected { error, reason }
    }

    pub(super) fn failed<E: ApplicationError>(self, cause: Cause<E>) -> TransactionError<E> {
        let failure = self.failure(cause);
        scope::note_reason(failure.reason);
        event::failed(&self, &failure);
        TransactionError::Failed(failure)
    }

    pub(super) fn unknown<E: ApplicationError>(self, cause: Cause<E>) -> TransactionError<E> {
        let failure = self.failure(cause);
        scope::note_reason(Reason::COMMIT_UNKNOWN);
        event::unknown(&self, &failure);
        TransactionError::CommitUnknown(failure)
    }

    fn failure<E: ApplicationError>(&self, cause: Cause<E>) -> Failure<E> {
        let reason = match &cause {
            Cause::Driver(error) | Cause::Deadline(Some(error)) => Reason::of(error),
            Cause::Deadline(None) => Reason::TIMEOUT,
            Cause::Application(error) => error.reason(),
            Cause::QueueFull => Reason::QUEUE_FULL,
        };
        Failure { reason, attempts: self.attempts, elapsed: self.began.elapsed(), cause }
    }
}
