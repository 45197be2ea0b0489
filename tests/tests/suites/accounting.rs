//! Accounting: the counters of the callers, of the driver and of the server match exactly.

#![allow(clippy::cast_precision_loss, reason = "counts, far below 2^53")]

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use mongodb::error::RETRYABLE_WRITE_ERROR;
use mongodb::{Client, Collection};
use testkit::{ReplicaSet, Scrape, wait};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use txnscope::{Abort, Metrics, Reason, TransactionError, TransactionRunner};

use crate::common::{ServerCounters, server_counters};

const JOBS: usize = 500;
const TASKS: usize = 32;
const NO: Reason = Reason::declare("no");
const KINDS: [Kind; 6] =
    [Kind::Contended, Kind::Read, Kind::Empty, Kind::Duplicate, Kind::Rejected, Kind::RetryableWrite];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Three documents for thirty-two tasks.
    Contended,
    Read,
    Empty,
    Duplicate,
    Rejected,
    /// Not a transaction, although the server keeps the operation in the same table.
    RetryableWrite,
}

struct Work {
    runner: TransactionRunner,
    items: Collection<Document>,
}

impl Work {
    /// Whether the transaction committed.
    async fn job(&self, kind: Kind, number: usize) -> bool {
        let items = &self.items;
        let hot = i32::try_from(number % 3).unwrap();
        let transaction = self.runner.transaction().named(match kind {
            Kind::Contended => "contended",
            Kind::Read => "read",
            Kind::Empty => "empty",
            Kind::Duplicate => "duplicate",
            Kind::Rejected => "rejected",
            Kind::RetryableWrite => "none",
        });
        let done = match kind {
            Kind::Contended => {
                transaction
                    .run(async |mut tx| {
                        items.find_one(doc! {"_id": hot}).session(&mut tx).await?;
                        items.update_one(doc! {"_id": hot}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
                        items.insert_one(doc! {"job": hot}).session(&mut tx).await?;
                        Ok(())
                    })
                    .await
            }
            Kind::Read => {
                transaction
                    .run(async |mut tx| {
                        items.find_one(doc! {"_id": hot}).session(&mut tx).await?;
                        Ok(())
                    })
                    .await
            }
            Kind::Empty => transaction.run(async |_| Ok(())).await,
            Kind::Duplicate => {
                transaction
                    .run(async |mut tx| {
                        items.insert_one(doc! {"_id": 0}).session(&mut tx).await?;
                        Ok(())
                    })
                    .await
            }
            Kind::Rejected => {
                transaction
                    .run(async |mut tx| {
                        items.insert_one(doc! {"never": true}).session(&mut tx).await?;
                        Err(Abort::Application(NO))
                    })
                    .await
            }
            Kind::RetryableWrite => {
                // The driver sends it a second time, and no third: an election may outlast both.
                while let Err(error) = items.insert_one(doc! {"plain": true}).await {
                    assert!(error.contains_label(RETRYABLE_WRITE_ERROR), "{error:?}");
                }
                return false;
            }
        };
        match done {
            Ok(_) => kind != Kind::Empty,
            Err(TransactionError::Rejected { .. }) if kind == Kind::Rejected => false,
            Err(error) if kind == Kind::Duplicate && error.reason() == Reason::DUPLICATE_KEY => false,
            Err(error) => panic!("{kind:?}: {error:?}"),
        }
    }
}

/// Runs all jobs, thirty-two at a time, and returns how many transactions the callers know to have committed.
async fn jobs(work: &Arc<Work>, disturb: impl Future<Output = ()>) -> f64 {
    let (tasks, mut running) = (Arc::new(Semaphore::new(TASKS)), JoinSet::new());
    for number in 0..JOBS {
        let (work, tasks) = (Arc::clone(work), Arc::clone(&tasks));
        running.spawn(async move {
            let _one = tasks.acquire_owned().await.unwrap();
            work.job(KINDS[number % KINDS.len()], number).await
        });
    }
    let all = async {
        let mut committed = 0.0;
        while let Some(job) = running.join_next().await {
            committed += f64::from(u8::from(job.unwrap()));
        }
        committed
    };
    tokio::join!(all, disturb).0
}

struct Driver {
    started: f64,
    committed: f64,
    aborted: f64,
    unknown: f64,
    open: f64,
    refused: f64,
    lost: f64,
    fenced: f64,
}

fn driver(metrics: &Metrics) -> Driver {
    let scrape = Scrape::parse(&metrics.render()).unwrap();
    let sum = |metric: &str, labels: &[(&str, &str)]| scrape.sum(metric, labels);
    let all = |what: &str| sum(&format!("mongodb_client_transactions_{what}"), &[]);
    let not_started = |cause| sum("mongodb_client_transactions_not_started_total", &[("cause", cause)]);
    Driver {
        started: all("started_total"),
        committed: all("committed_total"),
        aborted: all("aborted_total"),
        unknown: all("unknown_total"),
        open: all("open"),
        refused: not_started("refused") + not_started("not_sent"),
        lost: not_started("lost"),
        fenced: sum("mongodb_client_transaction_cleanups_total", &[("result", "fenced")]),
    }
}

async fn work(set: &ReplicaSet) -> (Arc<Work>, Metrics) {
    let client: Client = set.client_named("jobs").await.unwrap();
    let items = client.database("shop").collection("items");
    items.insert_many((0..3).map(|id| doc! {"_id": id, "n": 0})).await.unwrap();
    let metrics = Metrics::isolated().unwrap();
    let runner = TransactionRunner::with_registry(&client, metrics.registry());
    (Arc::new(Work { runner, items }), metrics)
}

/// What the server has counted since then, once no transaction is open.
async fn since(set: &ReplicaSet, work: &Work, before: &ServerCounters) -> [f64; 3] {
    work.runner.wait_idle().await;
    wait::until("nothing to be open on the server", async || {
        let now = server_counters(set).await;
        anyhow::ensure!(now.open == 0, "{} open", now.open);
        let count = |now: i64, before: i64| (now - before) as f64;
        Ok([
            count(now.started, before.started),
            count(now.committed, before.committed),
            count(now.aborted, before.aborted),
        ])
    })
    .await
    .unwrap()
}

async fn mixed_jobs(members: u8) {
    let set = ReplicaSet::start(members).await.unwrap();
    let (work, metrics) = work(&set).await;
    let before = server_counters(&set).await;
    let committed = jobs(&work, async {}).await;
    let server = since(&set, &work, &before).await;
    let driver = driver(&metrics);
    let counters = metrics.render();
    assert_eq!([driver.started, driver.committed, driver.aborted], server, "{counters}");
    assert_eq!(
        [driver.unknown, driver.open, driver.refused, driver.lost, driver.fenced],
        [0.0; 5],
        "{counters}"
    );
    assert_eq!(driver.committed, committed, "commits that the callers know\n{counters}");
    // The jobs end in every possible way, so no comparison is of zero with zero.
    assert!(driver.committed > 100.0 && driver.aborted > 150.0, "{counters}");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_member_driver_and_server_counters_match() {
    mixed_jobs(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_driver_and_server_counters_match() {
    mixed_jobs(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn election_driver_and_server_counters_match() {
    let set = ReplicaSet::start(3).await.unwrap();
    let (work, metrics) = work(&set).await;
    let before = server_counters(&set).await;
    let election = async {
        wait::until("the jobs to be under way", async || {
            let committed = driver(&metrics).committed;
            anyhow::ensure!(committed > 20.0, "{committed} committed");
            Ok(())
        })
        .await
        .unwrap();
        set.step_up_another().await.unwrap();
    };
    let committed = jobs(&work, election).await;
    let server = since(&set, &work, &before).await;
    let driver = driver(&metrics);
    let counters = format!("{server:?}\n{}", metrics.render());
    assert_eq!(driver.started, driver.committed + driver.aborted + driver.unknown, "{counters}");
    // First statements that were refused never started a transaction, which the library counts. If a connection was
    // lost, or a member stepped down, this cannot be determined.
    let begun = driver.started - driver.refused + driver.fenced;
    assert!((begun - driver.lost..=begun).contains(&server[0]), "{counters}");
    assert_eq!(committed, driver.committed, "commits that the callers know\n{counters}");
    // The data is the reference: each commit of a contended job has inserted one document.
    let scrape = Scrape::parse(&metrics.render()).unwrap();
    let contended = scrape.sum("mongodb_client_transactions_committed_total", &[("operation", "contended")]);
    let written = work.items.count_documents(doc! {"job": {"$exists": true}}).await.unwrap();
    assert_eq!(written as f64, contended, "{counters}");
    // The old primary may have counted a commit that was rolled back. The new one reported to the client that there
    // is no such transaction.
    let rolled_back =
        scrape.sum("mongodb_client_transactions_aborted_total", &[("reason", "no_such_transaction")]);
    let most = driver.committed + driver.unknown + rolled_back;
    assert!((driver.committed..=most).contains(&server[1]), "{counters}");
}
