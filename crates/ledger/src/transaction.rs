//! Runs a piece of work in a MongoDB transaction: start, work, commit, and again where that may help.
//!
//! The transaction belongs to a task of its own and not to the request. A request's future can be dropped at any
//! await; the driver then leaves a transaction whose first statement was under way open on the server, with its
//! locks, until the server's own limit ends it. The task always finishes its statement, looks whether anybody
//! still waits, and ends what it began.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::Either;
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, ClientSession};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use txnscope::{Reason, scope};

use crate::cleanup::Cleanup;
use crate::fault::{Fault, is_away, is_server_selection, is_write_concern_error, reason_of};
use crate::operations::Rejection;

/// What is done in a transaction. It may be tried several times; only one try takes effect.
pub(crate) trait Work: Send + Sync + 'static {
    type Output: Send + 'static;

    /// One try. Rules are checked before the first write, so that a rejection leaves nothing behind.
    fn attempt(
        &self,
        session: &mut ClientSession,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

/// Why a try is given up.
#[derive(Debug)]
pub(crate) enum Abort {
    Rejected(Rejection),
    Database(Error),
    /// The data is not as every transaction leaves it.
    Inconsistent(&'static str),
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<Rejection> for Abort {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// How a transaction ended other than with a commit.
#[derive(Debug)]
pub(crate) enum TransactionError {
    /// A rule said no. Nothing was changed.
    Rejected(Rejection),
    /// The database was away, or too busy until the deadline. Nothing was changed.
    Unavailable(Fault),
    /// A commit was sent and nobody knows what became of it.
    CommitUnknown(Fault),
    /// Nothing was changed, and another try would not help.
    Failed(Fault),
}

/// Runs transactions on one client.
#[derive(Debug)]
pub(crate) struct Transactions {
    client: Client,
    tasks: TaskTracker,
    deadline: Duration,
}

impl Transactions {
    pub(crate) fn new(client: Client, deadline: Duration) -> Self {
        Self { client, tasks: TaskTracker::new(), deadline }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The tasks that work or clean up. To wait for them, close the tracker.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs the work to its end, at most until the deadline.
    ///
    /// # Cancellation
    ///
    /// Dropping the future lets the current statement finish and then aborts, unless the commit was already sent.
    pub(crate) async fn run<W: Work>(&self, work: W) -> Result<W::Output, TransactionError> {
        let until = Instant::now() + self.deadline;
        let waiter = Waiter(Arc::default());
        let task = Task {
            client: self.client.clone(),
            cleanup: Cleanup { client: self.client.clone(), tasks: self.tasks.clone() },
            phase: Arc::clone(&waiter.0),
            pause: Pause { until, tries: 0 },
            deadline: self.deadline,
        };
        let task = match scope::current() {
            Some(operation) => Either::Left(operation.scope(task.run(work))),
            None => Either::Right(task.run(work)),
        };
        let mut task = pin!(self.tasks.spawn(task.in_current_span()));
        match tokio::time::timeout_at(until, &mut task).await {
            Ok(Ok(result)) => result,
            Ok(Err(end)) if end.is_panic() => std::panic::resume_unwind(end.into_panic()),
            Ok(Err(_)) | Err(_) => {
                let fault = Fault::deadline(self.deadline);
                Err(match waiter.0.leave() {
                    Commit::Sent => TransactionError::CommitUnknown(fault.counted_as(Reason::COMMIT_UNKNOWN)),
                    Commit::NotSent => TransactionError::Unavailable(fault),
                })
            }
        }
    }
}

// ===== Who decides last =====

/// Settles between the one that waits and the task whether a commit is sent: exactly one of them comes first.
#[derive(Debug, Default)]
struct Phase(AtomicU8);

#[derive(Debug, PartialEq, Eq)]
enum Commit {
    Sent,
    NotSent,
}

impl Phase {
    const WORKING: u8 = 0;
    const COMMITTING: u8 = 1;
    const LEFT: u8 = 2;

    /// The task is about to commit. `false` if nobody waits any more.
    fn commit(&self) -> bool {
        self.0.compare_exchange(Self::WORKING, Self::COMMITTING, SeqCst, SeqCst).is_ok()
    }

    /// The commit is known to have had no effect, and the work begins anew. `false` if nobody waits any more.
    fn begin_anew(&self) -> bool {
        self.0.compare_exchange(Self::COMMITTING, Self::WORKING, SeqCst, SeqCst).is_ok()
    }

    fn is_awaited(&self) -> bool {
        self.0.load(SeqCst) != Self::LEFT
    }

    /// Nobody waits any more.
    fn leave(&self) -> Commit {
        match self.0.swap(Self::LEFT, SeqCst) {
            Self::COMMITTING => Commit::Sent,
            _ => Commit::NotSent,
        }
    }
}

/// The request that waits; a dropped one has left.
struct Waiter(Arc<Phase>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.leave();
    }
}

// ===== The task =====

struct Task {
    client: Client,
    cleanup: Cleanup,
    phase: Arc<Phase>,
    pause: Pause,
    deadline: Duration,
}

/// How one try ended other than with a commit.
enum Ended {
    /// The whole transaction may be tried again.
    Again(Error),
    ForGood(TransactionError),
}

impl Task {
    async fn run<W: Work>(mut self, work: W) -> Result<W::Output, TransactionError> {
        loop {
            match self.attempt(&work).await {
                Ok(output) => return Ok(output),
                Err(Ended::ForGood(error)) => return Err(error),
                Err(Ended::Again(error)) => {
                    let reason = reason_of(&error);
                    tracing::debug!(
                        attempt = self.pause.tries + 1,
                        reason = reason.as_str(),
                        "transaction ended, to be tried again"
                    );
                    if !self.phase.is_awaited() || !self.pause.wait().await {
                        return Err(TransactionError::Unavailable(error.into()));
                    }
                }
            }
        }
    }

    async fn attempt<W: Work>(&mut self, work: &W) -> Result<W::Output, Ended> {
        let mut session = self.client.start_session().await.map_err(failed)?;
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .max_commit_time(self.deadline)
            .await
            .map_err(failed)?;
        let end = match work.attempt(&mut session).await {
            Ok(output) if self.phase.commit() => return self.commit(session).await.map(|()| output),
            Ok(_) => Ended::ForGood(TransactionError::Unavailable(Fault::deadline(self.deadline))),
            Err(Abort::Rejected(rejection)) => Ended::ForGood(TransactionError::Rejected(rejection)),
            Err(Abort::Inconsistent(what)) => {
                Ended::ForGood(TransactionError::Failed(Fault::inconsistent(what)))
            }
            Err(Abort::Database(error)) => {
                if is_away(&error) {
                    self.cleanup.kill(session);
                    return Err(failed(error));
                }
                failed(error)
            }
        };
        self.cleanup.abort(session);
        Err(end)
    }

    /// Sends the commit until its result is known.
    async fn commit(&mut self, mut session: ClientSession) -> Result<(), Ended> {
        loop {
            let Err(error) = session.commit_transaction().await else { return Ok(()) };
            let reason = reason_of(&error);
            scope::note_reason(reason);
            if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
                return Err(if self.phase.begin_anew() {
                    Ended::Again(error)
                } else {
                    Ended::ForGood(TransactionError::Unavailable(error.into()))
                });
            }
            let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
            // The server gave up when its time was over: asking again would only wait as long again.
            let again = unknown && reason != Reason::MAX_TIME_EXPIRED && !is_server_selection(&error);
            if again && self.pause.wait().await {
                continue;
            }
            // If the server never heard of the commit, the transaction still holds its locks.
            self.cleanup.kill(session);
            return Err(Ended::ForGood(if unknown || is_write_concern_error(&error) {
                TransactionError::CommitUnknown(Fault::from(error).counted_as(Reason::COMMIT_UNKNOWN))
            } else {
                fault(error)
            }));
        }
    }
}

/// How a try ended with that error of a statement.
fn failed(error: Error) -> Ended {
    scope::note_reason(reason_of(&error));
    // A driver that found no server has already waited as long as it was told to.
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) && !is_server_selection(&error) {
        Ended::Again(error)
    } else {
        Ended::ForGood(fault(error))
    }
}

fn fault(error: Error) -> TransactionError {
    let fault = Fault::from(error);
    if fault.is_away() { TransactionError::Unavailable(fault) } else { TransactionError::Failed(fault) }
}

/// The pause before the next try: at random, so that the losers of one conflict do not meet again, from a range
/// that doubles.
struct Pause {
    until: Instant,
    tries: u32,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(4);
    const LONGEST: Duration = Duration::from_millis(256);

    /// `false` if the deadline comes first.
    async fn wait(&mut self) -> bool {
        let longest = Self::FIRST.saturating_mul(1 << self.tries.min(8)).min(Self::LONGEST);
        self.tries += 1;
        let next = Instant::now() + longest.mul_f64(rand::random());
        if next >= self.until {
            return false;
        }
        tokio::time::sleep_until(next).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_decides() {
        let phase = Phase::default();
        assert!(phase.is_awaited());
        assert!(phase.commit());
        assert_eq!(phase.leave(), Commit::Sent);
        assert!(!phase.begin_anew(), "nobody waits for another try");

        let phase = Phase::default();
        assert_eq!(phase.leave(), Commit::NotSent);
        assert!(!phase.commit(), "told that nothing was changed, so nothing may be");

        let phase = Phase::default();
        assert!(phase.commit() && phase.begin_anew());
        assert_eq!(phase.leave(), Commit::NotSent);
    }

    #[test]
    fn a_request_that_is_dropped_has_left() {
        let phase = Arc::<Phase>::default();
        drop(Waiter(Arc::clone(&phase)));
        assert!(!phase.commit());
    }
}
