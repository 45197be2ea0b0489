//! One attempt: the session that it runs in, what is counted of it, and what a drop means.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use mongodb::ClientSession;
use mongodb::error::Error;
use mongodb::options::TransactionOptions;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::begun::is_of_a_standalone;
use super::books::{AttemptOutcome, Books, Unbegun};
use super::classify::{Reached, reached, was_aborted_before};
use super::cleanup;
use super::driver_session::Account;
use super::queue::Turn;
use super::runner::Shared;
use super::tally::Tally;
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
    live: Option<Box<Live>>,
    slot: Arc<Slot>,
}

/// The session and what is counted of it.
pub(super) struct Live {
    pub(super) session: ClientSession,
    pub(super) tally: Tally,
}

impl Live {
    /// Whether no server has answered in the session: it is this attempt's own. What was handed over then may be under
    /// way even now, whoever gave up waiting for it; and the driver, for which the transaction has not begun, sends no
    /// abort.
    pub(super) fn was_never_answered(&self) -> bool {
        self.session.operation_time().is_none()
    }

    /// Whether something may be under way that would begin a transaction when it arrives.
    pub(super) fn may_still_begin(&self) -> bool {
        self.was_never_answered() || self.tally.has_given_up_a_statement()
    }

    /// Whether an answer may have been lost in the session.
    pub(super) fn may_have_lost_an_answer(&self) -> bool {
        Account::of(&self.session).may_have_lost_an_answer()
    }

    /// Whether it is certain that nothing was sent in the session.
    pub(super) fn has_sent_nothing(&self) -> bool {
        self.was_never_answered()
            && (!self.tally.has_begun()
                || Account::of(&self.session).shows_nothing_sent_since(self.tally.before()))
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
        let live = self.live();
        live.tally.statement(&live.session);
        &mut live.session
    }

