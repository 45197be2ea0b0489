//! End to end: real money-moving transactions on a real replica set, and both sides in a real Prometheus.

use anyhow::{Context, ensure};
use end_to_end::load::{Load, Targets};
use testkit::{Prometheus, ReplicaSet, Scrape, ScrapeJob, wait};
use tokio::sync::oneshot;

use crate::common::{Backend, ended, metrics_url, quiet, server_counters, sidecar};

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_both_sides_and_counters_match() {
    let set = ReplicaSet::start(3).await.unwrap();
    let backend = Backend::start(&set.uri()).await;
    let sidecar = sidecar(&set.uri()).await;
    let job = |name: &str, url: String| {
        let target = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
        ScrapeJob { name: name.to_owned(), target }
    };
    let jobs = [job("ledger", backend.metrics_url()), job("txnscope", metrics_url(&sidecar))];
    let prometheus = Prometheus::start(&jobs).await.unwrap();

    let (client, load) = (backend.client(), Load::default());
    let targets = Targets::open(&client).await.unwrap();
    // The load comes to this in its own time, which is long on a busy machine.
    let retainer = client.retainer(100).await.unwrap();
    let too_much = serde_json::json!({"amount": 500, "description": "too much"});
    let (status, _) = client.post(&format!("/api/retainers/{retainer}/consume"), &too_much).await.unwrap();
    assert_eq!(status, 400);
    let (stop, stopped) = oneshot::channel();
    let until = async {
        let _ = stopped.await;
    };
    let look = async {
        while_under_load(&prometheus).await;
        stop.send(()).unwrap();
    };
    tokio::join!(load.run(&client, &targets, 30, until, 7), look);
    quiet(&set, &backend).await;

    // The layer's counters match the responses that the callers received.
    let scrape = backend.scrape();
    for ((operation, answer), times) in load.responses() {
        let of = |outcome| ended(&scrape, &[("operation", operation), ("outcome", outcome)]);
        let left = load.responses().get(&(operation, "gone".to_owned())).copied().unwrap_or(0);
        let (outcome, counted) = match answer.as_str() {
            "200" | "201" => ("succeeded", of("succeeded")),
            "400" => ("rejected", of("rejected")),
            "503" => ("failed", of("failed")),
            "gone" => continue,
            other => panic!("{operation} was answered {other} {times} times"),
        };
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (known, at_most) = (times as f64, (times + left + opened(operation)) as f64);
        assert!(
            (known..=at_most).contains(&counted),
            "{operation}: {known} callers received {answer}, {left} left, {counted} counted as {outcome}"
        );
    }

    // The sidecar exports the server's counters, and they match those of the callers.
    let counters = server_counters(&set).await;
    assert_eq!(counters.started, counters.committed + counters.aborted + counters.open);
    let page = wait::until("the sidecar to have seen the last transaction", async || {
        let page = Scrape::get(&metrics_url(&sidecar)).await?;
        let shown = page.sum("mongodb_transactions_started_total", &[]);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let started = counters.started as f64;
        ensure!(shown == started, "{shown} of {started}");
        Ok(page)
    })
    .await
    .unwrap();
    let shown = |what: &str| page.sum(&format!("mongodb_transactions_{what}"), &[]);
    assert_eq!(shown("started_total"), shown("committed_total") + shown("aborted_total") + shown("open"));
    let succeeded = ended(&scrape, &[("outcome", "succeeded")]);
    let unknown_results =
        ended(&scrape, &[("outcome", "cancelled")]) + ended(&scrape, &[("outcome", "failed")]);
    let committed = shown("committed_total");
    assert!(
        (succeeded..=succeeded + unknown_results).contains(&committed),
        "{committed} committed, {succeeded} succeeded, {unknown_results} without a known result"
    );

    backend.server.shutdown().await.unwrap();
    sidecar.shutdown().await;
}

/// The operations outside of the load: those of `Targets::open`, and one rejected consumption.
fn opened(operation: &str) -> u64 {
    match operation {
        "POST /api/retainers" => 7,
        "POST /api/bank-accounts" => 6,
        "POST /api/retainers/{id}/consume" => 1,
        _ => 0,
    }
}

/// Queries while the load runs.
async fn while_under_load(prometheus: &Prometheus) {
    let positive = async |query: &str| {
        wait::until(query, async || {
            let value = prometheus.value(query).await?;
            ensure!(value > 0.0, "it is {value}");
            Ok(value)
        })
        .await
        .unwrap()
    };
    let before = positive("sum(transaction_attempts_total)").await;
    positive(r#"sum(transaction_failures_total{outcome="rejected",reason="insufficient_balance"})"#).await;
    positive("sum(rate(mongodb_transactions_committed_total[1m]))").await;
    positive("sum(rate(mongodb_transaction_duration_seconds_count[1m]))").await;
    wait::until("sum(transaction_attempts_total) to grow", async || {
        let now = prometheus.value("sum(transaction_attempts_total)").await?;
        ensure!(now > before, "it is {now} and was {before}");
        Ok(())
    })
    .await
    .unwrap();

    // In every scrape, also under load, each admitted operation has ended or is in flight.
    let difference = "sum by (operation) (transaction_attempts_total) - sum by (operation) (transaction_duration_seconds_count) \
                      - sum by (operation) (concurrent_operations)";
    let mut scrapes = std::collections::BTreeSet::new();
    wait::until("five scrapes whose counters match", async || {
        let scrape = prometheus.value("max(timestamp(concurrent_operations))").await?;
        for sample in prometheus.query(difference).await? {
            assert_eq!(sample.value, 0.0, "{sample:?}");
        }
        scrapes.insert(scrape.to_string());
        ensure!(scrapes.len() >= 5, "{} scrapes", scrapes.len());
        Ok(())
    })
    .await
    .unwrap();
    // A member is down on a page if its status is older than three intervals, as it may be on a busy machine.
    wait::until("three members that are up", async || {
        let up = prometheus.query("mongodb_up").await?;
        ensure!(up.iter().map(|sample| sample.value).eq([1.0; 3]), "{up:?}");
        prometheus.query("mongodb_info").await?.first().context("mongodb_info").map(drop)
    })
    .await
    .unwrap();
}
