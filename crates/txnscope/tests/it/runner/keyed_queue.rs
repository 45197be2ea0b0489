//! Concurrent writers of one document, with and without a key.

use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::wait;
use tokio::task::JoinSet;
use tokio::time::Instant;
use txnscope::{Abort, Reason, TransactionError};

use crate::env::{Environment, OPERATION};

const WRITERS: usize = 32;
const EACH: usize = 5;

async fn writers(env: &Environment, keyed: bool) {
    env.items_of_others().insert_one(doc! {"_id": "hot", "n": 0}).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (runner, items) = (env.runner.clone(), env.items());
        writers.spawn(async move {
            for _ in 0..EACH {
                let run = runner.transaction().named(OPERATION);
                let run = if keyed { run.serialize_on("hot") } else { run };
                run.run(async |mut tx| {
                    items.update_one(doc! {"_id": "hot"}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
                    Ok::<_, Abort>(())
                })
                .await
                .unwrap();
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let hot = env.items_of_others().find_one(doc! {"_id": "hot"}).await.unwrap().unwrap();
    assert_eq!(hot.get_i32("n").unwrap(), i32::try_from(WRITERS * EACH).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn serialized_writers_never_conflict() {
    let env = Environment::start().await;
    writers(&env, true).await;
    let server = env.reconciled().await;
    let all = i64::try_from(WRITERS * EACH).unwrap();
    assert_eq!((server.started, server.committed, server.aborted), (all, all, 0));
    assert_eq!(env.counted("mongodb_client_transactions_queued", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unserialized_writers_conflict_and_apply_once() {
    let env = Environment::start().await;
    writers(&env, false).await;
    let server = env.reconciled().await;
    assert_eq!(server.committed, i64::try_from(WRITERS * EACH).unwrap());
    let [started, committed, aborted, unknown, _] = env.driver();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let counted = [server.started, server.committed, server.aborted].map(|count| count as f64);
    assert_eq!([started, committed, aborted], counted);
    assert_eq!((unknown, env.aborted_for("write_conflict")), (0.0, aborted), "{}", env.metrics.render());
}

#[tokio::test]
async fn queue_timeout_and_queue_full_start_nothing() {
    let env = Environment::start().await;
    let items = env.items();
    let (held, holding) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let (held, released) = (std::cell::Cell::new(Some(held)), std::cell::Cell::new(Some(released)));
    let holder = env.runner.serialize_on(7).named(OPERATION).run(async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        held.take().unwrap().send(()).unwrap();
        released.take().unwrap().await.unwrap();
        Ok::<_, Abort>(())
    });
    let waiter = async {
        holding.await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(100);
        let work = async |_: txnscope::Transaction| Ok::<_, Abort>(());
        let late = env.runner.serialize_on(7).named(OPERATION).deadline(deadline).run(work).await;
        assert_eq!(late.unwrap_err().reason(), Reason::TIMEOUT);
        let crowded = env.runner.clone().max_queue(0);
        let full = crowded.serialize_on(7).named(OPERATION).run(work).await.unwrap_err();
        assert_eq!(full.reason(), Reason::QUEUE_FULL);
        assert!(matches!(&full, TransactionError::Failed(failure) if failure.is_transient()), "{full:?}");
        assert_eq!(env.driver(), [1.0, 0.0, 0.0, 0.0, 1.0], "a waiting transaction has started something");
        release.send(()).unwrap();
    };
    let (held, ()) = tokio::join!(holder, waiter);
    held.unwrap();
    env.reconciled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn longest_queues_are_listed_with_the_operation_that_holds_the_key() {
    let env = Environment::start().await;
    let open = env.metrics.registry().open_transactions();
    let mut runs = JoinSet::new();
    for (key, transactions) in [("cold", 1), ("warm", 2), ("hot", 4)] {
        for _ in 0..transactions {
            let runner = env.runner.clone();
            runs.spawn(async move {
                let run = runner.transaction().named(OPERATION).serialize_on(key);
                let _ = run.run(async |_| std::future::pending::<Result<(), Abort>>().await).await;
            });
        }
    }
    let queued = || {
        let queues = open.queues();
        queues.iter().map(|of| (of.key.clone(), of.operation, of.waiting)).collect::<Vec<_>>()
    };
    let expected = [("\"hot\"".to_owned(), Some(OPERATION), 3), ("\"warm\"".to_owned(), Some(OPERATION), 1)];
    wait::until("the queues", async || {
        ensure!(queued() == expected, "{:?}", queued());
        Ok(())
    })
    .await
    .unwrap();
    assert!(
        open.to_json().contains(r#"{"key":"\"hot\"","operation":"test","waiting":3}"#),
        "{}",
        open.to_json()
    );
    runs.shutdown().await;
    assert_eq!(queued(), []);
}
