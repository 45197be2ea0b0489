//! The floor: the minimal cost of counting and timing a request. Two reads of the standard clock, and three atomic
//! additions: a counter, a histogram's bucket and its sum.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Debug, Default)]
pub(crate) struct FloorCounters {
    requests: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl FloorCounters {
    fn record(&self, begin: Instant) {
        let elapsed = begin.elapsed();
        let seconds = elapsed.as_secs_f64();
        let index = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[index].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The floor by itself, without a request.
    pub(crate) fn count(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.record(black_box(now()));
    }
}

#[allow(clippy::disallowed_methods, reason = "the floor is that clock's")]
fn now() -> Instant {
    Instant::now()
}

/// The floor as a layer. Requests that are dropped before their response are not counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloorLayer(pub(crate) &'static FloorCounters);

#[derive(Debug, Clone)]
pub(crate) struct Floor<S> {
    inner: S,
    counters: &'static FloorCounters,
}

impl<S> Layer<S> for FloorLayer {
    type Service = Floor<S>;

    fn layer(&self, inner: S) -> Floor<S> {
        Floor { inner, counters: self.0 }
    }
}

impl<S: Service<Req>, Req> Service<Req> for Floor<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.counters.requests.fetch_add(1, Relaxed);
        let begin = now();
        Timed { inner: self.inner.call(request), counters: self.counters, begin }
    }
}

pin_project! {
    pub(crate) struct Timed<F> {
        #[pin]
        inner: F,
        counters: &'static FloorCounters,
        begin: Instant,
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        this.counters.record(*this.begin);
        Poll::Ready(output)
    }
}
