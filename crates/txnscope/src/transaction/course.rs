//! One run, attempt by attempt: what an error means for the next one, and what is counted of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use quanta::Instant as Clock;
use tokio::time::{Instant, timeout_at};
use txnscope_catalog::UNSCOPED;

use super::attempt::{Attempt, Transaction, Worked};
use super::books::{AttemptOutcome, Books, Unbegun};
use super::builder::TransactionBuilder;
use super::classify::{
    MAX_TIME_MS_EXPIRED, NO_SUCH_TRANSACTION, code, is_write_concern_error, was_aborted_by_the_work,
    was_ended_by_the_work,
};
use super::error::{Abort, ApplicationError, Cause, Failure, TransactionError};
use super::event;
use super::nest::Nest;
use super::pause::Pauses;
use super::queue::{Refused, Turn};
use super::runner::{Options, Shared};
use super::tally::Identity;
use super::why::{Then, Why};
use crate::scope;
use crate::{OperationName, Reason};

/// How one attempt ended.
pub(super) enum Ended<T, E> {
    Committed(T),
    Rejected(E, Reason),
    /// The whole transaction may be tried again.
    Again(Why<E>),
    Failed(Why<E>),
    Unknown(Why<E>),
}

/// One run, from its first attempt to its end.
pub(super) struct Course {
    pub(super) books: &'static Books,
    /// The run, for those that run in its work.
    nest: Arc<Nest>,
    /// What it has of the queues for its keys.
    turns: Vec<Turn>,
    pub(super) attempts: u32,
    /// Of the last attempt.
    pub(super) identity: Identity,
    began: Clock,
    pub(super) pauses: Pauses,
    /// Why the attempt before was given up.
    pub(super) last: Option<Error>,
    /// What its notes in the scope are known by.
    number: u64,
}

impl Course {
    pub(super) fn begin(run: &TransactionBuilder<'_>) -> Self {
        let operation = match (run.operation, scope::metrics()) {
            (None, Some(current)) => current,
            (name, _) => run.runner.shared.registry.resolve(OperationName::named(name.unwrap_or(UNSCOPED))),
        };
        let limit = after(run.runner.options.time_limit);
        let books = operation.books();
        Self {
            books,
            nest: Nest::new(books),
            turns: Vec::new(),
            attempts: 0,
            identity: Identity::default(),
            began: Clock::now(),
            pauses: Pauses::new(run.deadline.map_or(limit, |deadline| deadline.min(limit))),
            last: None,
            number: number(),
        }
    }

