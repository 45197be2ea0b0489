//! The operation that the current task works for.
//!
//! The layer polls the handler inside a task-local scope. Code below it (the handler, a transaction, a driver's
//! event handler) asks here which operation it serves and says what went wrong, without a parameter passed down.
//! A spawned task does not inherit a task-local: take the [handle](current) along and give the task its scope.
//!
//! ```
//! # async fn handler() {
//! if let Some(operation) = txnscope::scope::current() {
//!     tokio::spawn(operation.scope(async {
//!         assert!(txnscope::scope::operation().is_some());
//!     }));
//! }
//! # }
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use quanta::Instant;
use tokio::task::futures::TaskLocalFuture;
use tracing::Span;

use crate::registry::OperationMetrics;
use crate::{Outcome, Reason, Verdict, event};

tokio::task_local! {
    static SCOPE: Scope;
}

/// The name of the current operation, if there is one.
#[must_use]
pub fn operation() -> Option<&'static str> {
    SCOPE.try_with(|scope| scope.operation.name).ok()
}

/// The metrics of the current operation, if there is one.
#[cfg(feature = "mongodb")]
pub(crate) fn metrics() -> Option<&'static OperationMetrics> {
    SCOPE.try_with(|scope| scope.operation).ok()
}

/// The span that the current operation was given, if it was.
#[cfg(feature = "mongodb")]
pub(crate) fn span() -> Option<Span> {
    SCOPE.try_with(|scope| scope.pad.borrow().read(|notes| notes.span.clone())).ok().flatten()
}

/// A handle on the current operation, if there is one, for code that spawns.
#[must_use]
pub fn current() -> Option<OperationHandle> {
    SCOPE.try_with(Scope::handle).ok()
}

/// Notes why an attempt failed. The last reason noted is the operation's own if the operation fails and nobody
/// says more precisely why. Does nothing outside of an operation.
pub fn note_reason(reason: Reason) {
    let _ = SCOPE.try_with(|scope| scope.pad.borrow_mut().write(|notes| notes.reason = Some(reason)));
}

/// Gives the operation the span whose fields its failure event shall carry: entity, amount and the like. Call it
/// first in a handler with [`Span::current`]: then even a cancelled request says what it was about. Does nothing
/// outside of an operation.
pub fn attach_span(span: Span) {
    let _ = SCOPE.try_with(|scope| scope.pad.borrow_mut().write(|notes| notes.span = Some(span)));
}

/// What the code below has said so far.
#[derive(Debug, Default)]
struct Notes {
    reason: Option<Reason>,
    span: Option<Span>,
}

/// Where the notes are. Most requests have none, and a scope is moved often: so it holds a pointer at most.
#[derive(Debug, Default)]
enum Pad {
    #[default]
    Empty,
    Own(Box<Notes>),
    /// With handles on the operation.
    Shared(Arc<Mutex<Notes>>),
}

