//! Statements, and what their errors mean: counterparts of `insert`, `update`, `delete`, `findOneAnd*`, `reads`,
//! `count`, `create-*`, `isolation`, `error-labels*`, `retryable-writes` and `do-not-retry-read-in-transaction`.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::ReadConcern;
use txnscope::{Abort, Reason, Transaction, TransactionError};

use super::cases::{Case, Expected, again, check, closed, code, concern};
use super::spec_env::SpecEnv;
use crate::env::OPERATION;

#[tokio::test]
async fn every_statement_kind_joins_the_transaction() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        let more: Vec<_> = (2..=8).map(|id| doc! {"_id": id, "n": id}).collect();
        items.insert_many(more).session(&mut tx).await?;
        items.update_one(doc! {"_id": 1}, doc! {"$set": {"n": 1}}).session(&mut tx).await?;
        items.update_one(doc! {"_id": 9}, doc! {"$set": {"n": 9}}).upsert(true).session(&mut tx).await?;
        items.update_many(doc! {}, doc! {"$inc": {"n": 10}}).session(&mut tx).await?;
        items.replace_one(doc! {"_id": 2}, doc! {"n": 0}).session(&mut tx).await?;
        items.delete_one(doc! {"_id": 3}).session(&mut tx).await?;
        items.delete_many(doc! {"_id": {"$in": [4, 5]}}).session(&mut tx).await?;
        items.find_one_and_delete(doc! {"_id": 6}).session(&mut tx).await?.unwrap();
        items.find_one_and_replace(doc! {"_id": 7}, doc! {"n": 0}).session(&mut tx).await?.unwrap();
        items.find_one_and_update(doc! {"_id": 8}, doc! {"$set": {"n": 0}}).session(&mut tx).await?.unwrap();
        let mut found = Vec::new();
        let mut cursor = items.find(doc! {}).sort(doc! {"_id": 1}).batch_size(2).session(&mut tx).await?;
        while let Some(item) = cursor.next(tx.session()).await.transpose()? {
            found.push((item.get_i32("_id").unwrap(), item.get_i32("n").unwrap()));
        }
        let mut grouped = items.aggregate(vec![doc! {"$match": {"n": 0}}]).session(&mut tx).await?;
        let mut zeros = 0;
        while grouped.next(tx.session()).await.transpose()?.is_some() {
            zeros += 1;
        }
        let distinct = items.distinct("n", doc! {}).session(&mut tx).await?.len();
        let counted = items.count_documents(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>((found, zeros, distinct, counted))
    });
    let committed = committed.await.unwrap();
    assert_eq!(committed.attempts, 1);
    assert_eq!(committed.value, (vec![(1, 11), (2, 0), (7, 0), (8, 0), (9, 19)], 3, 3, 5));
    assert!(!spec.sent("getMore").is_empty(), "a cursor's later batches belong to the transaction");
    let server = env.reconciled().await;
    assert_eq!((server.started, server.committed), (1, 1));
    assert_eq!(spec.committed().await, [1, 2, 7, 8, 9]);
}

#[tokio::test]
async fn collections_and_indexes_are_created_on_commit() {
    let spec = SpecEnv::start().await;
    let env = &spec.env;
    let (shop, others) = (env.client.database("shop"), env.admin.database("shop"));
    // The server creates no collection in a transaction that reads a snapshot, which is the runner's default.
    let runner = env.runner.clone().read_concern(ReadConcern::local());
    let committed = runner.run_as(OPERATION, async |mut tx| {
        shop.create_collection("explicit").session(&mut tx).await?;
        let index = IndexModel::builder().keys(doc! {"x": 1}).build();
        shop.collection::<Document>("explicit").create_index(index.clone()).session(&mut tx).await?;
        shop.collection::<Document>("implicit").insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        shop.collection::<Document>("by_index").create_index(index).session(&mut tx).await?;
        Ok::<_, Abort>(others.list_collection_names().await?)
    });
    let during = committed.await.unwrap().value;
    assert_eq!(during, ["items"]);
    let mut after = others.list_collection_names().await.unwrap();
    after.sort();
    assert_eq!(after, ["by_index", "explicit", "implicit", "items"]);
    for name in ["explicit", "by_index"] {
        let indexes = others.collection::<Document>(name).list_index_names().await.unwrap();
        assert!(indexes.contains(&"x_1".to_owned()), "{name}: {indexes:?}");
    }
    assert_eq!(env.reconciled().await.committed, 1);
}

