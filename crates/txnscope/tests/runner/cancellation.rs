//! No transaction outlives its request, whatever await it is dropped at.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt;
use mongodb::bson::doc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::{ProxyMode, wait};
use txnscope::{Abort, Transaction};

use crate::stage::{OPERATION, Stage};

/// Three statements.
async fn work(stage: &Stage, tx: &mut Transaction) -> Result<(), Abort> {
    let items = stage.items();
    items.insert_one(doc! {}).session(&mut *tx).await?;
    items.update_one(doc! {"_id": "a"}, doc! {"$inc": {"n": 1}}).session(&mut *tx).await?;
    items.delete_one(doc! {"_id": "b"}).session(&mut *tx).await?;
    Ok(())
}

/// Waits until the server has so many of that command under way.
pub(crate) async fn under_way(stage: &Stage, command: &str, count: usize) {
    wait::until(command, async || {
        let pipeline = vec![
            doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
            doc! {"$match": {"appName": "runner", "active": true, format!("command.{command}"): {"$exists": true}}},
        ];
        let command = doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}};
        let reply = stage.admin.database("admin").run_command(command).await?;
        let found = reply.get_document("cursor")?.get_array("firstBatch")?.len();
        ensure!(found == count, "{found}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn dropped_in_any_statement_it_is_ended_and_counted_once() {
    let stage = Stage::set().await;
    for (times, command) in [(1.0, "insert"), (2.0, "update"), (3.0, "delete")] {
        let failpoint =
            stage.fail(doc! {"failCommands": [command], "blockConnection": true, "blockTimeMS": 1_000}).await;
        tokio::select! {
            ended = stage.runner.run_as(OPERATION, async |mut tx| work(&stage, &mut tx).await) => panic!("{ended:?}"),
            () = under_way(&stage, command, 1) => {}
        }
        failpoint.off().await.unwrap();
        stage.reconciled().await;
        assert_eq!(stage.driver(), [times, 0.0, times, 0.0, 0.0]);
        assert_eq!(stage.aborted_for("cancelled"), times);
    }
    // Only of a first statement is it not known whether a transaction is open.
    assert_eq!((stage.cleaned("fenced"), stage.cleaned("aborted")), (1.0, 2.0));
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn dropped_between_two_statements_it_is_ended() {
    let stage = Stage::set().await;
    let (items, (began, begun)) = (stage.items(), tokio::sync::oneshot::channel());
    let began = std::cell::Cell::new(Some(began));
    let run = stage.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        began.take().unwrap().send(()).unwrap();
        std::future::pending().await
    });
    tokio::select! {
        ended = run => { let _: txnscope::Committed<()> = ended.unwrap_or_else(|e: txnscope::TransactionError| panic!("{e:?}")); }
        begun = begun => begun.unwrap(),
    }
    let server = stage.reconciled().await;
    assert_eq!((server.started, server.aborted), (1, 1));
    assert_eq!(stage.cleaned("aborted"), 1.0);
}