impl Pad {
    fn write(&mut self, f: impl FnOnce(&mut Notes)) {
        match self {
            Self::Empty => {
                let mut notes = Box::<Notes>::default();
                f(&mut notes);
                *self = Self::Own(notes);
            }
            Self::Own(notes) => f(notes),
            Self::Shared(notes) => f(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    #[cfg(feature = "mongodb")]
    fn read<T>(&self, f: impl FnOnce(&Notes) -> T) -> T {
        match self {
            Self::Empty => f(&Notes::default()),
            Self::Own(notes) => f(notes),
            Self::Shared(notes) => f(&notes.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn share(&mut self) -> Arc<Mutex<Notes>> {
        let shared = match std::mem::take(self) {
            Self::Empty => Arc::default(),
            Self::Own(notes) => Arc::new(Mutex::new(*notes)),
            Self::Shared(notes) => notes,
        };
        *self = Self::Shared(Arc::clone(&shared));
        shared
    }

    fn take(&mut self) -> Notes {
        match std::mem::take(self) {
            Self::Empty => Notes::default(),
            Self::Own(notes) => *notes,
            Self::Shared(notes) => std::mem::take(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// One admitted operation: counted when it enters, and counted once more however it leaves.
///
/// This is the drop guard. It lives inside the task-local slot, so that a request needs no allocation and no
/// reference count; only notes and handles put something on the heap.
pub(crate) struct Scope {
    operation: &'static OperationMetrics,
    pad: RefCell<Pad>,
    /// When it was admitted; `None` once it is counted or moved, and for a scope lent to a spawned task.
    admitted: Cell<Option<Instant>>,
    /// What it means if this is dropped unfinished: `Cancelled` or `Panicked`.
    dropped: Cell<Outcome>,
}

impl Scope {
    /// Admits an operation. Dropped unfinished, it counts as cancelled.
    pub(crate) fn admit(operation: &'static OperationMetrics) -> Self {
        Self::admit_since(operation, None)
    }

    /// Admits an operation that has waited since then.
    pub(crate) fn admit_since(operation: &'static OperationMetrics, since: Option<Instant>) -> Self {
        operation.attempts.increment(1);
        operation.concurrent.increment(1.0);
        Self {
            operation,
            pad: RefCell::default(),
            admitted: Cell::new(Some(since.unwrap_or_else(Instant::now))),
            dropped: Cell::new(Outcome::Cancelled),
        }
    }

    /// Whether the current task already works for that operation, so that a second layer must not count it again.
    pub(crate) fn is_within(operation: &'static OperationMetrics) -> bool {
        SCOPE.try_with(|scope| std::ptr::eq(scope.operation, operation)).unwrap_or(false)
    }

    /// Runs a service's `call` inside this scope. If it panics, the operation counts as panicked.
    pub(crate) fn call<T>(self, call: impl FnOnce() -> T) -> (Self, T) {
        self.dropped.set(Outcome::Panicked);
        SCOPE.sync_scope(self, || {
            let called = call();
            (SCOPE.with(Self::take), called)
        })
    }

    /// Moves everything out of the task-local slot, which is dropped behind it and counts nothing.
    fn take(&self) -> Self {
        Self {
            operation: self.operation,
            pad: RefCell::new(self.pad.take()),
            admitted: Cell::new(self.admitted.take()),
            dropped: Cell::new(Outcome::Cancelled),
        }
    }

    /// Polls a future inside this scope.
    pub(crate) fn around<F: Future>(self, future: F) -> TaskLocalFuture<Self, F> {
        SCOPE.scope(self, future)
    }

    /// Counts the end of the operation.
    pub(crate) fn finish(self, verdict: Verdict) {
        self.end(verdict);
    }

    /// Counts the end of an operation whose future panicked.
    pub(crate) fn panicked(self) {
        self.dropped.set(Outcome::Panicked);
    }

    fn end(&self, verdict: Verdict) {
        let Some(admitted) = self.admitted.take() else { return };
        let elapsed = admitted.elapsed();
        let outcome = verdict.outcome();
        // The duration before the gauge: a scrape in between sees the operation twice rather than not at all.
        self.operation.duration(outcome).record(elapsed.as_secs_f64());
        self.operation.concurrent.decrement(1.0);
        if outcome != Outcome::Succeeded {
            self.explain(verdict, elapsed);
        }
    }

    /// Counts and logs why it did not succeed.
    #[cold]
    fn explain(&self, verdict: Verdict, elapsed: Duration) {
        let notes = self.pad.borrow_mut().take();
        let verdict = verdict.hearing(notes.reason);
        self.operation.failure(verdict.outcome(), verdict.reason()).increment(1);
        event::emit(self.operation.name, &verdict, elapsed, notes.span.as_ref());
    }

    /// Counts the end of an operation that nobody finished.
    #[cold]
    fn abandon(&self) {
        let outcome = self.dropped.get();
        let reason = if outcome == Outcome::Panicked { Reason::PANIC } else { Reason::CANCELLED };
        self.end(Verdict::new(outcome, reason));
    }

    fn handle(&self) -> OperationHandle {
        OperationHandle { operation: self.operation, notes: self.pad.borrow_mut().share() }
    }
}

impl Drop for Scope {
    /// A scope is dropped several times for each request, and nearly always after it was counted or moved.
    fn drop(&mut self) {
        if self.admitted.get().is_some() {
            self.abandon();
        }
    }
}

/// A handle on an operation, for code that spawns. Cheap to clone; it may outlive the request.
#[derive(Clone)]
pub struct OperationHandle {
    operation: &'static OperationMetrics,
    notes: Arc<Mutex<Notes>>,
}

impl OperationHandle {
    /// The name of the operation.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation.name
    }

    /// Polls a future inside the operation's scope: it sees the operation, and what it notes is heard by the
    /// request as long as the request is there.
    ///
    /// # Cancellation
    ///
    /// Dropping the future counts nothing: the operation belongs to the request.
    #[must_use = "futures do nothing unless polled"]
    pub fn scope<F: Future>(&self, future: F) -> Scoped<F> {
        let scope = Scope {
            operation: self.operation,
            pad: RefCell::new(Pad::Shared(Arc::clone(&self.notes))),
            admitted: Cell::new(None),
            dropped: Cell::new(Outcome::Cancelled),
        };
        Scoped { inner: scope.around(future) }
    }
}

impl fmt::Debug for OperationHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationHandle").field("operation", &self.operation.name).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`OperationHandle::scope`].
    pub struct Scoped<F> {
        #[pin]
        inner: TaskLocalFuture<Scope, F>,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").finish_non_exhaustive()
    }
}
