//! Who blocks whom: locks, documents, and prepared transactions.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use testkit::{ReplicaSet, wait};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use txnscope_sidecar::Target;
use txnscope_sidecar::live::{
    EndOutcome, HeldLock, LiveReport, Reference, Transaction as OpenTransaction, TransactionState, TreeRow,
    WaitsFor, blocker_tree, end_transaction,
};

use super::{
    LIFETIME, backend, client, collection, fill, monitor, monitor_with, number, options, report_where,
    session_id, transaction,
};

use Reference::{Running, Transaction, Waiting};

const WRITERS: i32 = 30;

/// Writers that each change one document.
fn writers(client: &Client, document: impl Fn(i32) -> i32) -> JoinSet<mongodb::error::Result<()>> {
    let mut writers = JoinSet::new();
    for index in 1..=WRITERS {
        let (orders, one) = (collection(client, "orders"), doc! {"_id": document(index)});
        writers.spawn(async move { orders.update_one(one, doc! {"$inc": {"n": 1}}).await.map(drop) });
    }
    writers
}

async fn succeed(mut tasks: JoinSet<mongodb::error::Result<()>>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

fn command(client: &Client, command: Document) -> JoinSet<mongodb::error::Result<()>> {
    let (mut tasks, database) = (JoinSet::new(), client.database("shop"));
    tasks.spawn(async move { database.run_command(command).await.map(drop) });
    tasks
}

fn lock(mode: &str) -> WaitsFor {
    WaitsFor::Lock {
        resource: Some("collection".to_owned()),
        name: Some("shop.orders".to_owned()),
        mode: Some(mode.to_owned()),
    }
}

async fn set() -> (ReplicaSet, Client) {
    let set = options(1).start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    fill(&shop, "stock").await;
    (set, shop)
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_behind_an_index_build_that_waits_for_an_idle_transaction() {
    let (set, shop) = set().await;
    let mut session = transaction(&shop, "orders").await;
    let number = number(&shop, &session).await.unwrap();
    let table = backend::serve(&session, number, "POST /orders").await;
    let monitor = monitor_with(&set.uri(), wait::LIMIT, vec![table]).await;
    let build =
        command(&shop, doc! {"createIndexes": "orders", "indexes": [{"key": {"n": 1}, "name": "by_n"}]});
    let builds = |report: &LiveReport| {
        report.waiting.iter().position(|of| of.command == "createIndexes" && !of.blocked_by.is_empty())
    };
    report_where(&monitor, "the index build", |report| builds(report).is_some()).await;
    let writers = writers(&shop, |index| index);
    let all = |report: &LiveReport| {
        report.waiting.len() == 31 && report.waiting.iter().all(|waiting| !waiting.blocked_by.is_empty())
    };
    let report = report_where(&monitor, "thirty writers", all).await;

    let member = set.members()[0].address();
    assert_eq!((report.transactions.len(), report.running.len()), (1, 0));
    let [queue] = report.queues.as_slice() else { panic!("{:?}", report.queues) };
    assert_eq!(
        (queue.key.as_str(), queue.operation.as_deref(), queue.waiting),
        ("7", Some("POST /orders"), 3)
    );
    let [pool] = report.pools.as_slice() else { panic!("{:?}", report.pools) };
    assert_eq!((pool.server.as_str(), pool.is_exhausted()), ("db1:27017", true));
    assert!(queue.backend.starts_with("127.0.0.1:") && queue.backend == pool.backend, "{queue:?}");
    let open = &report.transactions[0];
    assert_eq!((open.state, open.txn_number), (TransactionState::Idle, number));
    assert_eq!(open.operation.as_deref(), Some("POST /orders"));
    assert_eq!((open.application.as_deref(), &open.member), (Some("shop"), &member));
    assert!(open.client.as_deref().unwrap().starts_with("127.0.0.1:"), "{open:?}");
    assert!(open.driver.as_deref().unwrap().starts_with("mongo-rust-driver"), "{open:?}");
    assert_eq!(open.namespaces, ["shop.orders"]);
    let held = |resource: &str, name: &str| HeldLock {
        resource: resource.to_owned(),
        name: name.to_owned(),
        mode: "IX".to_owned(),
    };
    assert_eq!(open.locks, [held("collection", "shop.orders"), held("database", "shop")]);
    assert_eq!((open.expires_in.unwrap() + open.age).as_secs(), LIFETIME);
    assert_eq!(open.idle.unwrap() + open.active, open.age, "it has been idle since its only statement");

    let build_index = builds(&report).unwrap();
    for (index, waiting) in report.waiting.iter().enumerate() {
        let (command, mode, blocker) = match index == build_index {
            true => ("createIndexes", "X", Transaction(0)),
            false => ("update", "IX", Waiting(build_index)),
        };
        assert_eq!((waiting.command.as_str(), &waiting.waits_for), (command, &lock(mode)));
        assert_eq!((waiting.blocked_by.as_slice(), waiting.more_blockers), (&[blocker][..], 0));
        assert_eq!((&waiting.candidates, waiting.transaction), (&Vec::new(), None));
        assert_eq!(waiting.namespace.as_deref(), Some("shop.orders"));
    }
    let writing: Vec<_> = (0..31).filter(|index| *index != build_index).map(Waiting).collect();
    let row = |depth, entries, blocks| TreeRow { depth, entries, certain: true, blocks };
    let tree = [row(0, vec![Transaction(0)], 31), row(1, vec![Waiting(build_index)], 30), row(2, writing, 0)];
    assert_eq!(blocker_tree(&report), tree);

    session.commit_transaction().await.unwrap();
    succeed(build).await;
    succeed(writers).await;
    let report = report_where(&monitor, "nothing open", |report| report.transactions.is_empty()).await;
    assert!(report.waiting.is_empty());
    monitor.shutdown().await;
}

/// The server retries them inside itself, with `waitingForLock: false`.
#[tokio::test(flavor = "multi_thread")]
async fn retried_writers_wait_for_a_document_of_an_unknown_holder() {
    let (set, shop) = set().await;
    let mut other = transaction(&shop, "stock").await;
    let mut session = transaction(&shop, "orders").await;
    let monitor = monitor(&set.uri()).await;
    let writers = writers(&shop, |_| 0);
    let all = |report: &LiveReport| {
        report.waiting.len() == 30
            && report.waiting.iter().all(|waiting| waiting.waits_for == WaitsFor::Document)
    };
    let report = report_where(&monitor, "thirty writers", all).await;
    let holder = report.transactions.iter().position(|of| of.namespaces == ["shop.orders"]).unwrap();
    assert_eq!(report.transactions.len(), 2);
    for waiting in &report.waiting {
        assert_eq!((waiting.command.as_str(), waiting.blocked_by.len()), ("update", 0));
        assert_eq!(waiting.candidates, [Transaction(holder)], "the other transaction has another collection");
        assert!(waiting.write_conflicts > 0);
    }
    let tree = blocker_tree(&report);
    assert_eq!((tree.len(), tree[0].blocks, tree[1].certain), (2, 30, false), "{tree:?}");
    session.commit_transaction().await.unwrap();
    succeed(writers).await;
    report_where(&monitor, "no writer", |report| report.waiting.is_empty()).await;
    other.abort_transaction().await.unwrap();
    monitor.shutdown().await;
}

/// A statement of a transaction does not wait for a document: it fails, and its client runs the transaction again.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_abort_because_of_an_idle_one_name_it_as_a_candidate() {
    let (set, shop) = set().await;
    let mut holder = transaction(&shop, "orders").await;
    let monitor = monitor(&set.uri()).await;
    let is_quiet = |report: &LiveReport| report.transactions.len() == 1 && report.members[0].rates.is_some();
    let report = report_where(&monitor, "an idle transaction", is_quiet).await;
    assert_eq!(report.members[0].conflict_candidates, [], "without a conflict nothing is suspected");

    let (stop, client) = (CancellationToken::new(), shop.clone());
    let stopped = stop.clone();
    let retries = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            let mut session = client.start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            let (first, more) = (doc! {"_id": 0}, doc! {"$inc": {"n": 1}});
            let update = collection(&client, "orders").update_one(first, more).session(&mut session).await;
            assert!(update.unwrap_err().contains_label("TransientTransactionError"));
        }
    });
    let is_named = |report: &LiveReport| !report.members[0].conflict_candidates.is_empty();
    let report = report_where(&monitor, "the cause of the conflicts", is_named).await;
    let holding = |of: &OpenTransaction| of.session == session_id(&holder);
    let index = report.transactions.iter().position(holding).unwrap();
    assert_eq!(report.members[0].conflict_candidates, [Transaction(index)], "{report:#?}");
    assert_eq!(report.waiting, [], "they do not wait");
    stop.cancel();
    retries.await.unwrap();
    holder.abort_transaction().await.unwrap();
    monitor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_waits_for_a_prepared_transaction() {
    let (set, shop) = set().await;
    let mut session = transaction(&shop, "orders").await;
    let prepare = doc! {"prepareTransaction": 1};
    shop.database("admin").run_command(prepare).session(&mut session).await.unwrap();
    let monitor = monitor(&set.uri()).await;
    let writer =
        command(&shop, doc! {"update": "orders", "updates": [{"q": {"_id": 0}, "u": {"$inc": {"n": 1}}}]});
    let report = report_where(&monitor, "the writer", |report| report.waiting.len() == 1).await;
    let open = &report.transactions[0];
    assert_eq!((open.state, open.expires_in), (TransactionState::Prepared, None));
    assert_eq!(report.waiting[0].waits_for, WaitsFor::PreparedTransaction);
    assert_eq!(report.waiting[0].blocked_by, [Transaction(0)]);
    let refused = end_transaction(&Target::new(set.uri()), &open.id()).await.result.unwrap();
    assert_eq!(refused, EndOutcome::Prepared, "only its coordinator ends it");
    session.abort_transaction().await.unwrap();
    succeed(writer).await;
    monitor.shutdown().await;
}

