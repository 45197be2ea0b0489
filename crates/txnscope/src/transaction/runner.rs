//! The runner: it owns every attempt at a transaction, and so can say what became of each.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern};
use quanta::Instant as Clock;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use txnscope_catalog::UNSCOPED;

use super::attempt::{Attempt, Identity, Transaction, Worked};
use super::books::{AttemptOutcome, Books, Unbegun};
use super::classify::{
    MAX_TIME_MS_EXPIRED, Reached, code, is_write_concern_error, reached, was_aborted_by_the_work,
    was_ended_by_the_work,
};
use super::error::{Abort, ApplicationError, Cause, Committed, Failure, TransactionError};
use super::event;
use super::pause::Pauses;
use super::queue::{Full, Key, Queues, Turn};
use crate::scope::{self, Scope};
use crate::{ClassifyResponse, OperationName, Reason, Registry, ResponseFuture, Verdict};

/// Runs work in transactions, and counts each attempt. See the [module's page](crate::transaction) for an example.
///
/// Cheap to clone; clones share their queues.
#[derive(Clone)]
pub struct TransactionRunner {
    pub(super) shared: Arc<Shared>,
    options: Options,
}

/// What all clones of a runner have in common.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) queues: Arc<Queues>,
    /// What ends transactions aside from their requests.
    pub(super) tasks: TaskTracker,
}

#[derive(Debug, Clone)]
struct Options {
    transaction: TransactionOptions,
    time_limit: Duration,
    max_attempts: u32,
    max_queue: usize,
}

impl TransactionRunner {
    /// The most time that a transaction is tried for, as the driver's own convenient API has it.
    pub const TIME_LIMIT: Duration = Duration::from_secs(120);

    /// A runner on that client, counting into the process's recorder. Reads are of a snapshot, commits wait for a
    /// majority.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self::with_registry(client, Registry::global())
    }

    /// A runner that counts into that registry. Inside an operation, it counts where the operation does.
    #[must_use]
    pub fn with_registry(client: &Client, registry: Registry) -> Self {
        registry.keep_books();
        let transaction = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        Self {
            shared: Arc::new(Shared {
                client: client.clone(),
                registry,
                queues: Arc::default(),
                tasks: TaskTracker::new(),
            }),
            options: Options {
                transaction,
                time_limit: Self::TIME_LIMIT,
                max_attempts: u32::MAX,
                max_queue: 1_000,
            },
        }
    }

    /// What transactions read: by default, a snapshot.
    #[must_use]
    pub fn read_concern(mut self, read_concern: ReadConcern) -> Self {
        self.options.transaction.read_concern = Some(read_concern);
        self
    }

    /// How widely a commit is written before it is reported: by default, on a majority.
    #[must_use]
    pub fn write_concern(mut self, write_concern: WriteConcern) -> Self {
        self.options.transaction.write_concern = Some(write_concern);
        self
    }

    /// How long a transaction is tried for, queues and pauses included: by default, 120 s. A
    /// [deadline](Run::deadline) that comes earlier wins.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.options.time_limit = limit;
        self
    }

    /// How often a transaction is tried at most: by default, until the time is over. At least once.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = attempts.max(1);
        self
    }

    /// How many transactions may wait for one [key](Run::contend_on): by default, 1,000. The next one fails at once
    /// with the reason `queue_full`.
    #[must_use]
    pub fn max_queue(mut self, transactions: usize) -> Self {
        self.options.max_queue = transactions;
        self
    }

    /// Runs the work of the current operation in a transaction.
    ///
    /// As [`Run::run`], without options of its own.
    ///
    /// # Errors
    ///
    /// As [`Run::run`].
    pub async fn run<T, E, F, U>(&self, work: F) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        self.transaction().run(work).await
    }

    /// Runs work of that name in a transaction: a job that serves no request, and is an operation of its own. The name
    /// must come from a bounded set. Inside of another operation, only the transaction bears the name.
    ///
    /// # Errors
    ///
    /// As [`Run::run`].
    pub async fn run_as<T, E, F, U>(
        &self,
        operation: &'static str,
        work: F,
    ) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        let run = self.transaction().named(operation).run(work);
        if scope::metrics().is_some() {
            return run.await;
        }
        let job = Scope::admit(self.shared.registry.resolve(OperationName::named(operation)));
        ResponseFuture::counted(job, run, Job).await
    }

    /// A transaction with options of its own.
    pub fn transaction(&self) -> Run<'_> {
        Run { runner: self, operation: None, deadline: None, keys: Vec::new() }
    }

    /// A transaction that takes turns, in this process, with those of the same key. See [`Run::contend_on`].
    pub fn contend_on(&self, key: impl Hash) -> Run<'_> {
        self.transaction().contend_on(key)
    }

    /// The table of this process's open transactions.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.shared.registry
    }

    /// Waits until every transaction that a dropped request left has been ended. For an orderly shutdown.
    pub async fn settled(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }

    /// How many transactions are being ended aside from their requests.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.shared.tasks.len()
    }
}

