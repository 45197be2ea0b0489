//! Waits for locks, for prepared transactions, and for the majority.

use anyhow::ensure;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use testkit::{ReplicaSet, ReplicaSetOptions, Scrape, wait};

use crate::common::{open_transaction, page_where, prepare, sidecar, total};

const OPEN: &str = "mongodb_transactions_open";

#[tokio::test(flavor = "multi_thread")]
async fn transaction_waiting_for_a_lock_is_exported() {
    const WAITING: &str = "mongodb_transactions_waiting_for_lock";
    const WAITS: &str = "mongodb_lock_waits_total";
    let patience = ReplicaSetOptions::new(1).parameter("maxTransactionLockRequestTimeoutMillis", 60_000);
    let set = patience.start().await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar(&set.uri()).await;
    let before = page_where(&sidecar, "the first poll", |page| page.family(WAITS).is_some()).await;

    // The first transaction holds its lock on the collection, a change of the collection waits for it, and the
    // second transaction waits behind the change.
    let mut first = open_transaction(&client).await;
    let change = tokio::spawn({
        let database = client.database("test");
        async move { database.run_command(doc! {"collMod": "c", "validationLevel": "strict"}).await }
    });
    let waits = async || {
        let stage = doc! {"$currentOp": {"allUsers": true}};
        let matching = doc! {"$match": {"command.collMod": "c", "waitingForLock": true}};
        let mut found = client.database("admin").aggregate([stage, matching]).await?;
        ensure!(found.advance().await?, "the change does not wait yet");
        Ok(())
    };
    wait::until("the change to wait", waits).await.unwrap();
    let second = tokio::spawn({
        let client = client.clone();
        async move { open_transaction(&client).await.commit_transaction().await }
    });
    // The change needs an exclusive lock, the second transaction needs to write.
    let waits = |page: &Scrape, mode: &str| page.sum(WAITS, &[("resource", "collection"), ("mode", mode)]);
    let waited = |page: &Scrape, mode: &str| waits(page, mode) - waits(&before, mode);
    // Collectors are polled at different times: a page has all results only once each was polled.
    page_where(&sidecar, "the waiter, and both waits", |page| {
        total(page, WAITING) == 1.0
            && page.sum(OPEN, &[("state", "active")]) == 1.0
            && (waited(page, "exclusive"), waited(page, "intent_exclusive")) == (1.0, 1.0)
            && total(page, "mongodb_global_lock_queue") == 2.0
    })
    .await;
    first.commit_transaction().await.unwrap();
    change.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let seconds = |page: &Scrape| page.sum("mongodb_lock_wait_seconds_total", &[("resource", "collection")]);
    let page = page_where(&sidecar, "no waiting operation, and a wait time above zero", |page| {
        page.family(WAITING).is_some() && total(page, WAITING) == 0.0 && seconds(page) > seconds(&before)
    })
    .await;
    assert_eq!(total(&page, "mongodb_lock_deadlocks_total"), 0.0);
    sidecar.shutdown().await;
}

/// A sharded transaction needs more servers than run here, but `prepareTransaction` can be sent directly.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_transaction_and_blocked_operations_are_exported() {
    const BLOCKED: &str = "mongodb_operations_blocked_by_prepared";
    const PREPARED_FOR: &str = "mongodb_transactions_oldest_prepared_seconds";
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar(&set.uri()).await;

    let hot: Collection<Document> = client.database("test").collection("c");
    let (one, more) = (doc! {"_id": "hot"}, doc! {"$inc": {"n": 1}});
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    hot.update_one(one.clone(), more.clone()).session(&mut session).await.unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! {"prepareTransaction": 1}).session(&mut session).await.unwrap();
    page_where(&sidecar, "a prepared transaction", |page| {
        total(page, PREPARED_FOR) > 0.0
            && total(page, "mongodb_transactions_prepared") == 1.0
            && total(page, "mongodb_transactions_prepared_total") == 1.0
            && total(page, BLOCKED) == 0.0
    })
    .await;

    let blocked = tokio::spawn(async move { hot.update_one(one, more).await });
    page_where(&sidecar, "whom it blocks", |page| total(page, BLOCKED) == 1.0).await;
    session.abort_transaction().await.unwrap();
    blocked.await.unwrap().unwrap();
    page_where(&sidecar, "no blocked operation", |page| {
        page.family(BLOCKED).is_some()
            && total(page, BLOCKED) == 0.0
            && total(page, PREPARED_FOR) == 0.0
            && total(page, "mongodb_transactions_prepared_aborted_total") == 1.0
    })
    .await;
    sidecar.shutdown().await;
}

