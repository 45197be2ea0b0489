//! The programs in `examples/` compile, run to their end, and count what they show.

#[path = "../../examples/axum.rs"]
#[allow(dead_code, reason = "the test calls `run`, not `main`")]
mod axum_example;
#[path = "../../examples/custom_classifier.rs"]
#[allow(dead_code, reason = "the test calls `run`, not `main`")]
mod custom_classifier;
#[path = "../../examples/job.rs"]
#[allow(dead_code, reason = "the test calls `run`, not `main`")]
mod job;
#[path = "../../examples/listener.rs"]
#[allow(dead_code, reason = "the test calls `run`, not `main`")]
mod listener;
#[path = "../../examples/runner.rs"]
#[allow(dead_code, reason = "the test calls `run`, not `main`")]
mod runner;
#[path = "../../examples/tonic.rs"]
#[allow(dead_code, reason = "the test calls `run`, not `main`")]
mod tonic_example;

use testkit::ReplicaSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use txnscope::Metrics;

use crate::common::assert_value;

#[tokio::test]
async fn axum_example_serves_and_shuts_down() {
    let set = ReplicaSet::recycled().await.unwrap();
    let (uri, metrics) = (set.uri(), Metrics::isolated().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let counted = metrics.clone();
    let server = tokio::spawn(async move {
        axum_example::run(&uri, counted, listener, async { drop(stopped.await) }).await
    });
    let send = async |request: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    };
    assert!(send("POST /api/retainers/r1/consume").await.starts_with("HTTP/1.1 204"));
    assert!(send("POST /api/retainers/r1/consume").await.contains("insufficient_balance"));
    let operation = "operation=\"POST /api/retainers/{id}/consume\"";
    let rejected = format!(
        "transaction_failures_total{{{operation},outcome=\"rejected\",reason=\"insufficient_balance\"}} 1"
    );
    assert!(send("GET /metrics").await.contains(&rejected));
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert_value(&metrics, &format!("mongodb_client_transactions_open{{{operation}}}"), 0.0);
}

#[tokio::test]
async fn runner_example_commits_and_rejects_transfers() {
    let set = ReplicaSet::recycled().await.unwrap();
    let metrics = Metrics::isolated().unwrap();
    runner::run(&set.uri(), metrics.clone()).await.unwrap();
    assert_value(&metrics, "mongodb_client_transactions_committed_total{operation=\"transfer\"}", 10.0);
    let aborted =
        "mongodb_client_transactions_aborted_total{operation=\"transfer\",reason=\"insufficient_balance\"}";
    assert_value(&metrics, aborted, 10.0);
}

#[tokio::test]
async fn listener_example_counts_commit_and_abort() {
    let set = ReplicaSet::recycled().await.unwrap();
    let metrics = Metrics::isolated().unwrap();
    listener::run(&set.uri(), metrics.clone()).await.unwrap();
    assert_value(&metrics, "mongodb_client_transactions_committed_total{operation=\"unscoped\"}", 1.0);
    let aborted = "mongodb_client_transactions_aborted_total{operation=\"unscoped\",reason=\"application\"}";
    assert_value(&metrics, aborted, 1.0);
}

#[tokio::test]
async fn job_example_counts_messages() {
    let metrics = Metrics::isolated().unwrap();
    job::run(metrics.clone()).await.unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"invoice_paid\"}", 3.0);
    let failed = "transaction_failures_total{operation=\"invoice_paid\",outcome=\"failed\",reason=\"invalid_request\"}";
    assert_value(&metrics, failed, 1.0);
}

#[tokio::test]
async fn custom_classifier_example_classifies_replies() {
    let metrics = Metrics::isolated().unwrap();
    custom_classifier::run(metrics.clone()).await.unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"deposit\"}", 2.0);
    let rejected =
        "transaction_failures_total{operation=\"withdraw\",outcome=\"rejected\",reason=\"over_limit\"}";
    assert_value(&metrics, rejected, 1.0);
}

#[tokio::test]
async fn tonic_example_classifies_grpc_status() {
    let metrics = Metrics::isolated().unwrap();
    tonic_example::run(metrics.clone()).await.unwrap();
    let operation = "operation=\"POST /grpc.health.v1.Health/{*rest}\"";
    assert_value(&metrics, &format!("transaction_attempts_total{{{operation}}}"), 2.0);
    let rejected =
        format!("transaction_failures_total{{{operation},outcome=\"rejected\",reason=\"invalid_request\"}}");
    assert_value(&metrics, &rejected, 1.0);
}
