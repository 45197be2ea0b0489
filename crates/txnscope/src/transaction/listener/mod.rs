//! A listener for code that runs its transactions without the [runner](crate::TransactionRunner).
//!
//! The driver tells an event handler of each command that it sends, and of each answer. [`TransactionListener`] hears
//! from that what becomes of every transaction, whoever runs it: `start_transaction` by hand, `and_run`, a library.
//! It counts into the same metrics as the runner, and leaves to the runner what is the runner's.
//!
//! ```no_run
//! use mongodb::{Client, options::ClientOptions};
//! use txnscope::TransactionListener;
//!
//! # async fn connect() -> mongodb::error::Result<()> {
//! let mut options = ClientOptions::parse("mongodb://db1,db2,db3/?replicaSet=rs0").await?;
//! TransactionListener::new().install(&mut options);
//! let client = Client::with_options(options)?;
//! # drop(client);
//! # Ok(())
//! # }
//! ```
//!
//! # Whose transaction it is
//!
//! A transaction belongs to the operation in whose [scope] its first statement was sent. A task that the
//! handler spawns has no scope of its own: give it the handler's, or what it does is `unscoped`.
//!
//! ```
//! # async fn settle() {}
//! # async fn handler() {
//! match txnscope::scope::current() {
//!     Some(operation) => tokio::spawn(operation.scope(settle())),
//!     None => tokio::spawn(settle()),
//! };
//! # }
//! ```
//!
//! # What it can tell, and what not
//!
//! - A transaction counts as aborted for the reason of its first failure; if nothing failed and the code aborted it, or
//!   dropped its session, as `application`. A statement whose future was dropped makes it `cancelled`.
//! - A commit whose result is not known may be sent again, and its transaction is open as long as the driver looks for a
//!   server by default (30 s), and some. Then it counts as unknown.
//! - A commit that an election takes back counts as aborted, as the data have it, once the new primary has said so. The
//!   old one's book keeps it as committed: the two differ by no more than the commits that were sent again.
//! - A future dropped in the first statement leaves a transaction open on the server, of which nothing more is heard.
//!   It ends here with the next transaction or retryable write of its session, which ends it on the server, too. Failing
//!   that, it is given up after a [time](TransactionListener::abandon_after) and counted as abandoned. The runner has
//!   no such leak.
//! - A server that has too much to do refuses commands (code 462, `SystemOverloadedError`), and the driver sends them
//!   again by itself, twice by default, within one call. The listener counts those repeats, of every command and also
//!   of the runner's, for the operation that they belong to. A refused commit is not the end: the repeat decides, and if all
//!   are refused, the transaction counts as aborted with the reason `overloaded` when its session goes on, or after 40 s.
//! - Backoff between attempts, queues and cleanups are the runner's alone.
//! - At most 10,000 transactions are followed at a time. One more counts as untracked and as nothing else.
//!
//! Runner and listener must count into the same [registry](crate::Registry), as they do by default: what the runner
//! owns, the listener learns there.
//!
//! # What it costs
//!
//! It is off unless it is installed, because of the driver: with any handler of command events it decodes every
//! command and every reply once more, also of commands that belong to no transaction. For replies of some
//! size that doubles the client's time on the processor: 13 µs more for one of 343 B, 0.6 ms for 58 kB of documents with
//! 20 fields, 17 ms for 1 MB. What the listener itself does is a small part of it. `docs/performance.md` has the figures.

mod chained_handler;
mod command;
mod overload_retries;
#[cfg(test)]
mod tests;
mod tracker;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use mongodb::error::RETRYABLE_ERROR;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;
use quanta::Instant;
use txnscope_catalog::UNSCOPED;

use self::command::{Command, CommandOutcome, Request};
use self::overload_retries::OverloadRetries;
use self::tracker::{End, Limits, TrackerEvent, TransactionTracker};
use super::first_statement::is_overload;
use super::metrics::{AttemptOutcome, TransactionMetrics};
use super::nesting;
use super::open_transactions::Owner;
use crate::{OperationName, Registry, scope};

/// How often it is looked for abandoned transactions when there are no events.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Counts the transactions of a client's code that does not use the runner. See the
/// [module's page](crate::transaction::listener) for examples, and for what it costs.
///
/// Cheap to clone; one listener may serve several clients.
#[derive(Clone)]
pub struct TransactionListener {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    tracker: Mutex<TransactionTracker<&'static TransactionMetrics>>,
    /// How many transactions the machine follows, to leave at once when there are none.
    followed: AtomicUsize,
    overload_retries: OverloadRetries,
    /// Ends the sweeper with the listener's last handler.
    sweeper: OnceLock<Option<Sender<()>>>,
}