    #[allow(clippy::expect_used, reason = "only the drop takes it")]
    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("a transaction has its session until it is dropped")
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
        let Some(live) = self.live.take() else { return };
        let mut place = self.slot.place();
        if let Place::Left(reason) = *place {
            drop(place);
            self.slot.kill(live, reason);
        } else {
            *place = Place::Back(live);
            drop(place);
            self.slot.back.notify_one();
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

/// Where the session is while the work has it, and what ends it if nobody else does.
struct Slot {
    place: Mutex<Place>,
    back: Notify,
    shared: Arc<Shared>,
    runtime: Handle,
}

enum Place {
    /// The work has it.
    Out,
    /// The runner may take it.
    Back(Box<Live>),
    /// The runner is gone, and why.
    Left(Reason),
}

impl Slot {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it ended on the server, if it may have begun there.
    fn kill(&self, mut live: Box<Live>, reason: Reason) {
        if !live.tally.has_begun() {
            return;
        }
        if live.has_sent_nothing() {
            live.tally.books.unbegun(Unbegun::Unsent);
            return live.tally.end(AttemptOutcome::Aborted(reason));
        }
        live.tally.dropped = AttemptOutcome::Aborted(reason);
        self.spawn(cleanup::kill(Arc::clone(&self.shared), live, reason));
    }

    fn spawn(&self, cleanup: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn_on(cleanup, &self.runtime);
    }
}

/// An attempt whose work is under way. Dropped, it has the transaction ended by a task of its own.
pub(super) struct Attempt(Arc<Slot>);

impl Attempt {
    /// A session, and a transaction in it of which the server knows nothing yet.
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        books: &'static Books,
        options: TransactionOptions,
    ) -> Result<(Self, Transaction), Error> {
        let mut session = shared.client.start_session().await?;
        session.start_transaction().with_options(options).await?;
        let tally = Tally::new(books);
        let slot = Arc::new(Slot {
            place: Mutex::new(Place::Out),
            back: Notify::new(),
            shared: Arc::clone(shared),
            runtime: Handle::current(),
        });
        let live = Some(Box::new(Live { session, tally }));
        Ok((Self(Arc::clone(&slot)), Transaction { live, slot }))
    }

    /// The end of the work: takes the session back. Waits for it if the work has handed it on.
    pub(super) async fn worked(self) -> Worked {
        loop {
            let back = self.0.back.notified();
            let place = std::mem::replace(&mut *self.0.place(), Place::Out);
            if let Place::Back(live) = place {
                return Worked { live: Some(live), slot: Arc::clone(&self.0), committing: false };
            }
            back.await;
        }
    }

    /// It is given up, with a statement under way perhaps.
    pub(super) fn give_up(self, reason: Reason) {
        self.leave(reason);
    }

    fn leave(&self, reason: Reason) {
        let place = std::mem::replace(&mut *self.0.place(), Place::Left(reason));
        if let Place::Back(live) = place {
            self.0.kill(live, reason);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Whoever has left before has said why.
        if !matches!(*self.0.place(), Place::Left(_)) {
            self.leave(why_dropped());
        }
    }
}

fn why_dropped() -> Reason {
    if std::thread::panicking() { Reason::PANIC } else { Reason::CANCELLED }
}

/// An attempt whose work is done, to be committed or aborted. Dropped, it has that ended by a task of its own.
pub(super) struct Worked {
    live: Option<Box<Live>>,
    slot: Arc<Slot>,
    committing: bool,
}

impl Worked {
    #[allow(clippy::expect_used, reason = "it is taken by what consumes this, and by its drop")]
    pub(super) fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("it has its session until it ends")
    }

    /// From here on, a drop no longer aborts.
    pub(super) fn committing(&mut self) {
        self.committing = true;
        self.live().tally.dropped = AttemptOutcome::Unknown;
    }

    /// It ended so, and nothing is left to do on the server; unless something is under way that would begin it anew.
    pub(super) fn end(mut self, outcome: AttemptOutcome) {
        let Some(live) = self.live.take() else { return };
        match outcome {
            AttemptOutcome::Aborted(reason) if live.tally.has_given_up_a_statement() => {
                self.slot.kill(live, reason)
            }
            outcome => live.tally.end(outcome),
        }
    }

    /// It changes nothing, because of that error of a statement's, if it is one. The server is told aside from the
    /// caller, who waits for nothing; but those who wait for the same keys do, for a moment, so as not to meet what is
    /// about to be undone.
    ///
    /// Says whether the work has ended the transaction by itself, so that it may be committed.
    #[must_use]
    pub(super) fn abort_aside(mut self, failed: Option<&Error>, reason: Reason, turns: Vec<Turn>) -> bool {
        let Some(live) = self.live.take() else { return false };
        if !live.tally.has_begun() {
            return false;
        }
        if let Some(error) = failed.filter(|error| is_of_a_standalone(error)) {
            // It answers without the time that others give, and nothing can be open on it.
            live.tally.failed_with(error);
            live.tally.end(AttemptOutcome::Aborted(reason));
            return false;
        }
        let connection_was_lost = failed.is_some_and(|error| reached(error) == Reached::Perhaps);
        if live.may_still_begin() || connection_was_lost {
            self.slot.kill(live, reason);
            return false;
        }
        if let Some(error) = failed {
            live.tally.failed_with(error);
        }
        let Live { mut session, mut tally } = *live;
        let lsid = session.id().clone();
        let mut abort = Box::pin(async move {
            let ended = session.abort_transaction().await;
            (session, ended)
        });
        // Without a statement that it knows to be done, and where the work was faster, the driver has nothing to send.
        match abort.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((session, Ok(()))) => self.slot.kill(Box::new(Live { session, tally }), reason),
            Poll::Ready((_, Err(error))) => {
                let may_be_committed = !was_aborted_before(&error);
                tally.end(if may_be_committed {
                    AttemptOutcome::Unknown
                } else {
                    AttemptOutcome::Aborted(reason)
                });
                return may_be_committed;
            }
            Poll::Pending => {
                tally.count(AttemptOutcome::Aborted(reason));
                let shared = Arc::clone(&self.slot.shared);
                self.slot.spawn(cleanup::abort(shared, abort, lsid, tally, reason, turns));
            }
        }
        false
    }

    /// It is given up, with a statement under way perhaps.
    pub(super) fn give_up(mut self, reason: Reason) {
        if let Some(live) = self.live.take() {
            self.slot.kill(live, reason);
        }
    }

    /// Its commit was sent and its result is not known: it is learnt, if it can be, by a task of its own. `told`: the
    /// caller has been told that it is unknown.
    pub(super) fn settle_aside(mut self, told: bool) {
        if let Some(live) = self.live.take() {
            self.settle(live, told);
        }
    }

    fn settle(&self, live: Box<Live>, told: bool) {
        let Live { session, tally } = *live;
        let books = tally.books;
        let tally = if told {
            tally.end(AttemptOutcome::Unknown);
            None
        } else {
            Some(tally)
        };
        self.slot.spawn(cleanup::settle(session, tally, books));
    }
}

impl Drop for Worked {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        if self.committing {
            self.settle(live, false);
        } else {
            self.slot.kill(live, why_dropped());
        }
    }
}
