//! Callbacks that abandon a statement: the server's reply decides, not who has stopped waiting.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::{FailPoint, ProxyMode, wait};
use tokio::time::timeout;
use txnscope::transaction::Cause;
use txnscope::{Abort, Reason, Transaction, TransactionError};

use super::cancellation::{drop_in_progress, wait_until_in_progress};
use crate::env::{Environment, NO, OPERATION};

/// The callback's timeout for a statement that takes much longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(100);

/// The callback's next step after it has abandoned its first statement.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    SaysNo,
    SaysDone,
    AnotherDriverError,
    AbortsByItself,
    Panics,
    /// Requests the session only once, as an adapter may do.
    AnotherStatement,
}

async fn give_up_the_first(env: &Environment, tx: &mut Transaction, then: Then) -> Result<(), Abort<Reason>> {
    let items = env.items();
    let insert = items.insert_one(doc! {"_id": 1}).session(&mut *tx);
    assert!(timeout(STATEMENT_TIMEOUT, insert.into_future()).await.is_err(), "the statement was answered");
    match then {
        Then::SaysNo => Err(NO.into()),
        Then::SaysDone => Ok(()),
        Then::AnotherDriverError => {
            // Outside of the transaction, and rejected by the driver.
            items.update_one(doc! {}, doc! {"no operator": 1}).await?;
            Ok(())
        }
        Then::AbortsByItself => {
            tx.session().abort_transaction().await?;
            Ok(())
        }
        Then::Panics => panic!("as scripted"),
        Then::AnotherStatement => {
            let _ = items.update_one(doc! {}, doc! {"no operator": 1}).session(&mut *tx).await;
            Err(NO.into())
        }
    }
}

#[tokio::test]
async fn abandoned_first_statement_leaves_nothing_open() {
    let (env, proxy) = Environment::behind_a_proxy().await;
    env.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
    let mut fenced = 0.0;
    for then in [
        Then::SaysNo,
        Then::SaysDone,
        Then::AnotherDriverError,
        Then::AbortsByItself,
        Then::Panics,
        Then::AnotherStatement,
    ] {
        for flow in [ProxyMode::HoldReplies, ProxyMode::HoldAll] {
            proxy.set(flow);
            let run = env.runner.run_as(OPERATION, async |mut tx| {
                let result = give_up_the_first(&env, &mut tx, then).await;
                proxy.set(ProxyMode::Forward);
                result
            });
            let ended = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(run)).await;
            proxy.set(ProxyMode::Forward);
            match (then, ended) {
                (
                    Then::SaysNo | Then::AnotherStatement,
                    Ok(Err(TransactionError::Rejected { reason: NO, .. })),
                )
                | (Then::Panics, Err(_)) => {}
                (Then::SaysDone | Then::AbortsByItself, Ok(Err(TransactionError::Failed(failure)))) => {
                    assert!(matches!(failure.cause(), Cause::Unanswered), "{failure:?}");
                    assert_eq!(failure.reason(), Reason::CANCELLED);
                }
                (Then::AnotherDriverError, Ok(Err(TransactionError::Failed(failure)))) => {
                    assert_eq!(failure.reason(), Reason::INVALID_REQUEST);
                }
                (then, ended) => panic!("{then:?}: {ended:?}"),
            }
            env.reconciled().await;
            fenced += 1.0;
            assert_eq!(env.cleanups("fenced"), fenced, "{then:?} {flow:?}");
            assert_eq!(env.not_started("lost"), fenced, "{then:?} {flow:?}");
            env.assert_nothing_is_locked().await;
            assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
        }
    }
}

/// Regression: the statement waits in the server, and another writer of the document waits for it.
#[tokio::test]
async fn abandoned_first_statement_does_not_block_writers() {
    let env = Environment::start().await;
    env.items_of_others().insert_one(doc! {"_id": 1, "n": 0}).await.unwrap();
    let items = env.items();
    let blocks = doc! {"failCommands": ["update"], "blockConnection": true, "blockTimeMS": 1_000};
    env.fail_times(1, blocks).await;
    let rejected = env.runner.run_as(OPERATION, async |mut tx| {
        let update = items.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut tx);
        drop_in_progress(&env, "update", update).await;
        Err::<(), Abort<Reason>>(NO.into())
    });
    assert_eq!(rejected.await.unwrap_err().reason(), NO);
    env.assert_nothing_is_locked().await;
    env.reconciled().await;
    assert_eq!((env.cleanups("fenced"), env.aborted_for("no")), (1.0, 1.0));
    let item = env.items_of_others().find_one(doc! {"_id": 1}).await.unwrap().unwrap();
    assert_eq!(item.get_i32("n").unwrap(), 0);
}

