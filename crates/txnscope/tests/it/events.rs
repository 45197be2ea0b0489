//! The single log event of an operation that did not succeed.

use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tower::ServiceExt;
use tracing::{Instrument, Span, info_span};
use txnscope::{Classification, Metrics, Reason, TransactionLayer, scope};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Captures the log of this thread.
    fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[derive(Debug)]
struct Outer(io::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the transaction failed")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

async fn fails() -> Response {
    let span = info_span!(
        "consume",
        controller = "retainers",
        function = "consume",
        entity_id = "4711",
        amount = "12.50"
    );
    async {
        scope::attach_span(Span::current());
        let error = Outer(io::Error::other("connection reset"));
        (StatusCode::SERVICE_UNAVAILABLE, Classification::failed(Reason::NETWORK).with_source(error), ())
            .into_response()
    }
    .instrument(span)
    .await
}

async fn waits() {
    scope::attach_span(info_span!("wait", entity_id = "4712"));
    std::future::pending::<()>().await;
}

const STEERING: &str =
    "s3nt\nlevel=ERROR forged\r\u{1b}[2J\u{9b}31m\u{85}\u{202e}\u{2066}\u{200f}\u{2028}\u{feff}\u{7f}";

/// A handler whose error quotes the caller's input, as a parser's or a unique index's does.
async fn repeats() -> Response {
    let error = Outer(io::Error::other(format!("{STEERING}{}", "x".repeat(1 << 20))));
    (StatusCode::BAD_REQUEST, Classification::rejected(Reason::INVALID_REQUEST).with_source(error), ())
        .into_response()
}

fn app(metrics: &Metrics) -> Router {
    Router::new()
        .route("/repeats", post(repeats))
        .route("/fails", post(fails))
        .route("/waits", post(waits))
        .route("/refuses", post(|| async { StatusCode::CONFLICT }))
        .route("/works", post(|| async {}))
        .layer(TransactionLayer::with_registry(metrics.registry()))
}

fn request(path: &str) -> Request<Body> {
    Request::post(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn failure_is_logged_once_with_span_fields() {
    let (log, _guard) = Log::collect();
    let metrics = Metrics::isolated().unwrap();
    app(&metrics).oneshot(request("/fails")).await.unwrap();
    let events = log.events();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(event["level"], "ERROR");
    assert_eq!(event["fields"]["operation"], "POST /fails");
    assert_eq!(event["fields"]["outcome"], "failed");
    assert_eq!(event["fields"]["reason"], "network");
    assert_eq!(event["fields"]["error"], "the transaction failed: connection reset");
    assert!(event["fields"]["elapsed_seconds"].as_f64().unwrap() >= 0.0);
    for (field, value) in
        [("controller", "retainers"), ("function", "consume"), ("entity_id", "4711"), ("amount", "12.50")]
    {
        assert_eq!(event["span"][field], value, "{event}");
    }
}

#[tokio::test]
async fn cancelled_request_is_logged_with_span_fields() {
    let (log, _guard) = Log::collect();
    let metrics = Metrics::isolated().unwrap();
    let mut future = Box::pin(app(&metrics).oneshot(request("/waits")));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    drop(future);
    let events = log.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["level"], "INFO");
    assert_eq!(events[0]["fields"]["outcome"], "cancelled");
    assert_eq!(events[0]["span"]["entity_id"], "4712", "{}", events[0]);
}

#[tokio::test]
async fn rejection_logs_info_and_success_logs_nothing() {
    let (log, _guard) = Log::collect();
    let metrics = Metrics::isolated().unwrap();
    app(&metrics).oneshot(request("/refuses")).await.unwrap();
    app(&metrics).oneshot(request("/works")).await.unwrap();
    let events = log.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["level"], "INFO");
    assert_eq!(events[0]["fields"]["outcome"], "rejected");
    assert_eq!(events[0]["fields"]["reason"], "application");
    assert!(events[0]["fields"].get("error").is_none());
}

/// With any subscriber of the backend, including a plain-text one.
#[tokio::test]
async fn error_text_cannot_forge_log_lines() {
    let metrics = Metrics::isolated().unwrap();
    for form in ["full", "compact", "json"] {
        let log = Log::default();
        let writer = log.clone();
        let events = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        let _guard = match form {
            "full" => tracing::subscriber::set_default(events.finish()),
            "compact" => tracing::subscriber::set_default(events.compact().finish()),
            _ => tracing::subscriber::set_default(events.json().finish()),
        };
        app(&metrics).oneshot(request("/repeats")).await.unwrap();
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("s3nt") && text.contains("operation rejected"), "{form}: {text}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("level=ERROR")), "{form}: {text}");
        assert!(text.chars().all(|c| c == '\n' || txnscope_catalog::is_printable(c)), "{form}: {text:?}");
        assert!(text.len() < 3_000, "{form}: {} bytes of one error", text.len());
    }
}
