//! A listener for transactions that do not use the [runner](crate::TransactionRunner).
//!
//! The driver calls an event handler for each command and for each reply. From these events [`TransactionListener`]
//! counts every transaction, however it is run: with `start_transaction`, with `and_run`, or by a library. The
//! listener counts into the same metrics as the runner, and ignores the runner's transactions.
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
//! A transaction belongs to the operation in whose [scope] its first statement was sent. A task that the handler
//! spawns has no scope of its own: poll its future inside the handler's, or its transactions are `unscoped`.
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
//! - A transaction counts as aborted for the reason of its first failure; if nothing failed and the code aborted it,
//!   or dropped its session, the reason is `application`. A statement whose future was dropped makes it `cancelled`.
//! - A commit whose result is unknown may be retried, and its transaction stays open for the driver's default server
//!   selection timeout (30 s) and a margin. Then it counts as unknown.
//! - A commit that an election rolls back counts as aborted, once the new primary has reported so. The old primary's
//!   counters keep it as committed: the two differ by no more than the retried commits.
//! - A future dropped in the first statement leaves a transaction open on the server, of which no more events come.
//!   It ends here with the next transaction or retryable write of its session, which ends it on the server, too.
//!   Without one, it counts as abandoned after a [time](TransactionListener::abandon_after). The runner has no such
//!   leak.
//! - An overloaded server rejects commands (code 462, `SystemOverloadedError`), and the driver retries them itself,
//!   twice by default, within one call. The listener counts those retries, of every command and also of the runner's,
//!   for their operation. A rejected commit is not final: the retry decides, and if all are rejected, the transaction
//!   counts as aborted with the reason `overloaded` when its session continues, or after 40 s.
//! - Backoff, queues and cleanups are counted by the runner only.
//! - At most 10,000 transactions are tracked at a time. Further ones count as untracked only.
//!
//! Runner and listener must count into the same [registry](crate::Registry), as they do by default: the listener
//! finds the runner's transactions there.
//!
//! # What it costs
//!
//! The listener is opt-in because of the driver's cost: with any handler of command events the driver decodes every
//! command and every reply once more, also of commands outside of transactions. For large replies that doubles the
//! client's CPU time: 13 µs more for a reply of 343 B, 0.6 ms for 58 kB of documents with 20 fields, 17 ms for 1 MB.
//! The listener's own part is small. See `docs/performance.md`.

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

pub(super) use self::chained_handler::chain_handlers;
use self::command::{Command, CommandOutcome, Request};
use self::overload_retries::OverloadRetries;
use self::tracker::{End, Limits, TrackerEvent, TransactionTracker};
use super::first_statement::is_overload;
use super::metrics::{AttemptOutcome, TransactionMetrics};
use super::nesting;
use super::open_transactions::Owner;
use crate::{OperationName, Registry, scope};

/// The interval of checks for abandoned transactions without events.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Counts the transactions of code that does not use the runner. See the [module's
/// page](crate::transaction::listener) for examples and costs.
///
/// Cheap to clone; one listener may serve several clients.
#[derive(Clone)]
pub struct TransactionListener {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    tracker: Mutex<TransactionTracker<&'static TransactionMetrics>>,
    /// The number of tracked transactions, to return at once if there are none.
    followed: AtomicUsize,
    overload_retries: OverloadRetries,
    /// Stops the sweeper with the listener's last handler.
    sweeper: OnceLock<Option<Sender<()>>>,
}

impl TransactionListener {
    /// The maximum number of transactions that are tracked at a time.
    pub const MAX_OPEN: usize = 10_000;

    /// The default time without events after which a transaction is abandoned. The server ends a transaction after 60
    /// s by default, checking every 30 s.
    pub const ABANDON_AFTER: Duration = Duration::from_secs(90);

    /// With a shorter time, every slow statement would look like an abandoned transaction.
    const SHORTEST_SILENCE: Duration = Duration::from_millis(100);

    /// Creates a listener that counts into the process's recorder.
    #[must_use]
    pub fn new() -> Self {
        Self::with_registry(Registry::global())
    }

    /// Creates a listener that counts into `registry`. Inside an operation, the listener counts into the operation's
    /// registry.
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

    /// Sets the time without events after which a transaction counts as abandoned: by default, 90 s. If the server's
    /// `transactionLifetimeLimitSeconds` is not 60, set one and a half times that. At least 100 ms.
    #[must_use]
    pub fn abandon_after(self, silence: Duration) -> Self {
        self.shared.tracker().set_abandon_after(silence.max(Self::SHORTEST_SILENCE));
        self
    }

    /// Installs the listener in the options of a client.
    ///
    /// A handler of command events that is already set stays, and receives each event after the listener.
    pub fn install(&self, options: &mut ClientOptions) {
        self.shared.overload_retries.allow(options.max_adaptive_retries);
        let chained_handler = match options.command_event_handler.take() {
            None => self.chained_handler(),
            Some(theirs) => chain_handlers("TransactionListener", theirs, self.event_callback()),
        };
        options.command_event_handler = Some(chained_handler);
    }

    /// Returns a handler for `ClientOptions::command_event_handler`.
    ///
    /// The handler is a callback, which the driver calls inside the task that runs the command: only there are the
    /// operation's scope and the order of events known. The handler does not wait, and does not panic.
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

    /// Handles one event. A panic in here, such as of a recorder or a log of the application, would end the caller's
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
                        "a transaction's callback has written without the transaction's session: the write is not undone if \
                         the transaction aborts; put .session(&mut tx) on each statement"
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

    /// Releases the lock, and then logs abandoned transactions.
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

    /// Returns the metrics of the operation that starts a transaction in the current task.
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
                // Remove the entry first, so that the table is empty when the gauge is zero.
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

/// Whether the command writes. Aggregations with `$out` or `$merge` are ignored.
fn is_write(command: &str) -> bool {
    ["insert", "update", "delete", "findAndModify", "bulkWrite"].contains(&command)
}

/// Starts a thread that checks for abandoned transactions, so that no runtime is needed. If the thread cannot be
/// started, events still trigger checks.
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
