//! Attribution of transactions to operations, and abandoned transactions.

use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::{FailPoint, ReplicaSet, wait};
use txnscope::scope;
use txnscope_catalog as catalog;
use txnscope_catalog::UNSCOPED;

use super::support::{ClientCounters, ListenedClient, wait_until_idle};

#[tokio::test(flavor = "multi_thread")]
async fn transaction_is_attributed_to_starting_operation() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let (client, orders) = (listened.client.clone(), listened.collection("orders"));
    let transaction = async move || {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        orders.insert_one(doc! {"a": 1}).session(&mut session).await.unwrap();
        session
    };

    // In the handler's own task; the driver aborts in another task, which has no scope.
    let work = transaction.clone();
    listened.within("dropped", async move { drop(work().await) }).await;
    // In a task with the operation's handle, and in one without.
    let work = transaction.clone();
    let spawns = async move {
        let operation = scope::current().unwrap();
        let with = work.clone();
        tokio::spawn(operation.scope(async move { with().await.commit_transaction().await.unwrap() }))
            .await
            .unwrap();
        tokio::spawn(async move { work().await.commit_transaction().await.unwrap() }).await.unwrap();
    };
    listened.within("spawns", spawns).await;
    wait_until_idle(&set, &listened).await;

    let scrape = listened.scrape();
    let started =
        |operation| scrape.value(catalog::CLIENT_TRANSACTIONS_STARTED.name, &[("operation", operation)]);
    assert_eq!((started("dropped"), started("spawns"), started(UNSCOPED)), (Some(1.0), Some(1.0), Some(1.0)));
    let labels = [("operation", "dropped"), ("reason", "application")];
    assert_eq!(scrape.value(catalog::CLIENT_TRANSACTIONS_ABORTED.name, &labels), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_operation_takes_driver_reason() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let (client, orders) = (listened.client.clone(), listened.collection("orders"));
    orders.insert_one(doc! {"_id": 1}).await.unwrap();
    let work = async move {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        assert!(orders.insert_one(doc! {"_id": 1}).session(&mut session).await.is_err());
        session.abort_transaction().await.unwrap();
    };
    listened.within("pays", work).await;
    let labels = [("operation", "pays"), ("outcome", "failed"), ("reason", "duplicate_key")];
    assert_eq!(listened.sum(&catalog::TRANSACTION_FAILURES, &labels), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_after_commit_ignores_attempt_reason() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let (client, orders) = (listened.client.clone(), listened.collection("orders"));
    orders.insert_one(doc! {"_id": 1, "n": 0}).await.unwrap();
    let work = async move {
        let mut session = client.start_session().await.unwrap();
        for first in [true, false] {
            session.start_transaction().await.unwrap();
            orders.find_one(doc! {"_id": 1}).session(&mut session).await.unwrap();
            if first {
                orders.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).await.unwrap();
            }
            let update =
                orders.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut session).await;
            assert_eq!(update.is_err(), first);
            if first {
                session.abort_transaction().await.unwrap();
            } else {
                session.commit_transaction().await.unwrap();
            }
        }
    };
    listened.within("commits", work).await;
    let labels = [("operation", "commits"), ("outcome", "failed"), ("reason", "other")];
    assert_eq!(listened.sum(&catalog::TRANSACTION_FAILURES, &labels), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_transactions_list_names_session_holder() {
    let set = ReplicaSet::recycled().await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let (client, orders) = (listened.client.clone(), listened.collection("orders"));
    let work = async move {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        orders.insert_one(doc! {"a": 1}).session(&mut session).await.unwrap();
        session
    };
    let mut session = listened.within("holds", work).await;
    let rows = listened.metrics.registry().open_transactions().list();
    assert_eq!(rows.iter().map(|row| row.operation).collect::<Vec<_>>(), ["holds"]);

    // The server reports the same session id and number.
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleSessions": true}},
        doc! {"$match": {"transaction.parameters.autocommit": false}},
    ];
    let mut cursor = listened.client.database("admin").aggregate(pipeline).await.unwrap();
    assert!(cursor.advance().await.unwrap());
    let op = cursor.deserialize_current().unwrap();
    let lsid = op.get_document("lsid").unwrap().get("id").unwrap();
    let mongodb::bson::Bson::Binary(lsid) = lsid else { panic!("{lsid} is no UUID") };
    assert_eq!(lsid.to_uuid().unwrap().to_string(), rows[0].lsid);
    let parameters = op.get_document("transaction").unwrap().get_document("parameters").unwrap();
    assert_eq!(parameters.get_i64("txnNumber").ok(), rows[0].txn_number);

    session.abort_transaction().await.unwrap();
    assert!(listened.metrics.registry().open_transactions().is_empty());
}

