//! Work that gives up a statement by itself: whether the server has answered decides, not who has stopped waiting.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::{FailPoint, ProxyMode, wait};
use tokio::time::timeout;
use txnscope::transaction::Cause;
use txnscope::{Abort, Reason, Transaction, TransactionError};

use crate::cancellation::under_way;
use crate::stage::{NO, OPERATION, Stage};

/// How long the work waits for a statement that takes much longer.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the work does after it has given up its first statement.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    SaysNo,
    SaysDone,
    AnotherDriverError,
    AbortsByItself,
    Panics,
    /// As an adapter does that asks for the session only once.
    AnotherStatement,
}

async fn give_up_the_first(stage: &Stage, tx: &mut Transaction, then: Then) -> Result<(), Abort<Reason>> {
    let items = stage.items();
    let insert = items.insert_one(doc! {"_id": 1}).session(&mut *tx);
    assert!(timeout(PATIENCE, insert.into_future()).await.is_err(), "it was answered");
    match then {
        Then::SaysNo => Err(NO.into()),
        Then::SaysDone => Ok(()),
        Then::AnotherDriverError => {
            // Outside of the transaction, and refused by the driver.
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
async fn a_first_statement_that_the_work_gives_up_leaves_no_transaction_open() {
    let (stage, proxy) = Stage::behind_a_proxy().await;
    stage.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
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
            let run = stage.runner.run_as(OPERATION, async |mut tx| {
                let result = give_up_the_first(&stage, &mut tx, then).await;
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
            stage.reconciled().await;
            fenced += 1.0;
            assert_eq!(stage.cleaned("fenced"), fenced, "{then:?} {flow:?}");
            assert_eq!(stage.unbegun("lost"), fenced, "{then:?} {flow:?}");
            stage.nothing_is_locked().await;
            assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
        }
    }
}

/// The fault as it was seen: the statement waits in the server, and another writer of that document waits for it.
#[tokio::test]
async fn another_writer_does_not_wait_for_a_first_statement_that_was_given_up() {
    let stage = Stage::set().await;
    stage.items_of_others().insert_one(doc! {"_id": 1, "n": 0}).await.unwrap();
    let items = stage.items();
    let blocks = doc! {"failCommands": ["update"], "blockConnection": true, "blockTimeMS": 300};
    stage.fail_times(1, blocks).await;
    let rejected = stage.runner.run_as(OPERATION, async |mut tx| {
        let update = items.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut tx);
        timeout(PATIENCE, update.into_future()).await.map_err(|_| NO)??;
        Ok::<_, Abort<Reason>>(())
    });
    assert_eq!(rejected.await.unwrap_err().reason(), NO);
    stage.nothing_is_locked().await;
    stage.reconciled().await;
    assert_eq!((stage.cleaned("fenced"), stage.aborted_for("no")), (1.0, 1.0));
    let item = stage.items_of_others().find_one(doc! {"_id": 1}).await.unwrap().unwrap();
    assert_eq!(item.get_i32("n").unwrap(), 0);
}

/// The answer to a later statement is none to the first: that one waits in the server, and begins when nobody expects it.
#[tokio::test]
async fn a_first_statement_that_is_given_up_before_another_is_refused_leaves_no_transaction_open() {
    let stage = Stage::set().await;
    let (items, db) = (stage.items(), stage.client.database("shop"));
    for case in ["returned", "says no", "says done"] {
        let blocks = doc! {"failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 300};
        stage.fail_times(1, blocks).await;
        let runner = stage.runner.clone().max_attempts(1);
        let failed = runner.run_as(OPERATION, async |mut tx| {
            let insert = items.insert_one(doc! {"case": case}).session(&mut tx);
            assert!(timeout(PATIENCE, insert.into_future()).await.is_err());
            let refused = db.run_command(doc! {"noSuchCommand": 1}).session(&mut tx).await;
            match case {
                "returned" => refused.map(drop).map_err(Abort::<Reason>::from),
                "says no" => Err(NO.into()),
                _ => Ok(()),
            }
        });
        failed.await.unwrap_err();
        stage.runner.wait_idle().await;
        under_way(&stage, "insert", 0).await;
        assert_eq!(stage.server().await.open, 0, "{case}");
        stage.reconciled().await;
        assert_eq!(stage.unbegun("refused"), 0.0, "{case}");
    }
    assert_eq!((stage.cleaned("fenced"), stage.unbegun("lost")), (3.0, 3.0));
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn a_later_statement_that_the_work_gives_up_leaves_no_transaction_open() {
    let (stage, proxy) = Stage::behind_a_proxy().await;
    for no in [false, true] {
        let items = stage.items();
        let ended = stage.runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {"_id": i32::from(no)}).session(&mut tx).await?;
            proxy.set(ProxyMode::HoldReplies);
            let second = items.insert_one(doc! {"_id": 2 + i32::from(no)}).session(&mut tx);
            let late = timeout(PATIENCE, second.into_future()).await;
            proxy.set(ProxyMode::Forward);
            assert!(late.is_err());
            if no { Err(NO.into()) } else { Ok::<_, Abort<Reason>>(()) }
        });
        assert_eq!(ended.await.is_err(), no);
        stage.reconciled().await;
        stage.nothing_is_locked().await;
    }
    // What was committed is there; of the statement that was given up, nobody has said anything.
    let ids = stage.items_of_others().distinct("_id", doc! {"_id": {"$in": [0, 1, 3]}}).await.unwrap();
    assert_eq!(ids, [mongodb::bson::Bson::Int32(0)]);
}

/// While nobody can be reached, nothing is sent: there is nothing to clean up, and nothing is tried.
#[tokio::test]
async fn what_was_never_sent_is_not_cleaned_up() {
    let stage = Stage::set().await;
    stage.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
    stage.set.members()[0].pause().unwrap();
    let items = stage.items();
    let rejected = stage.runner.run_as(OPERATION, async |mut tx| {
        let _ = tx.session().id();
        let _ = items.update_one(doc! {}, doc! {"no operator": 1}).session(&mut tx).await;
        Err::<(), Abort<Reason>>(NO.into())
    });
    assert_eq!(rejected.await.unwrap_err().reason(), NO);
    assert_eq!(stage.runner.pending_cleanups(), 0, "something is being cleaned up");
    stage.set.members()[0].resume().unwrap();
    stage.reconciled().await;
    assert_eq!((stage.unbegun("not_sent"), stage.unbegun("lost"), stage.cleaned("fenced")), (1.0, 0.0, 0.0));
}

/// The server hangs when the work says no.
#[tokio::test]
async fn a_rejection_does_not_wait_for_its_abort() {
    let stage = Stage::set().await;
    let (items, calls) = (stage.items(), AtomicU32::new(0));
    let failpoint: FailPoint = stage
        .fail(doc! {"failCommands": ["abortTransaction"], "blockConnection": true, "blockTimeMS": 600_000})
        .await;
    for _ in 0..2 {
        // The second one wants the key of the first, whose abort is under way.
        let rejected = stage.runner.serialize_on("key").named(OPERATION).run(async |mut tx| {
            let id = calls.fetch_add(1, Relaxed);
            items.insert_one(doc! {"_id": id}).session(&mut tx).await?;
            Err::<(), Abort<Reason>>(NO.into())
        });
        let rejected = timeout(wait::LIMIT, rejected).await.expect("it waits for its abort");
        assert_eq!(rejected.unwrap_err().reason(), NO);
    }
    assert_eq!(stage.driver(), [2.0, 0.0, 2.0, 0.0, 0.0]);
    wait::until("the aborts to be under way", async || {
        let fired = stage.runner.pending_cleanups();
        ensure!(fired == 2, "{fired}");
        Ok(())
    })
    .await
    .unwrap();
    // An abort of which nothing is heard is followed by a kill.
    wait::until("both to be ended on the server", async || {
        let killed = stage.cleaned("aborted");
        ensure!(killed == 2.0, "{killed}");
        Ok(())
    })
    .await
    .unwrap();
    stage.nothing_is_open().await;
    drop(failpoint);
}

/// Work that commits by itself and then fails has changed something, and is not told that it has not.
#[tokio::test]
async fn work_that_has_committed_by_itself_and_then_says_no_is_unknown() {
    let stage = Stage::set().await;
    let items = stage.items();
    for no in [false, true] {
        let unknown = stage.runner.run_as(OPERATION, async |mut tx| {
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
    stage.reconciled().await;
    assert_eq!(stage.driver(), [2.0, 0.0, 0.0, 2.0, 0.0]);
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 2);
}
