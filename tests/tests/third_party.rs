//! The layer around an axum application that is not ours: tonic's router with the gRPC health service in it.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;
use txnscope::{Metrics, TransactionLayer};

/// The health service as tonic serves it, in a router that axum knows.
async fn health() -> Router {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("ledger", tonic_health::ServingStatus::Serving).await;
    Routes::new(service).into_axum_router()
}

#[tokio::test]
async fn calls_of_a_grpc_service_are_counted_under_its_route() {
    let metrics = Metrics::isolated().unwrap();
    let app = health().await.layer(TransactionLayer::with_registry(metrics.registry())).with_state(());
    let mut client = HealthClient::new(app);
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(client.check(check("ledger")).await.unwrap().into_inner().status, 1);
    assert!(client.check(check("nobody")).await.is_err());
    let scrape = testkit::Scrape::parse(&metrics.render()).unwrap();
    let operation = [("operation", "POST /grpc.health.v1.Health/{*rest}")];
    assert_eq!(scrape.value("transaction_attempts_total", &operation), Some(2.0));
    assert_eq!(scrape.sum("transaction_duration_seconds_count", &operation), 2.0);
    assert_eq!(scrape.value("concurrent_operations", &operation), Some(0.0));
}

#[tokio::test]
async fn unmatched_paths_and_methods_of_routes_next_to_it_are_counted() {
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
    assert_eq!(attempts("PUT /invoices/{id}/pay"), Some(1.0));
    assert_eq!(attempts("unmatched"), Some(1.0));
    assert_eq!(scrape.sum("transaction_attempts_total", &[]), 3.0, "a safe method was counted:\n{page}");
    assert!(!page.contains("4711"), "a raw path became a label:\n{page}");
}
