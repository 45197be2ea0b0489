//! At steady state a counted request allocates nothing. A program of its own, because it replaces the global
//! allocator.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tower::{Layer, Service};
use txnscope::{Metrics, TransactionLayer};

const REQUESTS: u64 = 10_000;

#[derive(Clone)]
struct NoOp;

impl<Req> Service<Req> for NoOp {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        ready(Ok(1))
    }
}

fn drive<S: Service<Req, Error = Infallible> + Clone, Req>(service: &S, request: Req) -> S::Response {
    // A router clones its services for each request.
    let mut service = service.clone();
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => unreachable!("a no-op service is ready at once"),
    }
}

#[test]
fn named_service_request_allocates_nothing() {
    let metrics = Metrics::isolated().unwrap();
    let service = TransactionLayer::named_with_registry("job", metrics.registry()).layer(NoOp);
    drive(&service, ());
    let counted = allocation_counter::measure(|| {
        for _ in 0..REQUESTS {
            drive(&service, ());
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
    // The layer has counted the measured requests.
    assert!(
        metrics
            .render()
            .contains(&format!("transaction_attempts_total{{operation=\"job\"}} {}", REQUESTS + 1))
    );
}

#[test]
fn allocation_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1_u64))));
    assert_eq!(counted.count_total, 1);
}

#[cfg(feature = "axum")]
mod routed {
    use axum::extract::MatchedPath;
    use axum::http::{Request, Response};
    use axum::{Router, routing::post};

    use super::*;

    /// A service whose HTTP response owns no memory.
    #[derive(Clone)]
    struct Empty;

    impl Service<Request<()>> for Empty {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(Ok(Response::new(())))
        }
    }

    /// The extension that axum inserts when it has matched a route.
    async fn matched_path() -> MatchedPath {
        use tower::ServiceExt;
        let (sender, receiver) = std::sync::mpsc::channel();
        let app: Router = Router::new().route(
            "/api/retainers/{id}/consume",
            post(move |path: MatchedPath| async move { drop(sender.send(path)) }),
        );
        let request = Request::post("/api/retainers/1/consume").body(axum::body::Body::empty()).unwrap();
        app.oneshot(request).await.unwrap();
        receiver.recv().unwrap()
    }

    #[tokio::test]
    async fn routed_request_allocates_nothing() {
        let metrics = Metrics::isolated().unwrap();
        let service = TransactionLayer::with_registry(metrics.registry()).layer(Empty);
        let path = matched_path().await;
        // Insert the extension before the measurement: that allocation is axum's.
        let mut requests: Vec<_> = (0..=REQUESTS)
            .map(|_| Request::post("/api/retainers/1/consume").extension(path.clone()).body(()).unwrap())
            .collect();
        drive(&service, requests.pop().unwrap());
        let counted = allocation_counter::measure(|| {
            for request in requests {
                drive(&service, request);
            }
        });
        assert_eq!(counted.count_total, 0, "{counted:?}");
        let series = "transaction_duration_seconds_count{operation=\"POST /api/retainers/{id}/consume\",outcome=\"succeeded\"}";
        let page = metrics.render();
        assert!(page.contains(&format!("{series} {}", REQUESTS + 1)), "{page}");
    }
}
