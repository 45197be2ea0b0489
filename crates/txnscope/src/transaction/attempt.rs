//! One attempt: the session that it runs in, what is counted of it, and what a drop means.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use mongodb::ClientSession;
use mongodb::error::Error;
use mongodb::options::TransactionOptions;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::attempt_recorder::AttemptRecorder;
use super::cleanup;
use super::driver_error::{Delivery, already_aborted, delivery};
use super::first_statement::is_standalone_error;
use super::keyed_queue::QueuePermit;
use super::metrics::{AttemptOutcome, NotStartedCause, TransactionMetrics};
use super::runner::Shared;
use super::session_debug::SessionState;
use crate::Reason;

/// A transaction, as the work sees it: it takes the place of the driver's `ClientSession` in every call that wants one.
///
/// ```no_run
/// # use mongodb::{Collection, bson::{doc, Document}};
/// # use txnscope::{Abort, Transaction};
/// # async fn work(mut tx: Transaction, accounts: &Collection<Document>) -> Result<(), Abort> {
/// accounts.update_one(doc! {"_id": 1}, doc! {"$inc": {"balance": -8}}).session(&mut tx).await?;
/// let mut cursor = accounts.find(doc! {}).session(&mut tx).await?;
/// while cursor.next(tx.session()).await.transpose()?.is_some() {}
/// # Ok(())
/// # }
/// ```
///
/// It ends with the work: dropping it, which the end of the work does, gives the session back to the runner, who then
/// commits. Work that hands it to another task is waited for.
///
/// Errors of the driver belong to the runner: work that swallows one goes on in a transaction that the server may
/// have aborted.
pub struct Transaction {
    running: Option<Box<RunningAttempt>>,
    handoff: Arc<SessionHandoff>,
}

/// The session and what is counted of it.
pub(super) struct RunningAttempt {
    pub(super) session: ClientSession,
    pub(super) recorder: AttemptRecorder,
}

impl RunningAttempt {
    /// Whether no server has answered in the session: it is this attempt's own. What was handed over then may be under
    /// way even now, whoever gave up waiting for it; and the driver, for which the transaction has not begun, sends no
    /// abort.
    pub(super) fn is_unanswered(&self) -> bool {
        self.session.operation_time().is_none()
    }

    /// Whether something may be under way that would begin a transaction when it arrives.
    pub(super) fn may_still_start(&self) -> bool {
        self.is_unanswered() || self.recorder.has_abandoned_statement()
    }

    /// Whether an answer may have been lost in the session.
    pub(super) fn may_have_lost_an_answer(&self) -> bool {
        SessionState::of(&self.session).may_have_lost_an_answer()
    }

    /// Whether it is certain that nothing was sent in the session.
    pub(super) fn has_sent_nothing(&self) -> bool {
        self.is_unanswered()
            && (!self.recorder.has_started()
                || SessionState::of(&self.session).is_unused_since(self.recorder.before()))
    }
}

impl Transaction {
    /// The driver's session, for the calls that want it by that name, such as a cursor's `next`. Ask for it anew for
    /// each statement.
    ///
    /// The transaction is the runner's to begin and to end, and so is the session's time: what sets the latter by
    /// `advance_operation_time` makes an answer of the server that there was none. Work that aborts it through the session has failed, with
    /// the reason `invalid_request`; work that commits it and goes on has a result that nobody knows; and what it
    /// begins there by itself is in no book.
    pub fn session(&mut self) -> &mut ClientSession {
        let running = self.running();
        running.recorder.statement(&running.session);
        &mut running.session
    }

    #[allow(clippy::expect_used, reason = "only the drop takes it")]
    fn running(&mut self) -> &mut RunningAttempt {
        self.running.as_mut().expect("a transaction has its session until it is dropped")
    }
}

/// What `.session(…)` of the driver's actions takes.
impl<'a> From<&'a mut Transaction> for &'a mut ClientSession {
    fn from(transaction: &'a mut Transaction) -> Self {
        transaction.session()
    }
}

