//! The operation that the current task works for.
//!
//! The layer polls the handler inside a scope. Code below it (the handler, a transaction, a driver's event handler)
//! asks here which operation it serves and says what went wrong, without a parameter passed down. A spawned task does
//! not inherit the scope: take the [handle](current) along and give the task its scope.
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

mod context;
mod current;
mod guard;
mod unregistered;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tracing::Span;

use self::context::{ContextCell, OperationContext};
use self::current::Previous;
pub(crate) use self::guard::OperationGuard;
use crate::Reason;
use crate::registry::OperationMetrics;

/// The name of the current operation, if there is one.
#[must_use]
pub fn operation() -> Option<&'static str> {
    current::operation().map(|operation| operation.name)
}

/// The metrics of the current operation, if there is one.
#[cfg(feature = "mongodb")]
pub(crate) fn metrics() -> Option<&'static OperationMetrics> {
    current::operation()
}

/// The span that the current operation was given, if it was.
#[cfg(feature = "mongodb")]
pub(crate) fn span() -> Option<Span> {
    current::with_context(|_, context| context.span()).flatten()
}

/// A handle on the current operation, if there is one, for code that spawns.
#[must_use]
pub fn current() -> Option<OperationHandle> {
    current::with_context(|operation, context| OperationHandle { operation, context: context.share() })
}

/// Notes why an attempt failed. The last reason noted is the operation's own if the operation fails and nobody
/// says more precisely why. Does nothing outside of an operation.
pub fn note_reason(reason: Reason) {
    current::with_context(|_, context| context.write(|context| context.note(None, reason)));
}

/// The same, of that transaction: if it commits after all, the note is of no account.
#[cfg(feature = "mongodb")]
pub(crate) fn note_reason_of(transaction: u64, reason: Reason) {
    current::with_context(|_, context| context.write(|context| context.note(Some(transaction), reason)));
}

/// That transaction has committed: what it noted is of no account.
#[cfg(feature = "mongodb")]
pub(crate) fn forget_reason_of(transaction: u64) {
    current::with_context(|_, context| {
        if !context.is_empty() {
            context.write(|context| context.forget(transaction));
        }
    });
}

/// Gives the operation the span whose fields its failure event shall carry: entity, amount and the like. Call it
/// first in a handler with [`Span::current`]: then even a cancelled request says what it was about. Does nothing
/// outside of an operation.
pub fn attach_span(span: Span) {
    // The span that it replaces is dropped outside: its end may run code of the application's.
    let before = current::with_context(|_, context| {
        let mut before = None;
        context.write(|context| before = context.span.replace(span));
        before
    });
    drop(before);
}

/// A handle on an operation, for code that spawns. Cheap to clone; it may outlive the request.
#[derive(Clone)]
pub struct OperationHandle {
    operation: &'static OperationMetrics,
    context: Arc<Mutex<OperationContext>>,
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
        let context = ContextCell::Shared(Arc::clone(&self.context));
        Scoped { inner: Some(future), operation: self.operation, context }
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
        inner: Option<F>,
        operation: &'static OperationMetrics,
        context: ContextCell,
    }

    impl<F> PinnedDrop for Scoped<F> {
        /// What the future still has to say on its drop is said inside the scope.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                let _entered = ScopeGuard::new(this.operation, this.context);
                this.inner.set(None);
            }
        }
    }
}

/// While the thread works for an operation that is the request's to count.
struct ScopeGuard<'a> {
    context: &'a mut ContextCell,
    previous: Previous,
}

impl<'a> ScopeGuard<'a> {
    fn new(operation: &'static OperationMetrics, context: &'a mut ContextCell) -> Self {
        let previous = current::enter(operation, context);
        Self { context, previous }
    }
}

impl Drop for ScopeGuard<'_> {
    fn drop(&mut self) {
        let _ = current::exit(&self.previous, self.context);
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = ScopeGuard::new(this.operation, this.context);
        poll_once(this.inner, cx)
    }
}

/// Polls a future, and drops it where it was polled as soon as it is ready.
///
/// # Panics
///
/// If it was ready before, which is its caller's error.
pub(crate) fn poll_once<F: Future>(mut future: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    #[allow(clippy::expect_used, reason = "the contract of `Future`, which an `async` block holds likewise")]
    let polled = future.as_mut().as_pin_mut().expect("a future is not polled after it was ready").poll(cx);
    if polled.is_ready() {
        future.set(None);
    }
    polled
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").finish_non_exhaustive()
    }
}