/// The reply to a later statement does not answer the first one, which waits in the server and starts the transaction
/// later.
#[tokio::test]
async fn abandoned_then_refused_statement_leaves_nothing_open() {
    let env = Environment::start().await;
    let (items, db) = (env.items(), env.client.database("shop"));
    for case in ["returned", "says no", "says done"] {
        let blocks = doc! {"failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 1_000};
        env.fail_times(1, blocks).await;
        let runner = env.runner.clone().max_attempts(1);
        let failed = runner.run_as(OPERATION, async |mut tx| {
            let insert = items.insert_one(doc! {"case": case}).session(&mut tx);
            drop_in_progress(&env, "insert", insert).await;
            let refused = db.run_command(doc! {"noSuchCommand": 1}).session(&mut tx).await;
            match case {
                "returned" => refused.map(drop).map_err(Abort::<Reason>::from),
                "says no" => Err(NO.into()),
                _ => Ok(()),
            }
        });
        failed.await.unwrap_err();
        env.runner.wait_idle().await;
        wait_until_in_progress(&env, "insert", 0).await;
        assert_eq!(env.server().await.open, 0, "{case}");
        env.reconciled().await;
        assert_eq!(env.not_started("refused"), 0.0, "{case}");
    }
    assert_eq!((env.cleanups("fenced"), env.not_started("lost")), (3.0, 3.0));
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn abandoned_later_statement_leaves_nothing_open() {
    let (env, proxy) = Environment::behind_a_proxy().await;
    for no in [false, true] {
        let items = env.items();
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {"_id": i32::from(no)}).session(&mut tx).await?;
            proxy.set(ProxyMode::HoldReplies);
            let second = items.insert_one(doc! {"_id": 2 + i32::from(no)}).session(&mut tx);
            let late = timeout(STATEMENT_TIMEOUT, second.into_future()).await;
            proxy.set(ProxyMode::Forward);
            assert!(late.is_err());
            if no { Err(NO.into()) } else { Ok::<_, Abort<Reason>>(()) }
        });
        assert_eq!(ended.await.is_err(), no);
        env.reconciled().await;
        env.assert_nothing_is_locked().await;
    }
    // The committed write is there; the abandoned statement may or may not have been applied.
    let ids = env.items_of_others().distinct("_id", doc! {"_id": {"$in": [0, 1, 3]}}).await.unwrap();
    assert_eq!(ids, [mongodb::bson::Bson::Int32(0)]);
}

/// Without a reachable server nothing is sent, and no cleanup is needed.
#[tokio::test]
async fn unsent_statement_needs_no_cleanup() {
    let env = Environment::start().await;
    env.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
    env.set.members()[0].pause().unwrap();
    let items = env.items();
    let rejected = env.runner.run_as(OPERATION, async |mut tx| {
        let _ = tx.session().id();
        let _ = items.update_one(doc! {}, doc! {"no operator": 1}).session(&mut tx).await;
        Err::<(), Abort<Reason>>(NO.into())
    });
    assert_eq!(rejected.await.unwrap_err().reason(), NO);
    assert_eq!(env.runner.pending_cleanups(), 0, "a cleanup is pending");
    env.set.members()[0].resume().unwrap();
    env.reconciled().await;
    assert_eq!(
        (env.not_started("not_sent"), env.not_started("lost"), env.cleanups("fenced")),
        (1.0, 0.0, 0.0)
    );
}

/// The server hangs when the callback rejects.
#[tokio::test]
async fn rejection_does_not_wait_for_abort() {
    let env = Environment::start().await;
    let (items, calls) = (env.items(), AtomicU32::new(0));
    let failpoint: FailPoint = env
        .fail(doc! {"failCommands": ["abortTransaction"], "blockConnection": true, "blockTimeMS": 600_000})
        .await;
    for _ in 0..2 {
        // The second transaction needs the key of the first one, whose abort is in flight.
        let rejected = env.runner.serialize_on("key").named(OPERATION).run(async |mut tx| {
            let id = calls.fetch_add(1, Relaxed);
            items.insert_one(doc! {"_id": id}).session(&mut tx).await?;
            Err::<(), Abort<Reason>>(NO.into())
        });
        let rejected = timeout(wait::LIMIT, rejected).await.expect("it waits for its abort");
        assert_eq!(rejected.unwrap_err().reason(), NO);
    }
    assert_eq!(env.driver(), [2.0, 0.0, 2.0, 0.0, 0.0]);
    wait::until("the aborts to be under way", async || {
        let fired = env.runner.pending_cleanups();
        ensure!(fired == 2, "{fired}");
        Ok(())
    })
    .await
    .unwrap();
    // An abort without a reply is followed by a kill.
    wait::until("both to be ended on the server", async || {
        let killed = env.cleanups("aborted");
        ensure!(killed == 2.0, "{killed}");
        Ok(())
    })
    .await
    .unwrap();
    env.wait_until_nothing_is_open().await;
    drop(failpoint);
}

/// A callback that commits itself and then fails has changed the data, and must not return `Failed`.
#[tokio::test]
async fn callback_that_commits_then_rejects_is_unknown() {
    let env = Environment::start().await;
    let items = env.items();
    for no in [false, true] {
        let unknown = env.runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {"_id": i32::from(no)}).session(&mut tx).await?;
            tx.session().commit_transaction().await?;
            if no {
                return Err::<(), Abort<Reason>>(NO.into());
            }
            items.update_one(doc! {}, doc! {"no operator": 1}).await?;
            Ok(())
        });
        let unknown = unknown.await.unwrap_err();
        assert!(matches!(unknown, TransactionError::CommitUnknown(_)), "{unknown:?}");
    }
    env.reconciled().await;
    assert_eq!(env.driver(), [2.0, 0.0, 0.0, 2.0, 0.0]);
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 2);
}
