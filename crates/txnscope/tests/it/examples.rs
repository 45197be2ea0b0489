//! The programs in `examples/` compile, run to their end, and count what they show.

#[path = "../../examples/axum.rs"]
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

use anyhow::ensure;
use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::doc;
use tempfile::TempDir;
use testkit::{FailPoint, Port, Process, ReplicaSet, Signal, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txnscope::Metrics;

use crate::common::assert_value;

/// The sample of the README as a process of its own: the tests below start it.
#[test]
#[ignore = "the other test runs it, with a replica set"]
fn axum_sample() {
    if std::env::var_os("MONGODB_URI").is_some() {
        axum_example::main().unwrap();
    }
}

#[test]
fn readme_has_axum_sample() {
    let read = |path: &str| std::fs::read_to_string(testkit::workspace().join(path)).unwrap();
    let example = read("crates/txnscope/examples/axum.rs");
    // `main` is public for the test above.
    let code = example[example.find("use std").unwrap()..].replace("pub(crate) ", "");
    let samples = read("README.md");
    let sample = samples.split("```rust,no_run\n").nth(1).unwrap().split("```\n").next().unwrap();
    assert!(sample == code, "copy crates/txnscope/examples/axum.rs, from its first `use` on, to README.md");
}

/// The sample as a process, and a client of its server that its failpoints do not affect.
struct Sample {
    process: Process,
    address: String,
    admin: Client,
    _port: Port,
    _folder: TempDir,
}

impl Sample {
    async fn start(set: &ReplicaSet) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), Port::reserve().unwrap());
        let address = format!("127.0.0.1:{}", port.number());
        let itself = std::env::current_exe().unwrap();
        let arguments = ["examples::axum_sample", "--exact", "--ignored", "--nocapture"].map(str::to_owned);
        let log = folder.path().join("log");
        let mut process = Process::spawn_with(&itself, &arguments, log, |command| {
            command
                .env("MONGODB_URI", format!("{}&appName=sample", set.uri()))
                .env("LISTEN_ADDRESS", &address);
        })
        .await
        .unwrap();
        process.wait_ready(port.number(), "/healthz").await.unwrap();
        let admin = set.client_named("admin").await.unwrap();
        Self { process, address, admin, _port: port, _folder: folder }
    }

    async fn send(&self, line: &str) -> String {
        send(&self.address, line).await
    }

    /// The commands of this name that the server runs for the sample.
    async fn running(&self, command: &str) -> anyhow::Result<usize> {
        let pipeline = vec![
            doc! {"$currentOp": {"allUsers": true}},
            doc! {"$match": {"appName": "sample", format!("command.{command}"): {"$exists": true}}},
        ];
        Ok(self.admin.database("admin").aggregate(pipeline).await?.try_collect::<Vec<_>>().await?.len())
    }

    async fn assert_ended_without_open_transaction(&mut self) {
        let status = self.process.wait().await.unwrap();
        assert!(status.success(), "{status}\n{}", self.process.log());
        let status = self.admin.database("admin").run_command(doc! {"serverStatus": 1}).await.unwrap();
        let open = status.get_document("transactions").unwrap().get("currentOpen").unwrap();
        assert_eq!(open.as_i64(), Some(0), "{status}");
    }
}

#[tokio::test]
async fn axum_sample_finishes_requests_on_sigterm() {
    let set = ReplicaSet::recycled().await.unwrap();
    let mut sample = Sample::start(&set).await;
    let opened = sample.send("PUT /api/retainers/r1").await;
    assert!(opened.starts_with("HTTP/1.1 204"), "{opened}");
    assert!(sample.send("PUT /api/retainers/r2").await.starts_with("HTTP/1.1 204"));
    assert!(sample.send("POST /api/retainers/r1/consume").await.starts_with("HTTP/1.1 204"));
    assert!(sample.send("POST /api/retainers/r1/consume").await.contains("insufficient_balance"));
    assert!(sample.send("GET /api/retainers/r1").await.contains("200"));
    let page = sample.send("GET /metrics").await;
    let operation = "operation=\"POST /api/retainers/{id}/consume\"";
    assert!(page.contains(&format!("transaction_attempts_total{{{operation}}} 2\n")), "{page}");
    let rejected = "outcome=\"rejected\",reason=\"insufficient_balance\"} 1\n";
    assert!(page.contains(&format!("transaction_failures_total{{{operation},{rejected}")), "{page}");
    assert!(!page.contains("operation=\"GET"), "{page}");
    assert!(sample.send("GET /-/transactions").await.contains("\"transactions\":[]"));

    let block = doc! {"failCommands": ["update"], "blockConnection": true, "blockTimeMS": 1_000};
    let failpoint = FailPoint::fail_command(&sample.admin, "sample", block).await.unwrap();
    let address = sample.address.clone();
    let waiting = tokio::spawn(async move { send(&address, "POST /api/retainers/r2/consume").await });
    failpoint.fired(wait::LIMIT).await.unwrap();
    sample.process.signal(Signal::TERM).unwrap();
    let answered = waiting.await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 204"), "{answered}");
    sample.assert_ended_without_open_transaction().await;
}

#[tokio::test]
async fn axum_sample_waits_for_cleanup_on_sigterm() {
    let set = ReplicaSet::recycled().await.unwrap();
    let mut sample = Sample::start(&set).await;
    assert!(sample.send("PUT /api/retainers/r1").await.starts_with("HTTP/1.1 204"));
    let commands = ["update", "killSessions"];
    let block = doc! {"failCommands": commands.to_vec(), "blockConnection": true, "blockTimeMS": 3_000};
    let failpoint = FailPoint::fail_command(&sample.admin, "sample", block).await.unwrap();
    let mut leaving = TcpStream::connect(&sample.address).await.unwrap();
    leaving.write_all(request("POST /api/retainers/r1/consume").as_bytes()).await.unwrap();
    failpoint.fired(wait::LIMIT).await.unwrap();
    drop(leaving);
    let cleanup = async || {
        ensure!(sample.running("killSessions").await? > 0, "the transaction is not being ended");
        Ok(())
    };
    wait::until("the cleanup", cleanup).await.unwrap();
    sample.process.signal(Signal::TERM).unwrap();
    wait::until("the end of the sample", async || {
        let ended = sample.process.ended()?;
        let cleanups = sample.running("killSessions").await?;
        assert!(ended.is_none() || cleanups == 0, "the sample has ended before its cleanup");
        ensure!(ended.is_some(), "it runs");
        Ok(())
    })
    .await
    .unwrap();
    sample.assert_ended_without_open_transaction().await;
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

async fn send(address: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request(line).as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
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
