//! Attribution of open transactions to operations: the sidecar joins the server's view with the backend's.

use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::{ReplicaSet, Scrape, wait};
use tokio::sync::oneshot;
use txnscope::{Abort, TransactionRunner};
use txnscope_sidecar::{Config, Sidecar};

use crate::common::{Backend, metrics_url};

const JOB: &str = "nightly_reconcile";

/// More transactions than the first batch of a cursor has by default.
const UNKNOWN: u32 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn idle_transaction_is_attributed_to_its_operation() {
    let set = ReplicaSet::start(1).await.unwrap();
    let backend = Backend::start(&set.uri()).await;
    let mut config = Config::new(set.uri());
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    let table = backend.metrics_url().replace("/metrics", "/-/transactions");
    config.collectors.open_by_operation.backends = vec![table];
    let sidecar = Sidecar::start(config).await.unwrap();

    let client = set.client().await.unwrap();
    let items = client.database("shop").collection("items");
    client.database("shop").create_collection("items").await.unwrap();
    let mut unknown_sessions = Vec::new();
    for _ in 0..UNKNOWN {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        items.insert_one(doc! {"by": "unknown"}).session(&mut session).await.unwrap();
        unknown_sessions.push(session);
    }

    let runner = TransactionRunner::with_registry(&client, backend.metrics.registry());
    let (end, ended) = oneshot::channel::<()>();
    let ended = std::sync::Mutex::new(Some(ended));
    let job = runner.run_as(JOB, async |mut tx| {
        items.insert_one(doc! {"by": "the job"}).session(&mut tx).await?;
        let ended = ended.lock().unwrap().take();
        let _ = ended.unwrap().await;
        Ok::<_, Abort>(())
    });
    let look = async {
        shows(&sidecar, [1.0, f64::from(UNKNOWN)]).await;
        let page = Scrape::get(&metrics_url(&sidecar)).await.unwrap();
        let age = |operation| {
            let of = [("operation", operation), ("state", "inactive")];
            page.sum("mongodb_transactions_oldest_open_by_operation_seconds", &of)
        };
        assert!(age("unknown") >= age(JOB) && age(JOB) > 0.0, "{} and {}", age("unknown"), age(JOB));
        end.send(()).unwrap();
    };
    let (committed, ()) = tokio::join!(job, look);
    committed.unwrap();
    for session in &mut unknown_sessions {
        session.abort_transaction().await.unwrap();
    }
    shows(&sidecar, [0.0, 0.0]).await;

    // A backend that does not respond affects its own metric families only.
    let mut unknown_session = client.start_session().await.unwrap();
    unknown_session.start_transaction().await.unwrap();
    items.insert_one(doc! {"by": "unknown"}).session(&mut unknown_session).await.unwrap();
    backend.server.shutdown().await.unwrap();
    wait::until("the join to fail for want of the backend", async || {
        let page = Scrape::get(&metrics_url(&sidecar)).await?;
        let source = [("collector", "open_by_operation")];
        let failures = page.sum("txnscope_poll_errors_total", &[source[0], ("reason", "network")]);
        let open = page.sum("mongodb_transactions_open", &[]);
        let success = page.sum("txnscope_poll_success", &[("collector", "current_op")]);
        ensure!(failures > 0.0 && open == 1.0 && success == 1.0, "{failures}, {open}, {success}");
        Ok(())
    })
    .await
    .unwrap();
    unknown_session.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}

/// Waits until this many transactions are idle, of the job and of operations that the backend does not know.
async fn shows(sidecar: &Sidecar, expected: [f64; 2]) {
    wait::until("the operations of what is open", async || {
        let page = Scrape::get(&metrics_url(sidecar)).await?;
        let idle = |operation| {
            let of = [("operation", operation), ("state", "inactive")];
            page.sum("mongodb_transactions_open_by_operation", &of)
        };
        let seen = [idle(JOB), idle("unknown")];
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
    .await
    .unwrap();
}
