//! Load tests against a real ledger, and against backends that expose coordinated omission.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::wait;
use tokio::sync::Notify;

use crate::drill::environment::{Environment, command, drill, ended, serve};
use crate::drill::refusals::interrupt;

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_the_load_test_match_the_backend() {
    let env = Environment::with(None, true).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("result.json");
    let (url, result) = (format!("--url={}", env.url()), format!("--result-file={}", file.display()));
    let (code, text) =
        drill(&["load", &url, "--rate=20", "--duration=4s", "--entities=8", "--timeout=120s", &result]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("80 arrivals at 20 per second"), "{text}");
    assert!(!text.contains('\r'), "progress is for terminals: {text}");
    let result: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let scrape = env.scrape();
    for (operation, arrivals) in [
        ("POST /api/retainers/{id}/consume", 32),
        ("POST /api/payments/{id}/complete", 16),
        ("POST /api/bank-transfers", 32),
    ] {
        let text = &result["operations"][operation];
        assert_eq!(text["arrivals"], arrivals, "{text:#}");
        assert_eq!(text["outcomes"]["succeeded"], arrivals, "{text:#}");
        let attempts = scrape.value("transaction_attempts_total", &[("operation", operation)]);
        assert_eq!(attempts, Some(f64::from(arrivals)), "{operation}");
        let latency = |name: &str| text["latency_seconds"][name].as_f64().unwrap();
        assert!(0.0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
        let buckets = text["histogram_seconds"].as_array().unwrap().iter();
        assert_eq!(buckets.map(|bucket| bucket[1].as_i64().unwrap()).sum::<i64>(), i64::from(arrivals));
    }
    assert_eq!(result["all"]["arrivals"], 80);
    assert_eq!(env.violated().await, [""; 0]);
}

/// The routes that create the fixtures of a load test.
fn fixture_routes() -> Router {
    let created = |what: &'static str| {
        post(async move || (StatusCode::CREATED, Json(json!({what: {"_id": "65a0b0c0d0e0f00102030405"}}))))
    };
    Router::new()
        .route("/api/retainers", created("retainer"))
        .route("/api/bank-accounts", created("account"))
        .route("/api/payments", created("payment"))
        .fallback(async || StatusCode::NOT_FOUND)
}

fn backend_with<F: Future<Output = StatusCode> + Send + 'static>(
    handler: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Router {
    let handler = || post(handler.clone());
    fixture_routes()
        .route("/api/retainers/{id}/consume", handler())
        .route("/api/payments/{id}/complete", handler())
        .route("/api/bank-transfers", handler())
}

/// The backend responds only after fifty requests have arrived, so a generator that waits for a response would hang.
#[tokio::test]
async fn arrivals_do_not_wait_for_responses() {
    const REQUESTS: usize = 50;
    let (waiting, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let routes = backend_with(move || {
        let (waiting, all) = (Arc::clone(&waiting), Arc::clone(&all));
        async move {
            let there = all.notified();
            if waiting.fetch_add(1, SeqCst) + 1 < REQUESTS {
                there.await;
            } else {
                all.notify_waiters();
            }
            StatusCode::OK
        }
    });
    let url = format!("--url={}", serve(routes).await);
    let (code, text) =
        drill(&["load", &url, "--rate=50", "--duration=1s", "--timeout=60s", "--output=json"]).await;
    let result: Value = serde_json::from_str(&text).expect(&text);
    assert_eq!(code, 0, "{result:#}");
    assert_eq!(result["all"]["outcomes"]["succeeded"], 50, "{result:#}");
}

#[tokio::test]
async fn excess_requests_are_counted_as_dropped() {
    let url = format!("--url={}", serve(backend_with(std::future::pending)).await);
    let arguments = ["load", &url, "--rate=100", "--duration=1s", "--timeout=5s", "--max-in-flight=5"];
    let (code, text) = drill(&arguments).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("95 were not sent, because 5 were in flight"), "{text}");
    let all = text.lines().find(|line| line.starts_with("all")).unwrap();
    let columns: Vec<_> = all.split_whitespace().take(7).collect();
    assert_eq!(columns, ["all", "100", "0", "0", "0", "5", "95"], "{text}");
}

#[tokio::test]
async fn interrupted_load_test_reports_its_measurements() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("result.json");
    let answered = Arc::new(Notify::new());
    let notified = Arc::clone(&answered);
    let routes = backend_with(move || {
        notified.notify_one();
        std::future::ready(StatusCode::OK)
    });
    let (url, result) =
        (format!("--url={}", serve(routes).await), format!("--result-file={}", file.display()));
    let child = command(&["load", &url, "--rate=10", "--duration=60m", &result]).spawn().unwrap();
    tokio::time::timeout(wait::LIMIT, answered.notified()).await.unwrap();
    interrupt(child.id().unwrap());
    let (code, text) = ended(child.wait_with_output()).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("the load test was interrupted"), "{text}");
    let result: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(result["interrupted"], true);
    assert!(result["all"]["outcomes"]["succeeded"].as_u64() >= Some(1), "{result:#}");
}