impl TransactionListener {
    /// How many transactions are followed at a time.
    pub const MAX_OPEN: usize = 10_000;

    /// For how long a transaction may be silent by default. The server ends one after 60 s by default, looking every 30.
    pub const ABANDON_AFTER: Duration = Duration::from_secs(90);

    /// Shorter than this, every statement that takes its time would be a transaction that was given up.
    const SHORTEST_SILENCE: Duration = Duration::from_millis(100);

    /// A listener that counts into the process's recorder.
    #[must_use]
    pub fn new() -> Self {
        Self::with_registry(Registry::global())
    }

    /// A listener that counts into that registry. Inside an operation, it counts where the operation does.
    #[must_use]
    pub fn with_registry(registry: Registry) -> Self {
        registry.enable_transaction_metrics();
        let limits = Limits { open: Self::MAX_OPEN, abandon_after: Self::ABANDON_AFTER };
        let tracker = Mutex::new(TransactionTracker::new(limits));
        let followed = AtomicUsize::new(0);
        let shared = Shared {
            registry,
            tracker,
            followed,
            overload_retries: OverloadRetries::new(),
            sweeper: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Gives up on a transaction of which nothing was heard for so long: by default, for 90 s. Where the server's
    /// `transactionLifetimeLimitSeconds` is not 60, say one and a half times that. It is 100 ms at least.
    #[must_use]
    pub fn abandon_after(self, silence: Duration) -> Self {
        self.shared.tracker().set_abandon_after(silence.max(Self::SHORTEST_SILENCE));
        self
    }

    /// Has a client that is made of these options listened to.
    ///
    /// If the options have a handler of command events already, it stays, and is given each event after the listener.
    pub fn install(&self, options: &mut ClientOptions) {
        self.shared.overload_retries.allow(options.max_adaptive_retries);
        let chained_handler = match options.command_event_handler.take() {
            None => self.chained_handler(),
            Some(theirs) => chained_handler::chain_handlers(theirs, self.event_callback()),
        };
        options.command_event_handler = Some(chained_handler);
    }

    /// A handler for `ClientOptions::command_event_handler`.
    ///
    /// It is a callback, which the driver calls inside the task that runs the command: only so does it see the
    /// operation's scope, and events in their order. It does not wait, and does not panic.
    #[must_use]
    pub fn chained_handler(&self) -> EventHandler<CommandEvent> {
        let on_event = self.event_callback();
        EventHandler::callback(move |command| on_event(&command))
    }

    fn event_callback(&self) -> impl Fn(&CommandEvent) + Send + Sync + 'static {
        self.shared.sweeper.get_or_init(|| spawn_sweeper(&self.shared));
        let shared = Arc::clone(&self.shared);
        move |command| shared.on_event(command)
    }
}

impl Default for TransactionListener {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TransactionListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionListener")
            .field("followed", &self.shared.followed.load(Relaxed))
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn tracker(&self) -> MutexGuard<'_, TransactionTracker<&'static TransactionMetrics>> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears one event. A panic in here, of a recorder or a log of the application's own, would end the caller's
    /// command.
    fn on_event(&self, event: &CommandEvent) {
        let _ = catch_unwind(AssertUnwindSafe(|| match event {
            CommandEvent::Started(event) => {
                if self.overload_retries.sent(&event.command_name, Instant::now()) {
                    self.current_metrics().overload_retries.increment(1);
                }
                if let Some(metrics) = nesting::current()
                    && is_write(&event.command_name)
                    && !event.command.contains_key("autocommit")
                    && metrics.count_write_outside()
                {
                    tracing::warn!(
                        operation = metrics.operation(),
                        command = event.command_name,
                        "the work of a transaction has written without the transaction's session: that is not undone if \
                         the transaction is; put .session(&mut tx) on each statement"
                    );
                }
                if let Some(request) = Request::of(event.request_id, &event.command_name, &event.command) {
                    self.sent(request);
                }
            }
            CommandEvent::Succeeded(event) => {
                self.overload_retries.answered();
                self.answered(event.request_id, || CommandOutcome::of_reply(&event.reply));
            }
            CommandEvent::Failed(event) => {
                if is_overload(&event.failure) && event.failure.contains_label(RETRYABLE_ERROR) {
                    self.overload_retries.refused(&event.command_name, Instant::now());
                } else {
                    self.overload_retries.answered();
                }
                self.answered(event.request_id, || CommandOutcome::of_failure(&event.failure));
            }
            _ => {}
        }));
    }

