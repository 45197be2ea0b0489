//! Nested transactions: transactions inside the callback of another transaction, in the same task.
//!
//! A callback may run another transaction, such as through a helper function. Waiting there for a key that the outer
//! transaction holds would wait forever, and so would two tasks that acquire two keys in nested transactions in
//! opposite order. Both are detected and fail at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::key::Key;
use super::keyed_queue::KeyedQueues;
use super::metrics::TransactionMetrics;

tokio::task_local! {
    /// The transaction in whose callback the current task is.
    static CURRENT_RUN: Arc<RunScope>;
}

/// One transaction, and the outer transactions in whose callbacks it runs.
pub(super) struct RunScope {
    pub(super) metrics: &'static TransactionMetrics,
    outer: Option<Arc<RunScope>>,
    /// Whether a conflict with another transaction of its own task was logged.
    warned: AtomicBool,
}

impl RunScope {
    pub(super) fn new(metrics: &'static TransactionMetrics) -> Arc<Self> {
        let outer = CURRENT_RUN.try_with(Arc::clone).ok();
        Arc::new(Self { metrics, outer, warned: AtomicBool::new(false) })
    }

    /// Polls a callback inside this scope.
    pub(super) fn scope<F: Future>(
        self: &Arc<Self>,
        callback: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        CURRENT_RUN.scope(Arc::clone(self), callback)
    }

    pub(super) fn is_nested(&self) -> bool {
        self.outer.is_some()
    }

    /// Returns `true` the first time.
    pub(super) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Relaxed)
    }

    /// Whether this transaction is `run`, or runs in its callback.
    fn is_within(self: &Arc<Self>, run: &Arc<Self>) -> bool {
        std::iter::successors(Some(self), |inner| inner.outer.as_ref()).any(|outer| Arc::ptr_eq(outer, run))
    }
}

/// Returns the metrics of the transaction in whose callback the current task is.
pub(super) fn current() -> Option<&'static TransactionMetrics> {
    CURRENT_RUN.try_with(|run| run.metrics).ok()
}

/// The transactions that wait for a key while they, or an outer transaction, hold others.
static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

struct Waiting {
    run: Arc<RunScope>,
    queues: Arc<KeyedQueues>,
    key: Key,
}

/// Registers that a transaction waits for a key while it holds others, until this is dropped.
pub(super) struct WaitRegistration(Arc<RunScope>);

impl WaitRegistration {
    /// # Errors
    ///
    /// If the wait could only end after the transaction itself.
    pub(super) fn new(run: &Arc<RunScope>, queues: &Arc<KeyedQueues>, key: Key) -> Result<Self, Deadlock> {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = queues.holder(key)
            && closes_cycle(&waiting, run, &holder, &mut Vec::new())
        {
            return Err(Deadlock { key: key.to_string(), holder: holder.metrics.operation() });
        }
        waiting.push(Waiting { run: Arc::clone(run), queues: Arc::clone(queues), key });
        Ok(Self(Arc::clone(run)))
    }
}

/// Whether the holder waits, directly or through others, for a key of this transaction or of an outer one.
fn closes_cycle(
    waiting: &[Waiting],
    run: &Arc<RunScope>,
    holder: &Arc<RunScope>,
    seen: &mut Vec<Arc<RunScope>>,
) -> bool {
    if run.is_within(holder) {
        return true;
    }
    if seen.iter().any(|run| Arc::ptr_eq(run, holder)) {
        return false;
    }
    seen.push(Arc::clone(holder));
    waiting.iter().filter(|other| other.run.is_within(holder)).any(|other| {
        let next = other.queues.holder(other.key);
        next.is_some_and(|next| closes_cycle(waiting, run, &next, seen))
    })
}

impl Drop for WaitRegistration {
    fn drop(&mut self) {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        // A transaction waits for one key at a time.
        if let Some(index) = waiting.iter().position(|other| Arc::ptr_eq(&other.run, &self.0)) {
            waiting.swap_remove(index);
        }
    }
}

/// The error of a transaction that waits for a key that can only become free after its own end, because it, or a
/// transaction that it waits for, runs in the callback of the key's holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    key: String,
    holder: &'static str,
}

impl Deadlock {
    /// Returns the key: a number or a text, or the type of anything else.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the operation of the transaction that holds the key.
    #[must_use]
    pub fn holder(&self) -> &'static str {
        self.holder
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, holder } = self;
        write!(
            f,
            "the key {key} is held by a transaction of {holder:?} that cannot end before this one; set all keys on \
             the outermost transaction"
        )
    }
}

impl std::error::Error for Deadlock {}
