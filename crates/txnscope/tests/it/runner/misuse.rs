//! Misuse that the runner detects: statements without the session, nested keys, nested transactions.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use testkit::{Scrape, wait};
use tokio::sync::Barrier;
use tokio::time::timeout;
use txnscope::transaction::Cause;
use txnscope::{Abort, Reason, TransactionError, TransactionListener, TransactionRunner};

use crate::env::{Environment, NO, OPERATION};
use crate::log_capture::Log;

const WITHOUT: &str = "mongodb_client_transactions_without_statements_total";
const OUTSIDE: &str = "mongodb_client_writes_outside_transaction_total";

#[tokio::test]
async fn callback_without_session_is_counted_and_warned_once() {
    let env = Environment::start().await;
    let items = env.items();
    let log = Log::here();
    for id in 0..3 {
        let ended = env.runner.run_as(OPERATION, async |_tx| {
            items.insert_one(doc! {"_id": id}).await?;
            if id == 0 { Err(NO.into()) } else { Ok::<_, Abort<Reason>>(()) }
        });
        assert_eq!(ended.await.is_err(), id == 0);
    }
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 3, "every write was applied");
    assert_eq!(env.counted(WITHOUT, &[]), 3.0);
    assert_eq!(log.lines("without any statement").len(), 1, "{}", log.text());
    assert!(log.text().contains(".session(&mut tx)"), "{}", log.text());
    // One statement in the transaction is enough.
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.find_one(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    committed.await.unwrap();
    assert_eq!(env.counted(WITHOUT, &[]), 3.0);
    env.reconciled().await;
}

#[tokio::test]
async fn write_outside_transaction_is_counted_with_listener() {
    let env = Environment::start().await;
    let mut options = ClientOptions::parse(env.set.uri()).await.unwrap();
    TransactionListener::with_registry(env.metrics.registry()).install(&mut options);
    let client = Client::with_options(options).unwrap();
    let items = client.database("shop").collection::<mongodb::bson::Document>("items");
    let runner = TransactionRunner::with_registry(&client, env.metrics.registry());
    let log = Log::here();
    let rejected = runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        items.insert_one(doc! {"_id": 2}).await?;
        items.update_many(doc! {"_id": 2}, doc! {"$set": {"n": 1}}).await?;
        items.find_one(doc! {"_id": 2}).await?;
        Err::<(), Abort<Reason>>(NO.into())
    });
    assert_eq!(rejected.await.unwrap_err().reason(), NO);
    items.insert_one(doc! {"_id": 3}).await.unwrap();
    assert_eq!(env.counted(OUTSIDE, &[]), 2.0);
    assert_eq!(log.lines("without the transaction's session").len(), 1, "{}", log.text());
    runner.wait_idle().await;
}

