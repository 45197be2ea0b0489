//! The listener's counters match the server's, with and without the runner on the same client.

use std::time::Duration;

use mongodb::bson::doc;
use testkit::ReplicaSet;
use txnscope::{Abort, TransactionRunner};
use txnscope_catalog as catalog;

use super::jobs::Shop;
use super::support::{ClientCounters, ListenedClient, ServerCounters, wait_until_idle};

#[tokio::test(flavor = "multi_thread")]
async fn mixed_jobs_listener_and_server_counters_match() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let shop = Shop::open(&listened.client).await;
    let before = ServerCounters::of(&set).await;
    shop.run(500, |_| {}).await;
    wait_until_idle(&set, &listened).await;

    let server = ServerCounters::of(&set).await.since(before);
    let client = ClientCounters::of(&listened.scrape());
    assert_eq!(
        (client.started, client.committed, client.aborted),
        (server.started, server.committed, server.aborted)
    );
    assert_eq!((client.unknown, client.refused, client.lost), (0.0, 0.0, 0.0));
    // 150 contended, 50 read-only, 50 by the convenient API; empty transactions and plain writes do not count.
    assert_eq!(client.committed, 250.0);
    let aborted = |reason| listened.sum(&catalog::CLIENT_TRANSACTIONS_ABORTED, &[("reason", reason)]);
    assert_eq!(aborted("duplicate_key"), 50.0);
    assert_eq!(aborted("duplicate_key") + aborted("application") + aborted("write_conflict"), client.aborted);
    assert!(aborted("write_conflict") > 0.0, "three hot documents and no conflict");
    let scrape = listened.scrape();
    let durations = scrape.sum(&format!("{}_count", catalog::CLIENT_TRANSACTION_DURATION.name), &[]);
    assert_eq!(durations, client.started);
    let commits = scrape.sum(&format!("{}_count", catalog::CLIENT_TRANSACTION_COMMIT_DURATION.name), &[]);
    assert_eq!(commits, client.committed);
    assert!(listened.metrics.registry().open_transactions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn runner_transactions_are_counted_once() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let shop = Shop::open(&listened.client).await;
    let before = ServerCounters::of(&set).await;

    let runner = TransactionRunner::with_registry(&listened.client, listened.metrics.registry());
    let hot = listened.collection("hot");
    let runs = async {
        for index in 0..100 {
            let work = async |mut tx: txnscope::Transaction| -> Result<(), Abort> {
                hot.update_one(doc! {"_id": index % 3}, doc! {"$inc": {"balance": 1}})
                    .session(&mut tx)
                    .await?;
                Ok(())
            };
            runner.run_as("runner", work).await.unwrap();
        }
    };
    tokio::join!(runs, shop.run(200, |_| {}));
    runner.wait_idle().await;
    wait_until_idle(&set, &listened).await;

    let server = ServerCounters::of(&set).await.since(before);
    let client = ClientCounters::of(&listened.scrape());
    assert_eq!(
        (client.started, client.committed, client.aborted),
        (server.started, server.committed, server.aborted)
    );
    let committed =
        |operation| listened.sum(&catalog::CLIENT_TRANSACTIONS_COMMITTED, &[("operation", operation)]);
    assert_eq!((committed("runner"), committed(catalog::UNSCOPED)), (100.0, 100.0));
}

/// A cancelled transaction is ended in the background: its session is killed, and a fence may follow in it. The
/// runner counts all of that.
#[tokio::test(flavor = "multi_thread")]
async fn runner_cleanups_are_not_counted() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    listened.collection("hot").insert_one(doc! {"_id": 0}).await.unwrap();
    let runner = TransactionRunner::with_registry(&listened.client, listened.metrics.registry());
    let hot = listened.collection("hot");
    let cleanups = |result| listened.sum(&catalog::CLIENT_TRANSACTION_CLEANUPS, &[("result", result)]) > 0.0;
    // Cancel later and later. The duration of a run depends on the machine: repeat with longer steps until both kinds
    // of cleanup have been provoked.
    for round in 1..=50_u64 {
        for index in 0..200_u64 {
            let work = async |mut tx: txnscope::Transaction| -> Result<(), Abort> {
                hot.update_one(doc! {"_id": 0}, doc! {"$inc": {"balance": 1}}).session(&mut tx).await?;
                hot.find_one(doc! {"_id": 0}).session(&mut tx).await?;
                Ok(())
            };
            let moment = Duration::from_micros(25 * index * round);
            let _ = tokio::time::timeout(moment, runner.run_as("runner", work)).await;
        }
        runner.wait_idle().await;
        if cleanups("fenced") && cleanups("aborted") {
            break;
        }
    }
    wait_until_idle(&set, &listened).await;
    let scrape = listened.scrape();
    let counted =
        |operation| scrape.sum(catalog::CLIENT_TRANSACTIONS_STARTED.name, &[("operation", operation)]);
    let cleanups = |result| scrape.sum(catalog::CLIENT_TRANSACTION_CLEANUPS.name, &[("result", result)]);
    assert!(counted("runner") > 0.0);
    assert!(cleanups("fenced") > 0.0 && cleanups("aborted") > 0.0, "no cleanup was provoked");
    assert_eq!(counted(catalog::UNSCOPED), 0.0, "{:?}", ClientCounters::of(&scrape));
}