#[tokio::test]
async fn uncommitted_changes_are_invisible() {
    let spec = SpecEnv::start().await;
    let (env, items, others) = (&spec.env, spec.env.items(), spec.env.items_of_others());
    let one = doc! {"_id": 1};
    let outer = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(one.clone()).session(&mut tx).await?;
        let inner = env.runner.run_as(OPERATION, async |mut inner| {
            Ok::<_, Abort>(items.find_one(one.clone()).session(&mut inner).await?)
        });
        let (inside, outside) =
            (items.find_one(one.clone()).session(&mut tx).await?, others.find_one(one.clone()).await?);
        Ok::<_, Abort>((inside, outside, inner.await.unwrap().value))
    });
    let (inside, outside, inner) = outer.await.unwrap().value;
    assert_eq!((inside, outside, inner), (Some(one), None, None));
    assert_eq!(spec.committed().await, [1]);
    assert_eq!(env.reconciled().await.committed, 2);
}

#[tokio::test]
async fn lost_connection_is_reported_by_driver() {
    let mut spec = SpecEnv::start().await;
    for statement in ["insert", "find", "aggregate", "distinct"] {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        env.fail_times(1, closed(statement)).await;
        let committed = env.runner.run_as(OPERATION, async |mut tx: Transaction| {
            match statement {
                "insert" => drop(items.insert_one(doc! {"_id": 1}).session(&mut tx).await?),
                "find" => drop(items.find_one(doc! {}).session(&mut tx).await?),
                "aggregate" => drop(items.count_documents(doc! {}).session(&mut tx).await?),
                _ => drop(items.distinct("_id", doc! {}).session(&mut tx).await?),
            }
            Ok::<_, Abort>(())
        });
        assert_eq!(committed.await.unwrap().attempts, 2, "{statement}");
        let server = env.reconciled().await;
        assert_eq!(env.driver(), [2.0, 1.0, 1.0, 0.0, 0.0], "{statement}");
        assert_eq!((env.not_started("lost"), env.aborted_for("network")), (1.0, 1.0), "{statement}");
        assert_eq!(server.committed, 1, "{statement}");
        let reads_of_the_fence = if statement == "find" { 1 } else { 0 };
        assert_eq!(spec.sent(statement).len(), 2 + reads_of_the_fence, "{statement}");
    }
}

#[tokio::test]
async fn transient_error_in_second_statement_is_retried() {
    let cases = [
        Case::new(
            "WriteConflict errors contain transient label",
            1,
            code("update", 112),
            again(Reason::WRITE_CONFLICT),
        ),
        Case::new(
            "NoSuchTransaction errors contain transient label",
            1,
            code("update", 251),
            again(Reason::NO_SUCH_TRANSACTION),
        ),
        Case::new(
            "add TransientTransactionError label to connection errors",
            1,
            closed("update"),
            again(Reason::NETWORK),
        ),
        Case::new(
            "do not add UnknownTransactionCommitResult label to MaxTimeMSExpired inside transactions",
            1,
            code("update", 50),
            Expected::Failed(Reason::MAX_TIME_EXPIRED),
        ),
        Case::new(
            "do not add RetryableWriteError label to writeConcernError ShutdownInProgress that occurs within transaction",
            1,
            concern("insert", 91),
            Expected::Failed(Reason::WRITE_CONCERN),
        ),
    ];
    check(&mut SpecEnv::start().await, &cases).await;
}

/// A member that rejects statements, or a command that cannot start a transaction.
#[tokio::test]
async fn refused_first_statement_is_counted_by_driver_only() {
    first_statement_fails_with(&[(13435, true), (13436, true), (13, false), (59, false)], "refused").await;
}

/// A member that steps down, or a time limit, produces these errors before and after the start. Here it was before,
/// which the driver cannot know: the counters allow for both.
#[tokio::test]
async fn first_statement_refused_in_election_counts_as_lost() {
    let codes =
        [(10107, true), (11602, true), (11600, true), (189, true), (91, true), (50, false), (263, false)];
    first_statement_fails_with(&codes, "lost").await;
}

async fn first_statement_fails_with(codes: &[(i32, bool)], cause: &str) {
    let mut spec = SpecEnv::start().await;
    for (number, is_tried_again) in codes {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        env.fail_times(1, code("insert", *number)).await;
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        let again = match ended.await {
            Ok(committed) => committed.attempts == 2,
            Err(TransactionError::Failed(failure)) => failure.attempts() != 1,
            Err(other) => panic!("{number}: {other:?}"),
        };
        assert_eq!(again, *is_tried_again, "{number}");
        let server = env.reconciled().await;
        assert_eq!((env.not_started(cause), server.started), (1.0, i64::from(again)), "{number}");
        assert_eq!((server.aborted, spec.committed().await.len()), (0, usize::from(again)), "{number}");
    }
}
