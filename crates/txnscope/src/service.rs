//! The service that the layer creates.

use std::task::{Context, Poll};

use tower_service::Service;

use crate::scope::OperationGuard;
use crate::timestamp::Timestamp;
use crate::{ClassifyRequest, ClassifyResponse, Registry, ResponseFuture};

/// Counts and times the operations of an inner service. Created by [`TransactionLayer`](crate::TransactionLayer).
#[derive(Debug)]
pub struct TransactionService<S, C> {
    inner: S,
    classify: C,
    registry: Registry,
    /// When the inner service was first found not ready.
    not_ready_since: Option<Timestamp>,
    /// How many ticks the next request has waited for readiness.
    waited_ticks: u64,
}

impl<S, C> TransactionService<S, C> {
    pub(crate) fn new(inner: S, classify: C, registry: Registry) -> Self {
        Self { inner, classify, registry, not_ready_since: None, waited_ticks: 0 }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, without the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, C: Clone> Clone for TransactionService<S, C> {
    /// Starts without a readiness wait: the clone has not waited yet.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.classify.clone(), self.registry)
    }
}

impl<S, C, Req> Service<Req> for TransactionService<S, C>
where
    S: Service<Req>,
    C: ClassifyRequest<Req> + ClassifyResponse<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    /// The wait for readiness is a part of the next request's duration. An error counts as one failed operation whose
    /// duration is the time since the first `poll_ready`, because `call` never runs.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let ready = self.inner.poll_ready(cx);
        match &ready {
            Poll::Pending => {
                self.not_ready_since.get_or_insert_with(Timestamp::now);
            }
            Poll::Ready(Ok(())) => {
                if let Some(started_at) = self.not_ready_since.take() {
                    // The time between readiness and the call is the caller's.
                    self.waited_ticks = started_at.ticks();
                }
            }
            Poll::Ready(Err(error)) => {
                let operation = self.registry.resolve(self.classify.not_ready());
                let started_at = self.not_ready_since.take().unwrap_or_else(Timestamp::now);
                OperationGuard::started_at(operation, started_at).finish(self.classify.error(error));
            }
        }
        ready
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let waited_ticks = std::mem::take(&mut self.waited_ticks);
        let Some(name) = self.classify.operation(&request) else {
            return ResponseFuture::uncounted(self.inner.call(request));
        };
        let Some(operation) = self.registry.get(name) else {
            let Some(guard) = OperationGuard::first_request(self.registry, name, waited_ticks) else {
                return ResponseFuture::uncounted(self.inner.call(request));
            };
            return self.call_first(guard, request);
        };
        if OperationGuard::is_within(operation) {
            return ResponseFuture::uncounted(self.inner.call(request));
        }
        let mut guard = OperationGuard::new(operation, waited_ticks);
        let entered = guard.enter();
        let future = self.inner.call(request);
        entered.exit();
        ResponseFuture::counted(guard, future, self.classify.clone())
    }
}

impl<S, C> TransactionService<S, C> {
    /// Calls the inner service for the first request of an undeclared name.
    #[cold]
    fn call_first<Req>(&mut self, mut guard: OperationGuard, request: Req) -> ResponseFuture<S::Future, C>
    where
        S: Service<Req>,
        C: Clone,
    {
        let entered = guard.enter();
        let future = self.inner.call(request);
        entered.exit();
        ResponseFuture::counted(guard, future, self.classify.clone())
    }
}
