//! Runs inside the work of other runs, in the same task.
//!
//! The work of one run may run another: a helper that takes care of its own transaction, say. To wait there for a key
//! that the outer run holds is to wait for oneself; and two tasks that take two keys one inside the other, each in its own
//! order, wait for each other. Both are told at once, because the one who waits cannot end by himself.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::key::Key;
use super::keyed_queue::KeyedQueues;
use super::metrics::TransactionMetrics;

tokio::task_local! {
    /// The run whose work the current task is in.
    static CURRENT_RUN: Arc<RunScope>;
}

/// One run, and those that it is in the work of.
pub(super) struct RunScope {
    pub(super) metrics: &'static TransactionMetrics,
    outer: Option<Arc<RunScope>>,
    /// Whether it was said that it meets another transaction in the work of its own task.
    warned: AtomicBool,
}

impl RunScope {
    pub(super) fn new(metrics: &'static TransactionMetrics) -> Arc<Self> {
        let outer = CURRENT_RUN.try_with(Arc::clone).ok();
        Arc::new(Self { metrics, outer, warned: AtomicBool::new(false) })
    }

    /// Polls the work of that run, which knows then that it is.
    pub(super) fn scope<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT_RUN.scope(Arc::clone(self), work)
    }

    pub(super) fn is_nested(&self) -> bool {
        self.outer.is_some()
    }

    /// `true` the first time.
    pub(super) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Relaxed)
    }

    /// Whether that run is this one, or this one is in its work.
    fn is_within(self: &Arc<Self>, run: &Arc<Self>) -> bool {
        std::iter::successors(Some(self), |inner| inner.outer.as_ref()).any(|outer| Arc::ptr_eq(outer, run))
    }
}

/// The counters of the run whose work the current task is in, if it is in one.
pub(super) fn current() -> Option<&'static TransactionMetrics> {
    CURRENT_RUN.try_with(|run| run.metrics).ok()
}

/// Those who hold keys, they or a run that they are in the work of, and wait for another.
static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

struct Waiting {
    run: Arc<RunScope>,
    queues: Arc<KeyedQueues>,
    key: Key,
}

/// That a run waits for a key while it holds others, until this is dropped.
pub(super) struct WaitRegistration(Arc<RunScope>);

impl WaitRegistration {
    /// # Errors
    ///
    /// If its wait could only end after itself.
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

/// Whether what that holder waits for, or what is in its work, is held by the run or by what it is in the work of.
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
        // A run waits for one key at a time.
        if let Some(index) = waiting.iter().position(|other| Arc::ptr_eq(&other.run, &self.0)) {
            waiting.swap_remove(index);
        }
    }
}

/// A transaction waits for a key that can only become free after itself: it, or one that it waits for, is in the work of
/// the transaction that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    key: String,
    holder: &'static str,
}

impl Deadlock {
    /// The key, as far as it can be shown: a number or a text as such, of anything else its type.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operation of the transaction that holds it.
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
            "the key {key} is held by a transaction of {holder:?} that cannot end before this one; name all keys at once, \
             at the outermost transaction"
        )
    }
}

impl std::error::Error for Deadlock {}