/// A statement that waits for a lock is part of its transaction, and an operation outside of transactions can hold one.
#[tokio::test(flavor = "multi_thread")]
async fn statement_of_a_transaction_waits_for_a_running_operation() {
    let patience = options(1).parameter("maxTransactionLockRequestTimeoutMillis", 600_000);
    let set = patience.start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    let monitor = monitor(&set.uri()).await;
    // A running operation that holds the collection's lock exclusively.
    let sleep = doc! {"sleep": 1, "lockTarget": "shop.orders", "lock": "w", "millis": 600_000};
    let admin = shop.database("admin");
    let mut sleeper = JoinSet::new();
    sleeper.spawn(async move { admin.run_command(sleep).await.map(drop) });
    let mut opid = 0;
    wait::until("the running operation", async || {
        let stages = [
            doc! {"$currentOp": {"allUsers": true}},
            doc! {"$match": {"command.sleep": 1, "locks.Collection": "W"}},
        ];
        let mut found = shop.database("admin").aggregate(stages).await?;
        anyhow::ensure!(found.advance().await?, "it does not hold the lock yet");
        opid = i64::from(found.deserialize_current()?.get_i32("opid")?);
        Ok(())
    })
    .await
    .unwrap();
    let statement = tokio::spawn({
        let shop = shop.clone();
        async move { transaction(&shop, "orders").await.commit_transaction().await }
    });
    let waits = |report: &LiveReport| report.waiting.iter().any(|waiting| !waiting.blocked_by.is_empty());
    let report = report_where(&monitor, "the statement", waits).await;
    assert_eq!((report.waiting.len(), report.transactions.len(), report.running.len()), (1, 1, 1));
    assert_eq!(
        (report.waiting[0].transaction, report.waiting[0].blocked_by.as_slice()),
        (Some(0), &[Running(0)][..])
    );
    let open = &report.transactions[0];
    assert_eq!(
        (open.state, open.idle, open.command.as_deref()),
        (TransactionState::WaitingForLock, None, Some("update"))
    );
    assert_eq!((report.running[0].opid, report.running[0].command.as_str()), (opid, "sleep"));
    let entries: Vec<_> = blocker_tree(&report).into_iter().flat_map(|row| row.entries).collect();
    assert_eq!(entries, [Running(0), Transaction(0)]);
    shop.database("admin").run_command(doc! {"killOp": 1, "op": opid}).await.unwrap();
    statement.await.unwrap().unwrap();
    monitor.shutdown().await;
}
