//! The current operation of a task.
//!
//! The layer polls the handler inside a scope. Code below the layer (the handler, a transaction, a driver's event
//! handler) asks here for the current operation and notes reasons for failures, without a parameter passed down. A
//! spawned task does not inherit the scope: pass the [handle](current) and poll the task's future inside
//! [`OperationHandle::scope`].
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

/// Returns the name of the current operation, if there is one.
#[must_use]
pub fn operation() -> Option<&'static str> {
    current::operation().map(|operation| operation.name)
}

/// Returns the metrics of the current operation, if there is one.
#[cfg(feature = "mongodb")]
pub(crate) fn metrics() -> Option<&'static OperationMetrics> {
    current::operation()
}

/// Returns the span attached to the current operation, if any.
#[cfg(feature = "mongodb")]
pub(crate) fn span() -> Option<Span> {
    current::with_context(|_, context| context.span()).flatten()
}

/// Returns a handle on the current operation, if there is one, for code that spawns tasks.
#[must_use]
pub fn current() -> Option<OperationHandle> {
    current::with_context(|operation, context| OperationHandle { operation, context: context.share() })
}

/// Notes why an attempt failed. If the operation fails without a more specific classification, the last reason noted
/// becomes the operation's reason. Has no effect outside of an operation.
pub fn note_reason(reason: Reason) {
    current::with_context(|_, context| context.write(|context| context.note(None, reason)));
}

/// Notes why an attempt of a transaction failed. The reason is dropped if the transaction commits later.
#[cfg(feature = "mongodb")]
pub(crate) fn note_reason_of(transaction: u64, reason: Reason) {
    current::with_context(|_, context| context.write(|context| context.note(Some(transaction), reason)));
}

/// Drops the reasons noted by a transaction that has committed.
#[cfg(feature = "mongodb")]
pub(crate) fn forget_reason_of(transaction: u64) {
    current::with_context(|_, context| {
        if !context.is_empty() {
            context.write(|context| context.forget(transaction));
        }
    });
}

/// Attaches the span whose fields the operation's failure event carries: entity, amount and the like. Call this first
/// in a handler with [`Span::current`], so that even a cancelled request is logged with these fields. Has no effect
/// outside of an operation.
pub fn attach_span(span: Span) {
    // Drops the replaced span outside of the borrow: its destructor may run code of the application.
    let before = current::with_context(|_, context| {
        let mut before = None;
        context.write(|context| before = context.span.replace(span));
        before
    });
    drop(before);
}

/// A handle on an operation, for code that spawns tasks. Cheap to clone; it may outlive the request.
#[derive(Clone)]
pub struct OperationHandle {
    operation: &'static OperationMetrics,
    context: Arc<Mutex<OperationContext>>,
}

impl OperationHandle {
    /// Returns the name of the operation.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation.name
    }

    /// Polls a future inside the operation's scope: the future sees the operation, and reasons that it notes reach
    /// the request as long as the request exists.
    ///
    /// # Cancellation
    ///
    /// Dropping the future counts nothing: the request counts the operation.
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
        /// Drops an unfinished future inside the scope, so that its destructors see the operation.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                let _entered = ScopeGuard::new(this.operation, this.context);
                this.inner.set(None);
            }
        }
    }
}

/// Makes an operation current on this thread without counting it: the request counts it.
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

/// Polls a future, and drops it inside of the scope as soon as it is ready.
///
/// # Panics
///
/// If the future was ready before, which violates the contract of `Future`.
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
