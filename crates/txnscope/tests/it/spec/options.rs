//! Concerns, preferences and causal order: counterparts of `transaction-options*`, `read-concern`, `write-concern`,
//! `read-pref`, `run-command` and `causal-consistency`.

use mongodb::bson::{Document, doc};
use mongodb::options::{
    Acknowledgment, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use txnscope::{Abort, Reason, TransactionError, TransactionRunner};

use super::spec_env::SpecEnv;
use crate::env::OPERATION;

fn nodes(nodes: u32) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Nodes(nodes)).build()
}

fn secondary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Secondary { options: Option::default() })
}

/// Reads and writes through a collection with options other than the transaction's.
async fn commits_with(spec: &SpecEnv, runner: &TransactionRunner, read: &str, write: Document, case: &str) {
    let options = CollectionOptions::builder()
        .read_concern(ReadConcern::linearizable())
        .write_concern(nodes(0))
        .selection_criteria(secondary())
        .build();
    let items = spec.env.client.database("shop").collection_with_options::<Document>("items", options);
    let committed = runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        let mut cursor = items.find(doc! {}).session(&mut tx).await?;
        while cursor.next(tx.session()).await.transpose()?.is_some() {}
        Ok::<_, Abort>(items.count_documents(doc! {}).session(&mut tx).await?)
    });
    let committed = committed.await.unwrap();
    assert_eq!((committed.attempts, committed.value), (1, 1), "{case}");
    let insert = &spec.sent("insert")[0];
    assert_eq!(insert.get_document("readConcern").unwrap().get_str("level").unwrap(), read, "{case}");
    assert!(!insert.contains_key("writeConcern"), "{case}: {insert}");
    for later in spec.sent("find").iter().chain(&spec.sent("aggregate")) {
        assert!(
            !later.contains_key("readConcern") && !later.contains_key("startTransaction"),
            "{case}: {later}"
        );
    }
    let commit = &spec.sent("commitTransaction")[0];
    assert_eq!(commit.get_document("writeConcern").unwrap().to_string(), write.to_string(), "{case}");
    // At most the runner's own time limit.
    assert!((1..=120_000).contains(&whole(commit, "maxTimeMS")), "{case}: {commit}");
    let server = spec.env.reconciled().await;
    assert_eq!((server.started, server.committed), (1, 1), "{case}");
    assert_eq!(spec.committed().await, [1], "{case}");
}

fn whole(document: &Document, key: &str) -> i64 {
    document.get_i64(key).or_else(|_| document.get_i32(key).map(i64::from)).unwrap()
}

#[tokio::test]
async fn runner_options_override_collection_options() {
    let mut spec = SpecEnv::start().await;
    let runner = spec.env.runner.clone();
    commits_with(&spec, &runner, "snapshot", doc! {"w": "majority"}, "no transaction options set").await;
    spec.reset().await;
    let runner = spec.env.runner.clone().read_concern(ReadConcern::majority()).write_concern(nodes(1));
    commits_with(&spec, &runner, "majority", doc! {"w": 1}, "explicit transaction options").await;
    spec.reset().await;
    let runner = spec.env.runner.clone().read_concern(ReadConcern::local());
    commits_with(&spec, &runner, "local", doc! {"w": "majority"}, "read concern alone").await;
}

/// A client with options that would weaken or break a transaction.
#[tokio::test]
async fn client_options_are_not_inherited() {
    let mut spec = SpecEnv::with(|options| {
        options.read_concern = Some(ReadConcern::local());
        options.write_concern = Some(nodes(1));
        options.selection_criteria = Some(secondary());
    })
    .await;
    let runner = spec.env.runner.clone();
    commits_with(&spec, &runner, "snapshot", doc! {"w": "majority"}, "client options").await;
    spec.reset().await;
    let runner = spec.env.runner.clone().read_concern(ReadConcern::majority()).write_concern(nodes(1));
    commits_with(&spec, &runner, "majority", doc! {"w": 1}, "explicit override client options").await;
}

#[tokio::test]
async fn unacknowledged_write_concern_is_refused_and_not_counted() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    let runner = env.runner.clone().write_concern(nodes(0));
    let failed = runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
    assert_eq!(failure.reason(), Reason::INVALID_REQUEST);
    assert!(failure.to_string().contains("unacknowledged"), "{failure}");
    assert_eq!((env.reconciled().await.started, env.driver()), (0, [0.0; 5]));
}

#[tokio::test]
async fn unsatisfiable_write_concern_commits_and_returns_unknown() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    let runner = env.runner.clone().write_concern(nodes(10));
    let unknown = runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let TransactionError::CommitUnknown(failure) = unknown.await.unwrap_err() else { panic!("not unknown") };
    assert_eq!(failure.reason(), Reason::WRITE_CONCERN);
    assert_eq!((env.reconciled().await.committed, spec.committed().await), (1, vec![1]));
    assert_eq!(spec.sent("commitTransaction").len(), 1);
}

#[tokio::test]
async fn secondary_read_preference_fails_without_retry() {
    let spec = SpecEnv::start().await;
    let env = &spec.env;
    let shop = env.client.database("shop");
    for explicit in [false, true] {
        let insert = doc! {"insert": "items", "documents": [{"_id": i32::from(explicit)}]};
        let committed = env.runner.run_as(OPERATION, async |mut tx| {
            let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
            let mut command = shop.run_command(insert.clone());
            if explicit {
                command = command.selection_criteria(primary);
            }
            command.session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        assert_eq!(committed.await.unwrap().attempts, 1);
    }
    let failed = env.runner.run_as(OPERATION, async |mut tx| {
        let find = shop.run_command(doc! {"find": "items"}).selection_criteria(secondary());
        find.session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
    assert_eq!((failure.reason(), failure.attempts()), (Reason::INVALID_REQUEST, 1));
    assert_eq!(env.not_started("not_sent"), 1.0);
    assert_eq!((env.reconciled().await.committed, spec.committed().await), (2, vec![0, 1]));
}

/// MongoDB's sessions are causally consistent; each attempt of the runner has its own session. The next transaction
/// reads the previous one's writes because commits wait for a majority and reads are of a snapshot.
#[tokio::test]
async fn transaction_reads_previous_commit() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    env.items_of_others().insert_one(doc! {"_id": 1, "count": 0}).await.unwrap();
    for before in 0..20 {
        let counted = env.runner.run_as(OPERATION, async |mut tx| {
            let item = items.find_one(doc! {"_id": 1}).session(&mut tx).await?.unwrap();
            items.update_one(doc! {"_id": 1}, doc! {"$inc": {"count": 1}}).session(&mut tx).await?;
            Ok::<_, Abort>(item.get_i32("count").unwrap())
        });
        let counted = counted.await.unwrap();
        assert_eq!((counted.value, counted.attempts), (before, 1));
    }
    assert_eq!(env.reconciled().await.committed, 20);
}