/// The server counts the transaction as committed, and no longer as open, before the wait for the majority. Only
/// the command is still visible.
#[tokio::test(flavor = "multi_thread")]
async fn commit_waiting_for_majority_is_exported() {
    const ENDING: &str = "mongodb_transactions_finishing";
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar(&set.uri()).await;
    page_where(&sidecar, "the first answer", |page| page.family(ENDING).is_some()).await;

    let point = |mode: &str| doc! {"configureFailPoint": "hangBeforeWaitingForWriteConcern", "mode": mode};
    let admin = client.database("admin");
    let mut session = open_transaction(&client).await;
    admin.run_command(point("alwaysOn")).await.unwrap();
    let commit = tokio::spawn(async move { session.commit_transaction().await });
    let oldest = [("command", "commit")];
    let page = page_where(&sidecar, "a commit of half a second", |page| {
        page.sum("mongodb_transactions_oldest_finishing_seconds", &oldest) > 0.5
            && total(page, OPEN) == 0.0
            && total(page, "mongodb_transactions_committed_total") == 1.0
    })
    .await;
    assert_eq!(page.sum(ENDING, &oldest), 1.0);
    assert_eq!(page.sum(ENDING, &[("command", "abort")]), 0.0);
    admin.run_command(point("off")).await.unwrap();
    commit.await.unwrap().unwrap();
    page_where(&sidecar, "no commit", |page| page.family(ENDING).is_some() && total(page, ENDING) == 0.0)
        .await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_transactions_are_split_by_application_and_age() {
    const OF: &str = "mongodb_transactions_open_by_application";
    const OLDEST: &str = "mongodb_transactions_oldest_open_by_application_seconds";
    let set = ReplicaSet::start(1).await.unwrap();
    let (shop, bank) = (set.client_named("shop").await.unwrap(), set.client_named("bank").await.unwrap());
    prepare(&shop).await;
    let sidecar = sidecar(&set.uri()).await;
    let mut first = open_transaction(&shop).await;
    let of = |name| [("application", name)];
    let age = |from| [("age", from)];
    page_where(&sidecar, "a transaction of more than a second", |page| {
        total(page, "mongodb_transactions_open_by_age") == 1.0
            && page.sum("mongodb_transactions_open_by_age", &age("under_1s")) == 0.0
            && page.sum(OLDEST, &of("shop")) >= 1.0
    })
    .await;
    let mut second = open_transaction(&bank).await;
    let mut third = open_transaction(&bank).await;
    let page = page_where(&sidecar, "both applications", |page| page.sum(OF, &of("bank")) == 2.0).await;
    assert_eq!(page.sum(OF, &of("shop")), 1.0);
    assert_eq!(page.sum(OF, &of("overflow")), 0.0);
    assert!(page.sum(OLDEST, &of("shop")) > page.sum(OLDEST, &of("bank")));
    assert_eq!(total(&page, "mongodb_transactions_open_by_age"), 3.0);
    for session in [&mut first, &mut second, &mut third] {
        session.abort_transaction().await.unwrap();
    }
    let page = page_where(&sidecar, "none", |page| page.family(OF).is_some() && total(page, OF) == 0.0).await;
    assert_eq!(page.value(OLDEST, &of("shop")), Some(0.0), "it is gone, and not forgotten");
    sidecar.shutdown().await;
}
