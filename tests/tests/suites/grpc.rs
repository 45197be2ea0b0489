//! The layer around a third-party application: tonic's router with the gRPC health service.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;
use txnscope::{Metrics, TransactionLayer};

/// The health service of tonic in an axum router.
async fn health() -> Router {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("ledger", tonic_health::ServingStatus::Serving).await;
    Routes::new(service).into_axum_router()
}

#[tokio::test]
async fn grpc_calls_are_counted_by_route() {
    let metrics = Metrics::isolated().unwrap();
    let app = health().await.layer(TransactionLayer::with_registry(metrics.registry())).with_state(());
    let mut client = HealthClient::new(app);
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(client.check(check("ledger")).await.unwrap().into_inner().status, 1);
    assert!(client.check(check("unknown")).await.is_err());
    let scrape = testkit::Scrape::parse(&metrics.render()).unwrap();
    let operation = [("operation", "POST /grpc.health.v1.Health/{*rest}")];
    assert_eq!(scrape.value("transaction_attempts_total", &operation), Some(2.0));
    assert_eq!(scrape.sum("transaction_duration_seconds_count", &operation), 2.0);
    assert_eq!(scrape.value("concurrent_operations", &operation), Some(0.0));
    // `Err(Status::not_found)` is a response with headers only and HTTP status 200.
    let ended = |outcome| {
        scrape
            .value("transaction_duration_seconds_count", &[operation[0], ("outcome", outcome)])
            .unwrap_or(0.0)
    };
    assert_eq!((ended("succeeded"), ended("rejected")), (1.0, 1.0));
    let reason = [operation[0], ("outcome", "rejected"), ("reason", "invalid_request")];
    assert_eq!(scrape.value("transaction_failures_total", &reason), Some(1.0));
}

/// The outcome of a handler's `Err` with each code.
#[tokio::test]
async fn grpc_status_of_a_headers_only_response_decides_the_outcome() {
    use tonic::Code;
    let expected = [
        (Code::Ok, "succeeded", ""),
        (Code::Cancelled, "rejected", "cancelled"),
        (Code::Unknown, "failed", "other"),
        (Code::InvalidArgument, "rejected", "invalid_request"),
        (Code::DeadlineExceeded, "failed", "timeout"),
        (Code::NotFound, "rejected", "invalid_request"),
        (Code::AlreadyExists, "rejected", "application"),
        (Code::PermissionDenied, "rejected", "unauthorized"),
        (Code::ResourceExhausted, "rejected", "application"),
        (Code::FailedPrecondition, "rejected", "application"),
        (Code::Aborted, "rejected", "application"),
        (Code::OutOfRange, "rejected", "invalid_request"),
        (Code::Unimplemented, "rejected", "invalid_request"),
        (Code::Internal, "failed", "other"),
        (Code::Unavailable, "failed", "other"),
        (Code::DataLoss, "failed", "other"),
        (Code::Unauthenticated, "rejected", "unauthorized"),
    ];
    for (code, outcome, reason) in expected {
        let metrics = Metrics::isolated().unwrap();
        let handler = move || async move { tonic::Status::new(code, "no").into_http::<Body>() };
        let app: Router = Router::new()
            .route("/pay", post(handler))
            .layer(TransactionLayer::with_registry(metrics.registry()));
        let request = Request::builder().method("POST").uri("/pay").body(Body::empty()).unwrap();
        assert_eq!(app.oneshot(request).await.unwrap().status(), StatusCode::OK, "gRPC is always 200");
        let scrape = testkit::Scrape::parse(&metrics.render()).unwrap();
        let ended = [("operation", "POST /pay"), ("outcome", outcome)];
        assert_eq!(scrape.value("transaction_duration_seconds_count", &ended), Some(1.0), "{code:?}");
        if outcome != "succeeded" {
            let failure = [ended[0], ended[1], ("reason", reason)];
            assert_eq!(scrape.value("transaction_failures_total", &failure), Some(1.0), "{code:?}");
        }
    }
}

#[tokio::test]
async fn unmatched_paths_and_methods_of_adjacent_routes_are_counted() {
    let metrics = Metrics::isolated().unwrap();
    let app: Router = health()
        .await
        .route("/invoices/{id}/pay", post(|| async { "paid" }))
        .layer(TransactionLayer::with_registry(metrics.registry()));
    let status = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status("POST", "/invoices/4711/pay").await, StatusCode::OK);
    assert_eq!(status("PUT", "/invoices/4711/pay").await, StatusCode::METHOD_NOT_ALLOWED);
    status("POST", "/no.such.Service/Call").await;
    status("GET", "/invoices/4711/pay").await;

    let page = metrics.render();
    let scrape = testkit::Scrape::parse(&page).unwrap();
    let attempts = |operation| scrape.value("transaction_attempts_total", &[("operation", operation)]);
    assert_eq!(attempts("POST /invoices/{id}/pay"), Some(1.0));
    // A method that the route does not support is not a separate operation.
    assert_eq!(attempts("PUT /invoices/{id}/pay"), None);
    assert_eq!(attempts("unmatched"), Some(2.0));
    assert_eq!(scrape.sum("transaction_attempts_total", &[]), 3.0, "a safe method was counted:\n{page}");
    assert!(!page.contains("4711"), "a raw path became a label:\n{page}");
}
