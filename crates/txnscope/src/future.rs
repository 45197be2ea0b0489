//! The future of a counted request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

use crate::ClassifyResponse;
use crate::scope::Scope;

pin_project! {
    /// The future of [`TransactionService`](crate::TransactionService).
    ///
    /// # Cancellation
    ///
    /// Dropped before its response is ready, the operation counts as `cancelled`. The body is not its concern:
    /// it passes through untouched, and what happens to it is not counted.
    pub struct ResponseFuture<F, C> {
        #[pin]
        kind: Kind<F, C>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, C> {
        Uncounted { #[pin] inner: F },
        Counted { #[pin] inner: TaskLocalFuture<Scope, F>, classify: C },
    }
}

impl<F: Future, C> ResponseFuture<F, C> {
    pub(crate) fn uncounted(inner: F) -> Self {
        Self { kind: Kind::Uncounted { inner } }
    }

    pub(crate) fn counted(scope: Scope, inner: F, classify: C) -> Self {
        Self { kind: Kind::Counted { inner: scope.around(inner), classify } }
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
            KindProj::Counted { mut inner, classify } => {
                let mut polling = Polling { inner: inner.as_mut(), returned: false };
                let polled = polling.inner.as_mut().poll(cx);
                polling.returned = true;
                drop(polling);
                let result = ready!(polled);
                let verdict = match &result {
                    Ok(response) => classify.response(response),
                    Err(error) => classify.error(error),
                };
                if let Some(scope) = inner.take_value() {
                    scope.finish(verdict);
                }
                Poll::Ready(result)
            }
        }
    }
}

/// Counts a panic of the inner future. Whether the future is later dropped while its task unwinds, or calmly by
/// somebody who caught the panic, can't be told from the drop; here it can.
struct Polling<'a, F> {
    inner: Pin<&'a mut TaskLocalFuture<Scope, F>>,
    returned: bool,
}

impl<F> Drop for Polling<'_, F> {
    fn drop(&mut self) {
        if self.returned {
            return;
        }
        if let Some(scope) = self.inner.as_mut().take_value() {
            scope.panicked();
        }
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