#[tokio::test]
async fn a_commit_that_was_sent_is_not_taken_back() {
    let stage = Stage::set().await;
    let failpoint = stage
        .fail(doc! {"failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 500})
        .await;
    tokio::select! {
        ended = stage.runner.run_as(OPERATION, async |mut tx| work(&stage, &mut tx).await) => panic!("{ended:?}"),
        () = under_way(&stage, "commitTransaction", 1) => {}
    }
    failpoint.off().await.unwrap();
    let server = stage.reconciled().await;
    assert_eq!((server.started, server.committed), (1, 1));
    assert_eq!(stage.driver(), [1.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(stage.cleaned("committed"), 1.0);
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn a_first_statement_whose_reply_is_lost_leaves_nothing_open() {
    let (stage, proxy) = Stage::behind_a_proxy().await;
    // Connections that are warm, so that the statement is the next thing that passes.
    stage.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
    for flow in [ProxyMode::HoldReplies, ProxyMode::HoldAll] {
        let items = stage.items();
        let run = stage.runner.run_as(OPERATION, async |mut tx| {
            proxy.set(flow);
            items.insert_one(doc! {}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        // The server has executed it, or the network holds it: either way nothing more comes back.
        let seen = async {
            if flow == ProxyMode::HoldReplies {
                wait::until("the transaction to be open", async || {
                    let status = stage.admin.database("admin").run_command(doc! {"serverStatus": 1}).await?;
                    let open = status.get_document("transactions")?.get_i64("currentOpen")?;
                    ensure!(open == 1, "{open}");
                    Ok(())
                })
                .await
                .unwrap();
            } else {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            ended = run => panic!("{ended:?}"),
            () = seen => {}
        }
        proxy.set(ProxyMode::Forward);
        stage.reconciled().await;
    }
    assert_eq!(stage.aborted_for("cancelled"), 2.0);
    assert_eq!(stage.cleaned("fenced"), 2.0, "{}", stage.metrics.render());
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn a_network_that_is_cut_leaves_nothing_open() {
    let (stage, proxy) = Stage::behind_a_proxy().await;
    let items = stage.items();
    let calls = std::cell::Cell::new(0);
    let committed = stage
        .runner
        .run_as(OPERATION, async |mut tx| {
            calls.set(calls.get() + 1);
            items.insert_one(doc! {}).session(&mut tx).await?;
            if calls.get() == 1 {
                proxy.cut();
            }
            items.insert_one(doc! {}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        })
        .await
        .unwrap();
    assert!(committed.attempts >= 2, "{committed:?}");
    let server = stage.reconciled().await;
    assert_eq!(server.committed, 1);
    assert!(stage.aborted_for("network") >= 1.0, "{}", stage.metrics.render());
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 2);
}

async fn storm(stage: &Stage, cancellations: usize, seed: u64) {
    const AT_ONCE: usize = 50;
    let mut dice = StdRng::seed_from_u64(seed);
    for _ in 0..cancellations / AT_ONCE {
        // How long it takes here and now says which moments are in its middle.
        let begin = tokio::time::Instant::now();
        let whole =
            (0..AT_ONCE).map(|_| stage.runner.run_as(OPERATION, async |mut tx| work(stage, &mut tx).await));
        for ended in futures_util::future::join_all(whole).await {
            ended.unwrap();
        }
        let length = u64::try_from(begin.elapsed().as_micros()).unwrap();
        let mut requests = Vec::new();
        for _ in 0..AT_ONCE {
            // The random moment is what is tested, not something that is waited for.
            let moment = Duration::from_micros(dice.random_range(0..length));
            let run = stage.runner.run_as(OPERATION, async |mut tx| work(stage, &mut tx).await);
            requests.push(tokio::time::timeout(moment, run));
        }
        for ended in futures_util::future::join_all(requests).await.into_iter().flatten() {
            ended.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_dropped_at_random_leave_nothing_behind() {
    let stage = Stage::set().await;
    stage.items_of_others().insert_one(doc! {"_id": "c"}).await.unwrap();
    storm(&stage, 1_000, 1).await;
    let server = stage.reconciled().await;
    assert!(
        stage.aborted_for("cancelled") > 0.0,
        "none was dropped in its middle\n{}",
        stage.metrics.render()
    );
    stage.nothing_is_locked().await;
    let written = stage.items_of_others().count_documents(doc! {"_id": {"$ne": "c"}}).await.unwrap();
    assert_eq!(i64::try_from(written).unwrap(), server.committed, "one document for each commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_on_a_stalling_network_leaves_nothing_behind() {
    let (stage, proxy) = Stage::behind_a_proxy().await;
    let stall = async {
        let mut dice = StdRng::seed_from_u64(3);
        for flow in [ProxyMode::HoldReplies, ProxyMode::Forward, ProxyMode::HoldAll, ProxyMode::Forward]
            .into_iter()
            .cycle()
        {
            proxy.set(flow);
            tokio::time::sleep(Duration::from_millis(dice.random_range(1..30))).await;
        }
    };
    tokio::select! {
        () = storm(&stage, 300, 2) => {}
        () = stall => {}
    }
    proxy.set(ProxyMode::Forward);
    stage.reconciled().await;
    stage.nothing_is_locked().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_panics_leave_nothing_behind() {
    let stage = Stage::set().await;
    let mut dice = StdRng::seed_from_u64(5);
    let mut panicked = 0;
    for _ in 0..100 {
        let after = dice.random_range(0..3);
        let items = stage.items();
        let run = stage.runner.run_as(OPERATION, async |mut tx| {
            for _ in 0..after {
                items.insert_one(doc! {}).session(&mut tx).await?;
            }
            panic!("as scripted");
            #[allow(unreachable_code, reason = "gives the work its type")]
            Ok::<(), Abort>(())
        });
        assert!(AssertUnwindSafe(run).catch_unwind().await.is_err());
        panicked += usize::from(after > 0);
    }
    stage.reconciled().await;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let begun = panicked as f64;
    assert_eq!(stage.aborted_for("panic"), begun, "{}", stage.metrics.render());
    stage.nothing_is_locked().await;
    assert_eq!(stage.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_the_books_balanced() {
    let stage = Stage::set().await;
    let (runner, items) = (stage.runner.clone(), stage.items());
    let (began, begun) = tokio::sync::oneshot::channel();
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    other.spawn(async move {
        let began = std::sync::Mutex::new(Some(began));
        let run = runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {}).session(&mut tx).await?;
            began.lock().unwrap().take().unwrap().send(()).unwrap();
            std::future::pending::<Result<(), Abort>>().await
        });
        drop(run.await);
    });
    begun.await.unwrap();
    other.shutdown_background();
    wait::until("the attempt to be counted", async || {
        let [started, committed, aborted, unknown, open] = stage.driver();
        ensure!(
            [started, committed, aborted, unknown, open] == [1.0, 0.0, 1.0, 0.0, 0.0],
            "{}",
            stage.metrics.render()
        );
        Ok(())
    })
    .await
    .unwrap();
    assert!(stage.metrics.registry().open_transactions().is_empty());
}