impl fmt::Debug for TransactionRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionRunner").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What became of a job is what became of its transaction.
struct Job;

impl<T, E> ClassifyResponse<Committed<T>, TransactionError<E>> for Job {
    fn response(&self, _: &Committed<T>) -> Verdict {
        Verdict::succeeded()
    }

    fn error(&self, error: &TransactionError<E>) -> Verdict {
        error.verdict()
    }
}

/// A transaction that is about to be run. Made by [`TransactionRunner::transaction`].
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Run<'a> {
    runner: &'a TransactionRunner,
    operation: Option<&'static str>,
    deadline: Option<Instant>,
    keys: Vec<Key>,
}

impl Run<'_> {
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
    pub fn contend_on(mut self, key: impl Hash) -> Self {
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
    /// taken back: that task learns its result.
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
        let mut course = Course::begin(&self);
        let _turns = match course.turns(&self).await {
            Ok(turns) => turns,
            Err(cause) => return Err(course.failed(cause)),
        };
        loop {
            let ended = course.attempt(&self.runner.shared, &self.runner.options, &mut work).await;
            match ended {
                Ended::Committed(value) => return Ok(Committed { value, attempts: course.attempts }),
                Ended::Rejected(error) => return Err(course.rejected(error)),
                Ended::Failed(cause) => return Err(course.failed(cause)),
                Ended::Unknown(cause) => return Err(course.unknown(cause)),
                Ended::Again(error) => {
                    let out_of_attempts = course.attempts >= self.runner.options.max_attempts;
                    if out_of_attempts {
                        return Err(course.failed(Cause::Driver(error)));
                    }
                    event::to_be_tried_again(&course, &error);
                    if !course.pauses.take(course.books).await {
                        return Err(course.failed(Cause::Deadline(Some(error))));
                    }
                    course.last = Some(error);
                }
            }
        }
    }
}

/// How one attempt ended.
enum Ended<T, E> {
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
    pauses: Pauses,
    /// Why the attempt before was given up.
    last: Option<Error>,
}

impl Course {
    fn begin(run: &Run<'_>) -> Self {
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

    async fn turns<E>(&self, run: &Run<'_>) -> Result<Vec<Turn>, Cause<E>> {
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

    async fn attempt<T, E, F, U>(
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

    fn rejected<E: ApplicationError>(self, error: E) -> TransactionError<E> {
        let reason = error.reason();
        scope::note_reason(reason);
        TransactionError::Rejected { error, reason }
    }

    fn failed<E: ApplicationError>(self, cause: Cause<E>) -> TransactionError<E> {
        let failure = self.failure(cause);
        scope::note_reason(failure.reason);
        event::failed(&self, &failure);
        TransactionError::Failed(failure)
    }

    fn unknown<E: ApplicationError>(self, cause: Cause<E>) -> TransactionError<E> {
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