#[tokio::test]
async fn nested_same_key_fails_with_deadlock() {
    let env = Environment::start().await;
    for depth in [1, 2] {
        let inner = async || {
            let work = async |_tx: txnscope::Transaction| Ok::<_, Abort>(());
            if depth == 1 {
                return env.runner.serialize_on("R-1").named("inner").run(work).await.unwrap_err();
            }
            let middle = env.runner.serialize_on("R-2").named("middle").run(async |_tx| {
                let inner = env.runner.serialize_on("R-1").named("inner").run(work).await;
                Ok::<_, Abort>(inner.unwrap_err())
            });
            middle.await.unwrap().value
        };
        let outer =
            env.runner.serialize_on("R-1").named("outer").run(async |_tx| Ok::<_, Abort>(inner().await));
        let failed =
            timeout(wait::LIMIT, outer).await.expect("the nested transaction deadlocks").unwrap().value;
        let TransactionError::Failed(failure) = &failed else { panic!("{failed:?}") };
        assert_eq!((failure.reason(), failure.attempts()), (Reason::DEADLOCK, 0));
        let Cause::Deadlock(deadlock) = failure.cause() else { panic!("{failure:?}") };
        assert_eq!((deadlock.key(), deadlock.holder()), ("\"R-1\"", "outer"));
        let words = failure.to_string();
        assert!(words.contains("\"R-1\"") && words.contains("\"outer\""), "{words}");
    }
    // Afterwards the key is free.
    let work = async |_tx: txnscope::Transaction| Ok::<_, Abort>(());
    timeout(wait::LIMIT, env.runner.serialize_on("R-1").run(work)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_keys_in_opposite_order_fail_with_deadlock() {
    let env = Environment::start().await;
    let barrier = std::sync::Arc::new(Barrier::new(2));
    let mut tasks = tokio::task::JoinSet::new();
    for (operation, first, second) in [("a then b", 1, 2), ("b then a", 2, 1)] {
        let (runner, barrier) = (env.runner.clone(), std::sync::Arc::clone(&barrier));
        tasks.spawn(async move {
            let outer = runner.serialize_on(first).named(operation).run(async |_tx| {
                barrier.wait().await;
                let work = async |_tx: txnscope::Transaction| Ok::<_, Abort>(());
                Ok::<_, Abort>(runner.serialize_on(second).named(operation).run(work).await)
            });
            (operation, outer.await.unwrap().value)
        });
    }
    let mut failed = Vec::new();
    while let Some(ended) = timeout(wait::LIMIT, tasks.join_next()).await.expect("the transactions deadlock")
    {
        if let (operation, Err(error)) = ended.unwrap() {
            failed.push((operation, error));
        }
    }
    let [(operation, error)] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!(error.reason(), Reason::DEADLOCK);
    let other = if *operation == "a then b" { "b then a" } else { "a then b" };
    assert!(std::error::Error::source(error).unwrap().to_string().contains(other), "{error:?}");
}

/// Waiting for a transaction that waits for no other is not a deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn nested_other_key_waits_for_permit() {
    let env = Environment::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for outer in 0..8 {
        let runner = env.runner.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                let work = async |_tx: txnscope::Transaction| {
                    tokio::task::yield_now().await;
                    Ok::<_, Abort>(())
                };
                let outer = runner.serialize_on(outer % 3).named(OPERATION).run(async |_tx| {
                    Ok::<_, Abort>(
                        runner.serialize_on("inner").serialize_on("most").named(OPERATION).run(work).await,
                    )
                });
                outer.await.unwrap().value.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(env.counted("mongodb_client_transactions_queued", &[]), 0.0);
}

/// The nested transaction would retry for the whole limit; the log names the cause.
#[tokio::test]
async fn nested_conflicting_transaction_is_warned() {
    let env = Environment::start().await;
    env.items_of_others().insert_one(doc! {"_id": 1, "n": 0}).await.unwrap();
    let items = env.items();
    let log = Log::here();
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
        let inner = env.runner.clone().max_attempts(3);
        let inner = inner.run_as(OPERATION, async |mut tx| {
            items.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        Ok::<_, Abort>(inner.await.unwrap_err().reason())
    });
    assert_eq!(committed.await.unwrap().value, Reason::WRITE_CONFLICT);
    assert_eq!(log.lines("inside the callback of another").len(), 1, "{}", log.text());
    env.reconciled().await;
}

#[tokio::test]
async fn extreme_durations_and_limits_are_accepted() {
    let env = Environment::start().await;
    let items = env.items();
    let work = async |mut tx: txnscope::Transaction| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    };
    for runner in [
        env.runner.clone().time_limit(Duration::MAX),
        env.runner.clone().time_limit(Duration::from_secs(u64::from(u32::MAX))),
        env.runner.clone().max_attempts(0),
        env.runner.clone().max_attempts(u32::MAX),
        env.runner.clone().max_queue(usize::MAX),
        env.runner.clone().max_queue(0),
    ] {
        runner.serialize_on(1).named(OPERATION).run(work).await.unwrap();
    }
    let forever = tokio::time::Instant::now() + Duration::from_secs(86_400 * 365 * 100);
    env.runner.transaction().named(OPERATION).deadline(forever).run(work).await.unwrap();
    let none = env.runner.clone().time_limit(Duration::ZERO).run_as(OPERATION, work).await.unwrap_err();
    assert_eq!(none.reason(), Reason::TIMEOUT);
    let past = env.runner.transaction().named(OPERATION).deadline(tokio::time::Instant::now());
    assert_eq!(past.run(work).await.unwrap_err().reason(), Reason::TIMEOUT);
    assert_eq!(env.reconciled().await.committed, 7);
    for silence in [Duration::ZERO, Duration::MAX] {
        let mut options = ClientOptions::parse(env.set.uri()).await.unwrap();
        let metrics = txnscope::Metrics::isolated().unwrap();
        TransactionListener::with_registry(metrics.registry()).abandon_after(silence).install(&mut options);
        let client = Client::with_options(options).unwrap();
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let others = client.database("shop").collection("items");
        others.insert_one(doc! {"silence": 1}).session(&mut session).await.unwrap();
        session.commit_transaction().await.unwrap();
        let scrape = Scrape::parse(&metrics.render()).unwrap();
        // Without a time, it counts as abandoned if the machine is busy for a tenth of a second.
        let ends: &[_] = if silence.is_zero() { &["committed", "abandoned"] } else { &["committed"] };
        let ended =
            ends.iter().map(|end| scrape.sum(&format!("mongodb_client_transactions_{end}_total"), &[]));
        assert_eq!(ended.sum::<f64>(), 1.0, "{silence:?}");
    }
}