    pub(super) async fn take_turns<E>(&mut self, run: &TransactionBuilder<'_>) -> Result<(), Cause<E>> {
        if run.keys.is_empty() {
            return Ok(());
        }
        let turns = run.runner.shared.queues.turn(&run.keys, run.runner.options.max_queue, &self.nest);
        match timeout_at(self.pauses.until, turns).await {
            Ok(Ok(turns)) => self.turns = turns,
            Ok(Err(Refused::Full)) => return Err(Cause::QueueFull),
            Ok(Err(Refused::Deadlock(deadlock))) => return Err(Cause::Deadlock(deadlock)),
            Err(_) => return Err(Cause::Deadline(None)),
        }
        Ok(())
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
        if Instant::now() >= until {
            // A timer that is due is not heard before the runtime looks at its timers, which may be after a quick statement.
            return Ended::Failed(self.late());
        }
        let mut transaction = options.transaction.clone();
        transaction.max_commit_time = Some(max_commit_time(until));
        self.attempts += 1;
        let begun = timeout_at(until, Attempt::begin(shared, self.books, transaction)).await;
        let (attempt, transaction) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return Ended::Failed(Why::of(Abort::Driver(error))),
            Err(_) => return Ended::Failed(self.late()),
        };
        let worked = match timeout_at(until, self.nest.scope(work(transaction))).await {
            Ok(result) => timeout_at(until, attempt.worked()).await.map(|worked| (result, worked)),
            Err(late) => {
                attempt.give_up(Reason::TIMEOUT);
                Err(late)
            }
        };
        let Ok((result, mut worked)) = worked else { return Ended::Failed(self.late()) };
        self.identity = worked.live().tally.identity();
        if !worked.live().tally.has_begun() {
            event::without_a_statement(self);
        }
        match result {
            Ok(value) => self.commit(worked, value).await,
            Err(abort) => self.abort(worked, Why::of(abort), options),
        }
    }

    /// The work has given up. Nobody waits for what is then to be done on the server.
    fn abort<T, E: ApplicationError>(
        &mut self,
        mut worked: Worked,
        mut why: Why<E>,
        options: &Options,
    ) -> Ended<T, E> {
        if why.is_lost_to(worked.live()) {
            why.then = Then::Again;
        }
        if why.then != Then::Reject {
            self.note(why.reason);
        }
        let is_the_last = why.then != Then::Again || self.attempts >= options.max_attempts;
        let turns = if is_the_last { std::mem::take(&mut self.turns) } else { Vec::new() };
        if worked.abort_aside(why.driver_error(), why.reason, turns) {
            return Ended::Unknown(why);
        }
        match (why.then, why.cause) {
            (Then::Reject, Cause::Application(error)) => Ended::Rejected(error, why.reason),
            (Then::Again, cause) => Ended::Again(Why { cause, ..why }),
            (Then::Fail | Then::Reject, cause) => Ended::Failed(Why { cause, ..why }),
        }
    }

    /// The time is over.
    fn late<E>(&mut self) -> Why<E> {
        Why::late(self.last.take())
    }

    /// Why an attempt failed is why the operation does, if it does: unless the transaction commits after all.
    fn note(&self, reason: Reason) {
        scope::note_reason_of(self.number, reason);
    }

    /// It has committed: what was noted of it is of no account any more.
    fn forget(&self) {
        scope::forget_reason_of(self.number);
    }

    /// Sends the commit until its result is known.
    async fn commit<T, E: ApplicationError>(&mut self, mut worked: Worked, value: T) -> Ended<T, E> {
        if !worked.live().tally.has_begun() {
            // No statement, no transaction: there is nothing to commit.
            worked.end(AttemptOutcome::Committed);
            return Ended::Committed(value);
        }
        if worked.live().was_never_answered() && !worked.live().has_sent_nothing() {
            // The driver would say that it has committed, and send nothing.
            worked.give_up(Reason::CANCELLED);
            return Ended::Failed(Why::unanswered());
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
                        event::without_a_statement(self);
                    } else {
                        worked.end(AttemptOutcome::Committed);
                    }
                    self.forget();
                    break Ended::Committed(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    worked.settle_aside(true);
                    break Ended::Unknown(Why::late(None));
                }
            };
            let reason = Reason::from_error(&error);
            self.note(reason);
            if was_ended_by_the_work(&error) {
                break self.ended_by_the_work(worked, error);
            }
            if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                let tally = &worked.live().tally;
                if code(&error) == Some(NO_SUCH_TRANSACTION) && !tally.has_given_up_a_statement() {
                    // It has ended it, or has never begun it, because of an error that the work kept to itself.
                    tally.lost();
                }
                worked.end(AttemptOutcome::Aborted(reason));
                break Ended::Again(Why::of(Abort::Driver(error)));
            }
            if is_write_concern_error(&error) && !error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
                // It is committed, and may be rolled back.
                worked.end(AttemptOutcome::Unknown);
                break Ended::Unknown(Why::of(Abort::Driver(error)));
            }
            // An overloaded server has refused this commit; what became of one before it, which the driver sent by itself,
            // the driver does not say.
            if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
                || matches!(reason, Reason::INTERRUPTED | Reason::OVERLOADED)
            {
                // A server whose time was over would only take as long again.
                if code(&error) != Some(MAX_TIME_MS_EXPIRED) && self.pauses.take(self.books).await {
                    self.books.commit_retries.increment(1);
                    continue;
                }
                worked.settle_aside(true);
                break Ended::Unknown(Why::of(Abort::Driver(error)));
            }
            // The driver sends no abort after a commit. Most such errors end the transaction on the server, not all.
            worked.give_up(reason);
            break Ended::Failed(Why::of(Abort::Driver(error)));
        };
        self.books.commit_duration.record(began.elapsed().as_secs_f64());
        ended
    }

    /// The work has ended the transaction through the session, and the driver has sent no commit.
    fn ended_by_the_work<T, E: ApplicationError>(&self, mut worked: Worked, error: Error) -> Ended<T, E> {
        let unsent = worked.live().was_never_answered();
        if unsent {
            self.books.unbegun(Unbegun::Unsent);
        }
        if unsent || was_aborted_by_the_work(&error) {
            worked.end(AttemptOutcome::Aborted(Reason::from_error(&error)));
            return Ended::Failed(Why::of(Abort::Driver(error)));
        }
        // It may just as well have committed it.
        worked.end(AttemptOutcome::Unknown);
        Ended::Unknown(Why::of(Abort::Driver(error)))
    }

    pub(super) fn rejected<E>(self, error: E, reason: Reason) -> TransactionError<E> {
        self.note(reason);
        TransactionError::Rejected { error, reason }
    }

    pub(super) fn failed<E>(self, why: Why<E>) -> TransactionError<E> {
        let failure = self.failure(why);
        self.note(failure.reason);
        event::failed(&self, &failure);
        TransactionError::Failed(failure)
    }

    pub(super) fn unknown<E>(self, why: Why<E>) -> TransactionError<E> {
        let failure = self.failure(why);
        self.note(Reason::COMMIT_UNKNOWN);
        event::unknown(&self, &failure);
        TransactionError::CommitUnknown(failure)
    }

    fn failure<E>(&self, why: Why<E>) -> Failure<E> {
        let Why { cause, inside, reason, .. } = why;
        Failure { reason, attempts: self.attempts, elapsed: self.began.elapsed(), cause, inside }
    }

    /// Whether it is in the work of another run, which it may be in the way of.
    pub(super) fn is_inside_of_another(&self) -> bool {
        self.nest.is_inside_of_another()
    }

    /// `true` the first time.
    pub(super) fn warns(&self) -> bool {
        self.nest.warns()
    }
}

/// Of a run, even. Those of the listener's sessions are odd.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(2, Relaxed)
}

/// So much time from now, or as much as a clock can count.
fn after(limit: Duration) -> Instant {
    /// As long as tokio sleeps at most.
    const FOREVER: Duration = Duration::from_secs(86_400 * 365 * 30);
    let now = Instant::now();
    now.checked_add(limit.min(FOREVER)).unwrap_or(now)
}

/// What the server may take for a commit. It takes no more than an `i32` of milliseconds.
fn max_commit_time(until: Instant) -> Duration {
    const MOST: Duration = Duration::from_millis(i32::MAX as u64);
    until.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), MOST)
}
