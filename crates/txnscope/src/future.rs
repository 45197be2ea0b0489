//! The future of a request that passes through the layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::ClassifyResponse;
use crate::scope::{OperationGuard, poll_once};

pin_project! {
    /// The future of [`TransactionService`](crate::TransactionService).
    ///
    /// # Cancellation
    ///
    /// If the future is dropped before its response is ready, the operation counts as `cancelled`; a timeout around
    /// the layer has the same effect, so put timeouts inside. The body passes through untouched: a stream or
    /// server-sent events are not measured.
    pub struct ResponseFuture<F, C> {
        #[pin]
        kind: Kind<F, C>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, C> {
        Uncounted { #[pin] inner: F },
        Counted { #[pin] inner: InstrumentedFuture<F>, classify: C },
    }
}

pin_project! {
    /// A future that is polled and dropped inside of its operation's scope.
    struct InstrumentedFuture<F> {
        #[pin]
        inner: Option<F>,
        guard: OperationGuard,
    }

    impl<F> PinnedDrop for InstrumentedFuture<F> {
        /// Drops an unfinished future inside of its operation's scope, so that the reasons noted by its destructors
        /// count.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                let entered = this.guard.enter();
                this.inner.set(None);
                entered.exit();
            }
        }
    }
}

impl<F: Future> InstrumentedFuture<F> {
    fn poll<C, Res, E>(self: Pin<&mut Self>, cx: &mut Context<'_>, classify: &C) -> Poll<F::Output>
    where
        F: Future<Output = Result<Res, E>>,
        C: ClassifyResponse<Res, E>,
    {
        let this = self.project();
        let entered = this.guard.enter();
        let polled = poll_once(this.inner, cx);
        entered.exit();
        if let Poll::Ready(result) = &polled {
            this.guard.finish(match result {
                Ok(response) => classify.response(response),
                Err(error) => classify.error(error),
            });
        }
        polled
    }
}

impl<F: Future, C> ResponseFuture<F, C> {
    pub(crate) fn uncounted(inner: F) -> Self {
        Self { kind: Kind::Uncounted { inner } }
    }

    pub(crate) fn counted(guard: OperationGuard, inner: F, classify: C) -> Self {
        Self { kind: Kind::Counted { inner: InstrumentedFuture { inner: Some(inner), guard }, classify } }
    }
}

impl<F, C, Res, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: ClassifyResponse<Res, E>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().kind.project() {
            KindProj::Uncounted { inner } => inner.poll(cx),
            KindProj::Counted { inner, classify } => inner.poll(cx, classify),
        }
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