/// Back to the runner; or, if nobody waits there any more, to an end.
impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let mut location = self.handoff.location();
        if let SessionLocation::Abandoned(reason) = *location {
            drop(location);
            self.handoff.kill(running, reason);
        } else {
            *location = SessionLocation::Returned(running);
            drop(location);
            self.handoff.returned.notify_one();
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// Where the session is while the work has it, and what ends it if nobody else does.
struct SessionHandoff {
    location: Mutex<SessionLocation>,
    returned: Notify,
    shared: Arc<Shared>,
    runtime: Handle,
}

enum SessionLocation {
    /// The work has it.
    Borrowed,
    /// The runner may take it.
    Returned(Box<RunningAttempt>),
    /// The runner is gone, and why.
    Abandoned(Reason),
}

impl SessionHandoff {
    fn location(&self) -> MutexGuard<'_, SessionLocation> {
        self.location.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it ended on the server, if it may have begun there.
    fn kill(&self, mut running: Box<RunningAttempt>, reason: Reason) {
        if !running.recorder.has_started() {
            return;
        }
        if running.has_sent_nothing() {
            running.recorder.metrics.count_not_started(NotStartedCause::NotSent);
            return running.recorder.end(AttemptOutcome::Aborted(reason));
        }
        running.recorder.dropped = AttemptOutcome::Aborted(reason);
        self.spawn(cleanup::kill(Arc::clone(&self.shared), running, reason));
    }

    fn spawn(&self, cleanup: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn_on(cleanup, &self.runtime);
    }
}

/// An attempt whose work is under way. Dropped, it has the transaction ended by a task of its own.
pub(super) struct Attempt(Arc<SessionHandoff>);

impl Attempt {
    /// A session, and a transaction in it of which the server knows nothing yet.
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        metrics: &'static TransactionMetrics,
        options: TransactionOptions,
    ) -> Result<(Self, Transaction), Error> {
        let mut session = shared.client.start_session().await?;
        session.start_transaction().with_options(options).await?;
        let recorder = AttemptRecorder::new(metrics);
        let handoff = Arc::new(SessionHandoff {
            location: Mutex::new(SessionLocation::Borrowed),
            returned: Notify::new(),
            shared: Arc::clone(shared),
            runtime: Handle::current(),
        });
        let running = Some(Box::new(RunningAttempt { session, recorder }));
        Ok((Self(Arc::clone(&handoff)), Transaction { running, handoff }))
    }

    /// The end of the work: takes the session back. Waits for it if the work has handed it on.
    pub(super) async fn finish_work(self) -> ReadyToCommit {
        loop {
            let returned = self.0.returned.notified();
            let location = std::mem::replace(&mut *self.0.location(), SessionLocation::Borrowed);
            if let SessionLocation::Returned(running) = location {
                return ReadyToCommit {
                    running: Some(running),
                    handoff: Arc::clone(&self.0),
                    committing: false,
                };
            }
            returned.await;
        }
    }

    /// It is given up, with a statement under way perhaps.
    pub(super) fn give_up(self, reason: Reason) {
        self.abandon(reason);
    }

    fn abandon(&self, reason: Reason) {
        let location = std::mem::replace(&mut *self.0.location(), SessionLocation::Abandoned(reason));
        if let SessionLocation::Returned(running) = location {
            self.0.kill(running, reason);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Whoever has left before has said why.
        if !matches!(*self.0.location(), SessionLocation::Abandoned(_)) {
            self.abandon(drop_reason());
        }
    }
}

fn drop_reason() -> Reason {
    if std::thread::panicking() { Reason::PANIC } else { Reason::CANCELLED }
}

/// An attempt whose work is done, to be committed or aborted. Dropped, it has that ended by a task of its own.
pub(super) struct ReadyToCommit {
    running: Option<Box<RunningAttempt>>,
    handoff: Arc<SessionHandoff>,
    committing: bool,
}

impl ReadyToCommit {
    #[allow(clippy::expect_used, reason = "it is taken by what consumes this, and by its drop")]
    pub(super) fn running(&mut self) -> &mut RunningAttempt {
        self.running.as_mut().expect("it has its session until it ends")
    }

    /// From here on, a drop no longer aborts.
    pub(super) fn committing(&mut self) {
        self.committing = true;
        self.running().recorder.dropped = AttemptOutcome::Unknown;
    }

    /// It ended so, and nothing is left to do on the server; unless something is under way that would begin it anew.
    pub(super) fn end(mut self, outcome: AttemptOutcome) {
        let Some(running) = self.running.take() else { return };
        match outcome {
            AttemptOutcome::Aborted(reason) if running.recorder.has_abandoned_statement() => {
                self.handoff.kill(running, reason)
            }
            outcome => running.recorder.end(outcome),
        }
    }

    /// It changes nothing, because of that error of a statement's, if it is one. The server is told aside from the
    /// caller, who waits for nothing; but those who wait for the same keys do, for a moment, so as not to meet what is
    /// about to be undone.
    ///
    /// Says whether the work has ended the transaction by itself, so that it may be committed.
    #[must_use]
    pub(super) fn abort_in_background(
        mut self,
        failed: Option<&Error>,
        reason: Reason,
        permits: Vec<QueuePermit>,
    ) -> bool {
        let Some(running) = self.running.take() else { return false };
        if !running.recorder.has_started() {
            return false;
        }
        if let Some(error) = failed.filter(|error| is_standalone_error(error)) {
            // It answers without the time that others give, and nothing can be open on it.
            running.recorder.record_error(error);
            running.recorder.end(AttemptOutcome::Aborted(reason));
            return false;
        }
        let connection_was_lost = failed.is_some_and(|error| delivery(error) == Delivery::Unknown);
        if running.may_still_start() || connection_was_lost {
            self.handoff.kill(running, reason);
            return false;
        }
        if let Some(error) = failed {
            running.recorder.record_error(error);
        }
        let RunningAttempt { mut session, mut recorder } = *running;
        let lsid = session.id().clone();
        let mut abort = Box::pin(async move {
            let ended = session.abort_transaction().await;
            (session, ended)
        });
        // Without a statement that it knows to be done, and where the work was faster, the driver has nothing to send.
        match abort.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((session, Ok(()))) => {
                self.handoff.kill(Box::new(RunningAttempt { session, recorder }), reason)
            }
            Poll::Ready((_, Err(error))) => {
                let may_be_committed = !already_aborted(&error);
                recorder.end(if may_be_committed {
                    AttemptOutcome::Unknown
                } else {
                    AttemptOutcome::Aborted(reason)
                });
                return may_be_committed;
            }
            Poll::Pending => {
                recorder.count(AttemptOutcome::Aborted(reason));
                let shared = Arc::clone(&self.handoff.shared);
                self.handoff.spawn(cleanup::abort(shared, abort, lsid, recorder, reason, permits));
            }
        }
        false
    }

    /// It is given up, with a statement under way perhaps.
    pub(super) fn give_up(mut self, reason: Reason) {
        if let Some(running) = self.running.take() {
            self.handoff.kill(running, reason);
        }
    }

    /// Its commit was sent and its result is not known: it is learnt, if it can be, by a task of its own. `told`: the
    /// caller has been told that it is unknown.
    pub(super) fn resolve_commit_in_background(mut self, reported: bool) {
        if let Some(running) = self.running.take() {
            self.resolve_commit(running, reported);
        }
    }

    fn resolve_commit(&self, running: Box<RunningAttempt>, reported: bool) {
        let RunningAttempt { session, recorder } = *running;
        let metrics = recorder.metrics;
        let recorder = if reported {
            recorder.end(AttemptOutcome::Unknown);
            None
        } else {
            Some(recorder)
        };
        self.handoff.spawn(cleanup::resolve_commit(session, recorder, metrics));
    }
}

impl Drop for ReadyToCommit {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        if self.committing {
            self.resolve_commit(running, false);
        } else {
            self.handoff.kill(running, drop_reason());
        }
    }
}
