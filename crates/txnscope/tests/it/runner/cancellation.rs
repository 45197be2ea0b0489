//! Cancellation: no transaction outlives its request, at any await point.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt;
use mongodb::bson::doc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::{ProxyMode, wait};
use txnscope::{Abort, Transaction};

use crate::env::{Environment, OPERATION};

/// Three statements.
async fn callback(env: &Environment, tx: &mut Transaction) -> Result<(), Abort> {
    let items = env.items();
    items.insert_one(doc! {}).session(&mut *tx).await?;
    items.update_one(doc! {"_id": "a"}, doc! {"$inc": {"n": 1}}).session(&mut *tx).await?;
    items.delete_one(doc! {"_id": "b"}).session(&mut *tx).await?;
    Ok(())
}

/// Waits until the server runs this many of that command.
pub(crate) async fn wait_until_in_progress(env: &Environment, command: &str, count: usize) {
    wait::until(command, async || {
        let pipeline = vec![
            doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
            doc! {"$match": {"appName": "runner", "active": true, format!("command.{command}"): {"$exists": true}}},
        ];
        let command = doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}};
        let reply = env.admin.database("admin").run_command(command).await?;
        let found = reply.get_document("cursor")?.get_array("firstBatch")?.len();
        ensure!(found == count, "{found}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Drops a future as soon as the server runs that command for it. After a time limit, it might not have been sent yet.
pub(crate) async fn drop_in_progress<F>(env: &Environment, command: &str, future: F)
where
    F: IntoFuture<Output: Debug>,
{
    tokio::select! {
        ended = future.into_future() => panic!("{ended:?}"),
        () = wait_until_in_progress(env, command, 1) => {}
    }
}

#[tokio::test]
async fn drop_in_any_statement_ends_and_counts_once() {
    let env = Environment::start().await;
    for (times, command) in [(1.0, "insert"), (2.0, "update"), (3.0, "delete")] {
        let failpoint =
            env.fail(doc! {"failCommands": [command], "blockConnection": true, "blockTimeMS": 1_000}).await;
        let run = env.runner.run_as(OPERATION, async |mut tx| callback(&env, &mut tx).await);
        drop_in_progress(&env, command, run).await;
        failpoint.off().await.unwrap();
        env.reconciled().await;
        assert_eq!(env.driver(), [times, 0.0, times, 0.0, 0.0]);
        assert_eq!(env.aborted_for("cancelled"), times);
    }
    // Only after a first statement it is unknown whether a transaction is open.
    assert_eq!((env.cleanups("fenced"), env.cleanups("aborted")), (1.0, 2.0));
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn drop_between_statements_ends_transaction() {
    let env = Environment::start().await;
    let (items, (began, begun)) = (env.items(), tokio::sync::oneshot::channel());
    let began = std::cell::Cell::new(Some(began));
    let run = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        began.take().unwrap().send(()).unwrap();
        std::future::pending().await
    });
    tokio::select! {
        ended = run => { let _: txnscope::Committed<()> = ended.unwrap_or_else(|e: txnscope::TransactionError| panic!("{e:?}")); }
        begun = begun => begun.unwrap(),
    }
    let server = env.reconciled().await;
    assert_eq!((server.started, server.aborted), (1, 1));
    assert_eq!(env.cleanups("aborted"), 1.0);
}

#[tokio::test]
async fn drop_after_commit_was_sent_does_not_abort() {
    let env = Environment::start().await;
    let failpoint = env
        .fail(doc! {"failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 1_000})
        .await;
    let run = env.runner.run_as(OPERATION, async |mut tx| callback(&env, &mut tx).await);
    drop_in_progress(&env, "commitTransaction", run).await;
    failpoint.off().await.unwrap();
    let server = env.reconciled().await;
    assert_eq!((server.started, server.committed), (1, 1));
    assert_eq!(env.driver(), [1.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(env.cleanups("committed"), 1.0);
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn lost_first_reply_leaves_nothing_open() {
    let (env, proxy) = Environment::behind_a_proxy().await;
    // Establish the connections, so that the statement is the next data through the proxy.
    env.client.database("admin").run_command(doc! {"ping": 1}).await.unwrap();
    for flow in [ProxyMode::HoldReplies, ProxyMode::HoldAll] {
        let items = env.items();
        let run = env.runner.run_as(OPERATION, async |mut tx| {
            proxy.set(flow);
            items.insert_one(doc! {}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        // The server has executed the statement, or the network holds it: no reply arrives either way.
        let seen = async {
            if flow == ProxyMode::HoldReplies {
                wait::until("the transaction to be open", async || {
                    let status = env.admin.database("admin").run_command(doc! {"serverStatus": 1}).await?;
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
        env.reconciled().await;
    }
    assert_eq!(env.aborted_for("cancelled"), 2.0);
    assert_eq!(env.cleanups("fenced"), 2.0, "{}", env.metrics.render());
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn network_partition_leaves_nothing_open() {
    let (env, proxy) = Environment::behind_a_proxy().await;
    let items = env.items();
    let calls = std::cell::Cell::new(0);
    let committed = env
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
    let server = env.reconciled().await;
    assert_eq!(server.committed, 1);
    assert!(env.aborted_for("network") >= 1.0, "{}", env.metrics.render());
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 2);
}

async fn storm(env: &Environment, cancellations: usize, seed: u64) {
    const AT_ONCE: usize = 50;
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..cancellations / AT_ONCE {
        // The duration of one run on this machine bounds the random drop times.
        let begin = tokio::time::Instant::now();
        let whole =
            (0..AT_ONCE).map(|_| env.runner.run_as(OPERATION, async |mut tx| callback(env, &mut tx).await));
        for ended in futures_util::future::join_all(whole).await {
            ended.unwrap();
        }
        let length = u64::try_from(begin.elapsed().as_micros()).unwrap();
        let mut requests = Vec::new();
        for _ in 0..AT_ONCE {
            // The random drop time is the subject of this test, not a wait for a condition.
            let moment = Duration::from_micros(rng.random_range(0..length));
            let run = env.runner.run_as(OPERATION, async |mut tx| callback(env, &mut tx).await);
            requests.push(tokio::time::timeout(moment, run));
        }
        for ended in futures_util::future::join_all(requests).await.into_iter().flatten() {
            ended.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_random_drops_leave_nothing_open() {
    let env = Environment::start().await;
    env.items_of_others().insert_one(doc! {"_id": "c"}).await.unwrap();
    storm(&env, 1_000, 1).await;
    let server = env.reconciled().await;
    assert!(
        env.aborted_for("cancelled") > 0.0,
        "no request was dropped in its transaction\n{}",
        env.metrics.render()
    );
    env.assert_nothing_is_locked().await;
    let written = env.items_of_others().count_documents(doc! {"_id": {"$ne": "c"}}).await.unwrap();
    assert_eq!(i64::try_from(written).unwrap(), server.committed, "one document for each commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_drops_on_stalling_network_leave_nothing_open() {
    let (env, proxy) = Environment::behind_a_proxy().await;
    let stall = async {
        let mut rng = StdRng::seed_from_u64(3);
        for flow in [ProxyMode::HoldReplies, ProxyMode::Forward, ProxyMode::HoldAll, ProxyMode::Forward]
            .into_iter()
            .cycle()
        {
            proxy.set(flow);
            tokio::time::sleep(Duration::from_millis(rng.random_range(1..30))).await;
        }
    };
    tokio::select! {
        () = storm(&env, 300, 2) => {}
        () = stall => {}
    }
    proxy.set(ProxyMode::Forward);
    env.reconciled().await;
    env.assert_nothing_is_locked().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_panics_leave_nothing_open() {
    let env = Environment::start().await;
    let mut rng = StdRng::seed_from_u64(5);
    let mut panicked = 0;
    for _ in 0..100 {
        let after = rng.random_range(0..3);
        let items = env.items();
        let run = env.runner.run_as(OPERATION, async |mut tx| {
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
    env.reconciled().await;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let begun = panicked as f64;
    assert_eq!(env.aborted_for("panic"), begun, "{}", env.metrics.render());
    env.assert_nothing_is_locked().await;
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn runtime_shutdown_keeps_counters_balanced() {
    let env = Environment::start().await;
    let (runner, items) = (env.runner.clone(), env.items());
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
        let [started, committed, aborted, unknown, open] = env.driver();
        ensure!(
            [started, committed, aborted, unknown, open] == [1.0, 0.0, 1.0, 0.0, 0.0],
            "{}",
            env.metrics.render()
        );
        Ok(())
    })
    .await
    .unwrap();
    assert!(env.metrics.registry().open_transactions().is_empty());
}