    fn sent(&self, mut request: Request) {
        if request.command == Command::NonTransactional && self.followed.load(Relaxed) == 0 {
            return;
        }
        if request.command == Command::First {
            request.owned_elsewhere = self.registry.open_transactions().is_owned_by_runner(request.lsid);
        }
        let now = Instant::now();
        let mut abandoned = Vec::new();
        let mut tracker = self.tracker();
        tracker.sent(request, now, || self.current_metrics(), &mut |metrics, event| {
            self.count(metrics, event, now, &mut abandoned);
        });
        tracker.sweep(now, &mut |metrics, event| self.count(metrics, event, now, &mut abandoned));
        self.release(tracker, &abandoned);
    }

    fn answered(&self, request: i32, answer: impl FnOnce() -> CommandOutcome) {
        if self.followed.load(Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        let mut abandoned = Vec::new();
        let mut tracker = self.tracker();
        tracker.answered(request, now, answer, &mut |metrics, event| {
            self.count(metrics, event, now, &mut abandoned);
        });
        self.release(tracker, &abandoned);
    }

    fn sweep(&self) {
        let now = Instant::now();
        let mut abandoned = Vec::new();
        let mut tracker = self.tracker();
        tracker.sweep(now, &mut |metrics, event| self.count(metrics, event, now, &mut abandoned));
        self.release(tracker, &abandoned);
    }

    /// Lets others go on, and logs what a log may take its time for.
    fn release(
        &self,
        tracker: MutexGuard<'_, TransactionTracker<&'static TransactionMetrics>>,
        abandoned: &[(&TransactionMetrics, End)],
    ) {
        self.followed.store(tracker.len(), Relaxed);
        drop(tracker);
        for (metrics, end) in abandoned {
            tracing::warn!(
                operation = metrics.operation(),
                lsid = tracing::field::display(end.lsid),
                txn_number = end.txn_number,
                open_seconds = end.elapsed.as_secs_f64(),
                "a transaction was abandoned: it kept its locks until the server ended it"
            );
        }
    }

    /// Whose transaction the current task begins.
    fn current_metrics(&self) -> &'static TransactionMetrics {
        scope::metrics()
            .unwrap_or_else(|| self.registry.resolve(OperationName::named(UNSCOPED)))
            .transaction_metrics()
    }

    fn count(
        &self,
        metrics: &'static TransactionMetrics,
        event: TrackerEvent,
        now: Instant,
        abandoned: &mut Vec<(&'static TransactionMetrics, End)>,
    ) {
        let open = self.registry.open_transactions();
        match event {
            TrackerEvent::Started { lsid, txn_number } => {
                metrics.count_start();
                open.insert(lsid, Owner::Listener, Some(txn_number), metrics.operation(), now);
            }
            TrackerEvent::CommitRetried => metrics.commit_retries.increment(1),
            TrackerEvent::Failed { lsid, reason } => scope::note_reason_of(lsid.note_id(), reason),
            TrackerEvent::Untracked => metrics.untracked.increment(1),
            TrackerEvent::Ended(end) => {
                // First out of the table: whoever sees the gauge at zero finds no row.
                open.remove_observed(end.lsid, end.txn_number);
                if end.outcome == AttemptOutcome::Committed {
                    scope::forget_reason_of(end.lsid.note_id());
                }
                if let Some(commit) = end.commit {
                    metrics.commit_duration.record(commit.as_secs_f64());
                }
                if let Some(cause) = end.not_started {
                    metrics.count_not_started(cause);
                }
                if end.abandoned {
                    metrics.abandoned.increment(1);
                    abandoned.push((metrics, end));
                }
                metrics.count_end(end.outcome, end.elapsed);
            }
        }
    }
}

/// Whether it changes data. An aggregation can, too, but seldom does.
fn is_write(command: &str) -> bool {
    ["insert", "update", "delete", "findAndModify", "bulkWrite"].contains(&command)
}

/// A thread that sweeps when no event does, so that no runtime needs to be there. Without one, if it cannot be
/// started, events still do.
fn spawn_sweeper(shared: &Arc<Shared>) -> Option<Sender<()>> {
    let (alive, dropped) = channel::<()>();
    let shared: Weak<Shared> = Arc::downgrade(shared);
    let sweep = move || {
        while let Some(interval) = shared.upgrade().map(|shared| {
            let interval = shared.tracker().abandon_after() / 4;
            interval.min(SWEEP_INTERVAL)
        }) {
            if dropped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            if let Some(shared) = shared.upgrade() {
                let _ = catch_unwind(AssertUnwindSafe(|| shared.sweep()));
            }
        }
    };
    thread::Builder::new().name("txnscope-listener".to_owned()).spawn(sweep).ok().map(|_| alive)
}
