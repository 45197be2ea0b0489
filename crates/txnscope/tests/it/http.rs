//! The layer on axum, at every position that a router allows.

use crate::common::{assert_counters_balance, assert_value, value};
use crate::log_capture::Log;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt};
use txnscope::{Classification, Metrics, Operation, Reason, TransactionLayer, scope};

const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");

fn request(method: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

async fn status(app: &Router, method: &str, path: &str) -> StatusCode {
    app.clone().oneshot(request(method, path)).await.unwrap().status()
}

fn layer(metrics: &Metrics) -> TransactionLayer<txnscope::Http> {
    TransactionLayer::with_registry(metrics.registry())
}

fn attempts(metrics: &Metrics, operation: &str) -> Option<f64> {
    value(metrics, &format!("transaction_attempts_total{{operation=\"{operation}\"}}"))
}

#[tokio::test]
async fn route_template_names_operation() {
    let metrics = Metrics::isolated().unwrap();
    let app =
        Router::new().route("/api/retainers/{id}/consume", post(|| async { "done" })).layer(layer(&metrics));
    status(&app, "POST", "/api/retainers/1/consume").await;
    status(&app, "POST", "/api/retainers/2/consume").await;
    assert_eq!(status(&app, "PUT", "/api/retainers/2/consume").await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(status(&app, "BREW", "/api/retainers/2/consume").await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(status(&app, "POST", "/api/../secret/4711").await, StatusCode::NOT_FOUND);
    assert_eq!(attempts(&metrics, "POST /api/retainers/{id}/consume"), Some(2.0));
    assert_eq!(attempts(&metrics, "PUT /api/retainers/{id}/consume"), None);
    assert_eq!(attempts(&metrics, "OTHER /api/retainers/{id}/consume"), None);
    assert_eq!(attempts(&metrics, "unmatched"), Some(3.0));
    assert!(!metrics.render().contains("4711"), "a raw path became a label");
    assert_value(
        &metrics,
        "transaction_failures_total{operation=\"unmatched\",outcome=\"rejected\",reason=\"invalid_request\"}",
        3.0,
    );
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn route_layer_and_nest_use_full_template() {
    let metrics = Metrics::isolated().unwrap();
    let pay = || Router::new().route("/{id}/complete", post(|| async { "done" }));
    let app = Router::new()
        .nest("/inner", pay().route_layer(layer(&metrics)))
        .nest("/outer", pay())
        .nest_service("/service", pay().layer(layer(&metrics)))
        .layer(layer(&metrics));
    for prefix in ["inner", "outer"] {
        assert_eq!(status(&app, "POST", &format!("/{prefix}/1/complete")).await, StatusCode::OK);
        assert_eq!(attempts(&metrics, &format!("POST /{prefix}/{{id}}/complete")), Some(1.0));
    }
    assert_eq!(status(&app, "POST", "/inner/nowhere").await, StatusCode::NOT_FOUND);
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn layer_inside_nest_service_sees_template() {
    let metrics = Metrics::isolated().unwrap();
    let inner = Router::new().route("/{id}/complete", post(|| async { "done" })).layer(layer(&metrics));
    let app = Router::new().nest_service("/service", inner);
    assert_eq!(status(&app, "POST", "/service/1/complete").await, StatusCode::OK);
    assert_eq!(attempts(&metrics, "POST /service/{id}/complete"), Some(1.0));
}

#[tokio::test]
async fn layer_around_router_uses_name_operations() {
    let metrics = Metrics::isolated().unwrap();
    let app = Router::new().route("/pay/{id}", post(|| async { "done" }));
    let named = layer(&metrics).name_operations(|head| head.uri.path().starts_with("/pay/").then_some("pay"));
    let service = named.layer(app);
    service.clone().oneshot(request("POST", "/pay/1")).await.unwrap();
    service.oneshot(request("POST", "/elsewhere")).await.unwrap();
    assert_eq!(attempts(&metrics, "pay"), Some(1.0));
    assert_eq!(attempts(&metrics, "unmatched"), Some(1.0));
}

#[tokio::test]
async fn safe_methods_are_uncounted_without_filter() {
    let metrics = Metrics::isolated().unwrap();
    let app = Router::new().route("/x", get(|| async { "read" }).post(|| async { "written" }));
    let standard = app.clone().layer(layer(&metrics));
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        status(&standard, method, "/x").await;
    }
    assert!(!metrics.render().contains("transaction_attempts_total{"), "a safe method was counted");
    let all = app.layer(layer(&metrics).filter(|head| head.method != Method::OPTIONS));
    status(&all, "GET", "/x").await;
    status(&all, "OPTIONS", "/x").await;
    assert_eq!(attempts(&metrics, "GET /x"), Some(1.0));
    assert_eq!(attempts(&metrics, "OPTIONS /x"), None);
}

#[tokio::test]
async fn handler_classification_overrides_reason_and_status() {
    async fn refused() -> Response {
        scope::note_reason(Reason::WRITE_CONFLICT);
        (StatusCode::BAD_REQUEST, Classification::rejected(INSUFFICIENT_BALANCE), Json("no")).into_response()
    }
    async fn conflicted() -> StatusCode {
        scope::note_reason(Reason::WRITE_CONFLICT);
        StatusCode::INTERNAL_SERVER_ERROR
    }
    let metrics = Metrics::isolated().unwrap();
    let mut app = Router::new().route("/refused", post(refused)).route("/conflicted", post(conflicted));
    for code in [200, 303, 400, 401, 403, 404, 408, 409, 422, 429, 500, 503, 504] {
        let status = StatusCode::from_u16(code).unwrap();
        app = app.route(&format!("/{code}"), post(move || async move { status }));
    }
    let app = app.layer(layer(&metrics));
    let expected = [
        ("refused", Some(("rejected", "insufficient_balance"))),
        ("conflicted", Some(("failed", "write_conflict"))),
        ("200", None),
        ("303", None),
        ("400", Some(("rejected", "invalid_request"))),
        ("401", Some(("rejected", "unauthorized"))),
        ("403", Some(("rejected", "unauthorized"))),
        ("404", Some(("rejected", "invalid_request"))),
        ("408", Some(("failed", "timeout"))),
        ("409", Some(("rejected", "application"))),
        ("422", Some(("rejected", "invalid_request"))),
        ("429", Some(("rejected", "application"))),
        ("500", Some(("failed", "other"))),
        ("503", Some(("failed", "other"))),
        ("504", Some(("failed", "timeout"))),
    ];
    for (path, ending) in expected {
        status(&app, "POST", &format!("/{path}")).await;
        let operation = format!("operation=\"POST /{path}\"");
        match ending {
            Some((outcome, reason)) => assert_value(
                &metrics,
                &format!(
                    "transaction_failures_total{{{operation},outcome=\"{outcome}\",reason=\"{reason}\"}}"
                ),
                1.0,
            ),
            None => assert_value(
                &metrics,
                &format!("transaction_duration_seconds_count{{{operation},outcome=\"succeeded\"}}"),
                1.0,
            ),
        }
    }
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn driver_reason_is_never_a_rejection() {
    async fn said() -> Response {
        (StatusCode::CONFLICT, Classification::rejected(Reason::WRITE_CONFLICT), "no").into_response()
    }
    async fn presumed() -> StatusCode {
        scope::note_reason(Reason::NOT_PRIMARY);
        StatusCode::CONFLICT
    }
    async fn duplicate() -> Response {
        (StatusCode::CONFLICT, Classification::rejected(Reason::DUPLICATE_KEY), "no").into_response()
    }
    let metrics = Metrics::isolated().unwrap();
    let app = Router::new()
        .route("/said", post(said))
        .route("/presumed", post(presumed))
        .route("/duplicate", post(duplicate))
        .layer(layer(&metrics));
    for (path, outcome, reason) in [
        ("said", "failed", "write_conflict"),
        ("presumed", "failed", "not_primary"),
        // A business rule may be a unique index.
        ("duplicate", "rejected", "duplicate_key"),
    ] {
        assert_eq!(status(&app, "POST", &format!("/{path}")).await, StatusCode::CONFLICT);
        let labels = format!("operation=\"POST /{path}\",outcome=\"{outcome}\"");
        assert_value(&metrics, &format!("transaction_failures_total{{{labels},reason=\"{reason}\"}}"), 1.0);
        assert_value(&metrics, &format!("transaction_duration_seconds_count{{{labels}}}"), 1.0);
    }
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn declared_get_is_logged_once_unless_filter_counts_it() {
    const SHOW: Operation = Operation::new("GET /items/{id}");
    const BUY: Operation = Operation::new("POST /items");
    let app = |layer: TransactionLayer<txnscope::Http>| -> Router {
        Router::new().route("/items/{id}", get(async || "")).route("/items", post(async || "")).layer(layer)
    };
    let layer = |declared: &[Operation]| {
        let metrics = Metrics::isolated().unwrap();
        TransactionLayer::with_registry(metrics.registry()).declare(declared.iter().copied())
    };
    let log = Log::here();
    drop(app(layer(&[SHOW, BUY])));
    let warnings = log.lines("stay at 0");
    assert_eq!(warnings.len(), 1, "one for all routes: {warnings:?}");
    assert!(warnings[0].ends_with("operations=GET /items/{id}"), "{warnings:?}");

    let log = Log::here();
    drop(app(layer(&[BUY])));
    drop(app(layer(&[SHOW]).filter(|_| true)));
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn empty_name_is_unmatched() {
    let metrics = Metrics::isolated().unwrap();
    let app = Router::new().route("/x", post(|| async { "done" }));
    let named = layer(&metrics).name_operations(|_| Some(""));
    named.layer(app).oneshot(request("POST", "/x")).await.unwrap();
    assert_eq!(attempts(&metrics, "unmatched"), Some(1.0));
    assert!(!metrics.render().contains("operation=\"\""), "Prometheus takes an empty label for none");
}

#[tokio::test]
async fn body_passes_through_unchanged() {
    let metrics = Metrics::isolated().unwrap();
    let app = Router::new().route("/x", post(|body: String| async move { body })).layer(layer(&metrics));
    let sent = Request::post("/x").body(Body::from("twelve bytes")).unwrap();
    let response = app.oneshot(sent).await.unwrap();
    assert_eq!(response.headers()["content-length"], "12", "the size hint is lost");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "twelve bytes");
}

#[tokio::test]
async fn routes_beyond_limit_count_as_overflow() {
    let metrics = Metrics::isolated().unwrap();
    let mut app = Router::new();
    for i in 0..210 {
        app = app.route(&format!("/r{i}/{{id}}"), post(|| async { "done" }));
    }
    let app = app.layer(layer(&metrics).declare([Operation::new("POST /r0/{id}")]));
    for i in 0..210 {
        status(&app, "POST", &format!("/r{i}/1")).await;
    }
    assert_eq!(attempts(&metrics, "overflow"), Some(10.0));
    assert_eq!(attempts(&metrics, "POST /r0/{id}"), Some(1.0));
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn metrics_route_serves_metrics() {
    let metrics = Metrics::isolated().unwrap();
    let app: Router =
        Router::new().route("/x", post(|| async {})).layer(layer(&metrics)).merge(metrics.router());
    status(&app, "POST", "/x").await;
    let response = app.oneshot(request("GET", "/metrics")).await.unwrap();
    assert_eq!(response.headers()["content-type"], txnscope::recorder::TEXT_FORMAT);
    let page = response.into_body().collect().await.unwrap().to_bytes();
    let page = std::str::from_utf8(&page).unwrap();
    assert!(page.contains("transaction_attempts_total{operation=\"POST /x\"} 1"), "{page}");
    assert!(page.contains("# TYPE transaction_duration_seconds histogram"), "{page}");
}
