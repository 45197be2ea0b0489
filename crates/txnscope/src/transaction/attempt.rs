//! One attempt: its session, its counters, and the cleanup when it is dropped.

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

/// A transaction inside the callback: it replaces the driver's `ClientSession` in every call that takes one.
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
/// Dropping the transaction, which the end of the callback does, returns the session to the runner, which then
/// commits. If the callback has passed the transaction to another task, the runner waits for its return.
///
/// Return errors of the driver to the runner: a callback that swallows one continues in a transaction that the server
/// may have aborted.
pub struct Transaction {
    running: Option<Box<RunningAttempt>>,
    handoff: Arc<SessionHandoff>,
}

/// A session, and the recorder of its attempt.
pub(super) struct RunningAttempt {
    pub(super) session: ClientSession,
    pub(super) recorder: AttemptRecorder,
}

impl RunningAttempt {
    /// Whether no server has replied in this attempt's session. A statement that was sent may still be in flight,
    /// even if the callback has stopped waiting for it; the driver, for which the transaction has not started, sends
    /// no abort.
    pub(super) fn is_unanswered(&self) -> bool {
        self.session.operation_time().is_none()
    }

    /// Whether a statement in flight may still start a transaction on the server.
    pub(super) fn may_still_start(&self) -> bool {
        self.is_unanswered() || self.recorder.has_abandoned_statement()
    }

    /// Whether a reply may have been lost in the session.
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
    /// Returns the driver's session, for calls that require the session itself, such as a cursor's `next`. Call this
    /// again for each statement.
    ///
    /// Do not start, commit or abort transactions through the session, and do not call `advance_operation_time`,
    /// which the runner would take for a reply of the server. A callback that aborts through the session fails with
    /// the reason `invalid_request`; a callback that commits through it and continues has an unknown result; a
    /// transaction that a callback starts in it is not counted.
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

/// The type that `.session(…)` of the driver's actions takes.
impl<'a> From<&'a mut Transaction> for &'a mut ClientSession {
    fn from(transaction: &'a mut Transaction) -> Self {
        transaction.session()
    }
}

/// Returns the session to the runner, or ends the transaction if the runner has abandoned the attempt.
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

/// Passes the session between the runner and the callback, and ends the transaction if both are gone.
struct SessionHandoff {
    location: Mutex<SessionLocation>,
    returned: Notify,
    shared: Arc<Shared>,
    runtime: Handle,
}

enum SessionLocation {
    /// The callback has the session.
    Borrowed,
    /// The callback has returned the session.
    Returned(Box<RunningAttempt>),
    /// The runner has abandoned the attempt, for this reason.
    Abandoned(Reason),
}

impl SessionHandoff {
    fn location(&self) -> MutexGuard<'_, SessionLocation> {
        self.location.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the transaction on the server in the background, if it may have started there.
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

/// An attempt whose callback runs. Dropped, it ends the transaction in the background.
pub(super) struct Attempt(Arc<SessionHandoff>);

impl Attempt {
    /// Starts a session, and a transaction in it of which the server does not know yet.
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

    /// Takes the session back after the callback. Waits if the callback has passed it on.
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

    /// Ends the attempt in the background; a statement may be in flight.
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
        // An attempt that was given up has its reason already.
        if !matches!(*self.0.location(), SessionLocation::Abandoned(_)) {
            self.abandon(drop_reason());
        }
    }
}

fn drop_reason() -> Reason {
    if std::thread::panicking() { Reason::PANIC } else { Reason::CANCELLED }
}

/// An attempt whose callback has ended, to be committed or aborted. Dropped, it is ended in the background.
pub(super) struct ReadyToCommit {
    running: Option<Box<RunningAttempt>>,
    handoff: Arc<SessionHandoff>,
    committing: bool,
}

impl ReadyToCommit {
    #[allow(clippy::expect_used, reason = "it is taken by what consumes this, and by its drop")]
    pub(super) fn running(&mut self) -> &mut RunningAttempt {
        self.running.as_mut().expect("an attempt has its session until it ends")
    }

    /// Marks the attempt as committing: from here on, a drop no longer aborts it.
    pub(super) fn committing(&mut self) {
        self.committing = true;
        self.running().recorder.dropped = AttemptOutcome::Unknown;
    }

    /// Records the outcome. Cleans up only if a statement in flight might start the transaction again.
    pub(super) fn end(mut self, outcome: AttemptOutcome) {
        let Some(running) = self.running.take() else { return };
        match outcome {
            AttemptOutcome::Aborted(reason) if running.recorder.has_abandoned_statement() => {
                self.handoff.kill(running, reason)
            }
            outcome => running.recorder.end(outcome),
        }
    }

    /// Aborts the transaction without delaying the caller; `failed` is the statement's error, if there is one.
    /// Transactions that wait for the same keys wait for the abort for a short time, to avoid conflicts with it.
    ///
    /// Returns whether the callback has ended the transaction itself, so that it may be committed.
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
            // A standalone server has no open transactions, and its error carries no operation time.
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
        // Without a completed statement, and if the callback was faster, the driver has nothing to send.
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

    /// Ends the attempt in the background; a statement may be in flight.
    pub(super) fn give_up(mut self, reason: Reason) {
        if let Some(running) = self.running.take() {
            self.handoff.kill(running, reason);
        }
    }

    /// Resolves an unknown commit result in the background. `reported`: the caller has already received the unknown
    /// result.
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