/// Drops a transaction in its first statement, as a cancelled request does.
async fn drop_in_first_statement(set: &ReplicaSet, listened: &ListenedClient) {
    // Once, and for longer than the test takes: turning the failpoint off would wait for the statement.
    let blocks = doc! {"failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 600_000};
    FailPoint::fail_command_times(&set.client().await.unwrap(), "listened", 1, blocks).await.unwrap();
    let (client, orders) = (listened.client.clone(), listened.collection("orders"));
    let work = tokio::spawn(listened.within("leaves", async move {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        orders.insert_one(doc! {"a": 1}).session(&mut session).await
    }));
    // Not that it is open: it may be abandoned before this looks.
    wait::until("the statement to be in progress", async || {
        let started = listened.sum(&catalog::CLIENT_TRANSACTIONS_STARTED, &[("operation", "leaves")]);
        ensure!(started == 1.0, "{started} started");
        Ok(())
    })
    .await
    .unwrap();
    work.abort();
    assert!(work.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_transaction_is_counted_without_further_events() {
    let set = ReplicaSet::start(1).await.unwrap();
    let silence = Duration::from_millis(400);
    let listened = ListenedClient::connect_with(&set, |listener| listener.abandon_after(silence)).await;
    drop_in_first_statement(&set, &listened).await;
    wait::until("the transaction to be abandoned", async || {
        let counters = ClientCounters::of(&listened.scrape());
        ensure!(counters.open == 0.0, "{counters:?}");
        Ok(())
    })
    .await
    .unwrap();
    let scrape = listened.scrape();
    let of = |metric: &catalog::Metric, labels| scrape.value(metric.name, labels);
    assert_eq!(of(&catalog::CLIENT_TRANSACTIONS_ABANDONED, &[("operation", "leaves")]), Some(1.0));
    let expired = [("operation", "leaves"), ("reason", "transaction_expired")];
    assert_eq!(of(&catalog::CLIENT_TRANSACTIONS_ABORTED, &expired), Some(1.0));
    let lost = [("operation", "leaves"), ("cause", "lost")];
    assert_eq!(of(&catalog::CLIENT_TRANSACTIONS_NOT_STARTED, &lost), Some(1.0));
    assert!(listened.metrics.registry().open_transactions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_transaction_ends_with_next_session_write() {
    let set = ReplicaSet::start(1).await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    drop_in_first_statement(&set, &listened).await;
    // The driver returns the session to its pool in a task of its own; then a plain write reuses it.
    wait::until("the session to be used again", async || {
        listened.collection("orders").insert_one(doc! {"b": 1}).await?;
        let counters = ClientCounters::of(&listened.scrape());
        ensure!(counters.open == 0.0, "{counters:?}");
        Ok(())
    })
    .await
    .unwrap();
    let cancelled = [("operation", "leaves"), ("reason", "cancelled")];
    assert_eq!(listened.sum(&catalog::CLIENT_TRANSACTIONS_ABORTED, &cancelled), 1.0);
    assert_eq!(listened.sum(&catalog::CLIENT_TRANSACTIONS_ABANDONED, &[]), 0.0);
}
