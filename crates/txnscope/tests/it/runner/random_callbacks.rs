//! Random callbacks under random faults: no transaction stays open, the counters match within their bounds, and every
//! reported commit was applied.
//!
//! A hundred callbacks in every run. The long form, and repeating one callback:
//!
//! ```console
//! $ TXNSCOPE_RANDOM_CALLBACKS=10000 TXNSCOPE_SEED=1 cargo test -p txnscope --all-features --test it random_callbacks -- --nocapture
//! ```

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use testkit::{Proxy, ProxyMode};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use txnscope::transaction::find_driver_error;
use txnscope::{
    Abort, ApplicationError, Committed, Reason, Transaction, TransactionError, TransactionRunner,
};

use crate::env::{Environment, NO, OPERATION};

const AT_ONCE: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Statement {
    Insert,
    UpdateHot,
    Find,
    FindMisfit,
    Duplicate,
    RefusedByTheDriver,
    UnknownCommand,
    NotInATransaction,
    OutOfACappedCollection,
    /// Outside of the transaction.
    Outside,
    /// A nested transaction.
    Nested,
    Pause,
}

const STATEMENTS: [Statement; 16] = [
    Statement::Insert,
    Statement::Insert,
    Statement::Insert,
    Statement::UpdateHot,
    Statement::UpdateHot,
    Statement::Find,
    Statement::Find,
    Statement::FindMisfit,
    Statement::Duplicate,
    Statement::RefusedByTheDriver,
    Statement::UnknownCommand,
    Statement::NotInATransaction,
    Statement::OutOfACappedCollection,
    Statement::Outside,
    Statement::Nested,
    Statement::Pause,
];

/// How the callback waits for a statement.
#[derive(Debug, Clone, Copy)]
enum Waits {
    ForIt,
    Timeout(Duration),
    Select(u32),
}

#[derive(Debug, Clone, Copy)]
enum OnError {
    Returns,
    Wraps,
    Swallows,
    SaysNo,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    No,
    Fault,
    Panics,
    Aborts,
    Never,
}

#[derive(Debug, Clone)]
struct Script {
    steps: Vec<(Statement, Waits, OnError)>,
    end: End,
    /// The time after which the caller drops the future.
    dropped: Option<Duration>,
    deadline: Option<Duration>,
    key: Option<u32>,
}

impl Script {
    fn draw(rng: &mut StdRng) -> Self {
        let steps = (0..rng.random_range(0..6)).map(|_| {
            let waits = match rng.random_range(0..10) {
                0..7 => Waits::ForIt,
                7..9 => Waits::Timeout(Duration::from_micros(rng.random_range(0..20_000))),
                _ => Waits::Select(rng.random_range(0..30)),
            };
            let on_error =
                [OnError::Returns, OnError::Returns, OnError::Wraps, OnError::Swallows, OnError::SaysNo];
            (*STATEMENTS.choose(rng).unwrap(), waits, *on_error.choose(rng).unwrap())
        });
        let steps = steps.collect();
        let ends = [
            End::Done,
            End::Done,
            End::Done,
            End::Done,
            End::No,
            End::No,
            End::Fault,
            End::Panics,
            End::Aborts,
            End::Never,
        ];
        let end = *ends.choose(rng).unwrap();
        let mut some = |chance: f64, most: u64| {
            rng.random_bool(chance).then(|| Duration::from_micros(rng.random_range(0..most)))
        };
        let dropped =
            if matches!(end, End::Never) { Some(Duration::from_millis(30)) } else { some(0.25, 40_000) };
        let deadline = some(0.15, 60_000);
        Self { steps, end, dropped, deadline, key: rng.random_bool(0.2).then(|| rng.random_range(0..3)) }
    }
}

/// An application error that wraps everything.
#[derive(Debug, thiserror::Error)]
enum WrappedError {
    #[error("the database failed")]
    Database(#[from] Error),
    #[error("no")]
    No,
    #[error("broken")]
    Broken,
}

impl ApplicationError for WrappedError {
    fn reason(&self) -> Reason {
        match self {
            Self::Database(error) => Reason::from_error(error),
            Self::No => NO,
            Self::Broken => Reason::APPLICATION,
        }
    }
    fn is_fault(&self) -> bool {
        matches!(self, Self::Broken)
    }
    fn driver_error(&self) -> Option<&Error> {
        find_driver_error(self)
    }
}

#[derive(Debug, Deserialize)]
struct Misfit {
    #[allow(dead_code, reason = "only its type is wanted")]
    nowhere: u32,
}

/// The writes of one run.
#[derive(Debug, Default)]
struct RunLog {
    /// The documents of acknowledged attempts, and of all attempts.
    acknowledged: BTreeSet<String>,
    sent: BTreeSet<String>,
}

struct Player {
    client: Client,
    runner: TransactionRunner,
    /// Attempts whose first error the callback swallowed: the runner cannot know whether the server has started them.
    hidden: AtomicU32,
    script: Script,
    name: String,
}

impl Player {
    fn items(&self) -> Collection<Document> {
        self.client.database("shop").collection("items")
    }

    async fn statement(&self, statement: Statement, id: &str, tx: &mut Transaction) -> Result<(), Error> {
        let (db, items) = (self.client.database("shop"), self.items());
        match statement {
            Statement::Insert => drop(items.insert_one(doc! {"_id": id}).session(tx).await?),
            Statement::UpdateHot => {
                items.update_one(doc! {"_id": "hot"}, doc! {"$inc": {"n": 1}}).session(tx).await?;
            }
            Statement::Find => drop(items.find_one(doc! {"_id": "hot"}).session(tx).await?),
            Statement::FindMisfit => {
                db.collection::<Misfit>("items").find_one(doc! {"_id": "hot"}).session(tx).await?;
            }
            Statement::Duplicate => drop(items.insert_one(doc! {"_id": "hot"}).session(tx).await?),
            Statement::RefusedByTheDriver => {
                items.update_one(doc! {}, doc! {"no operator": 1}).session(tx).await?;
            }
            Statement::UnknownCommand => drop(db.run_command(doc! {"noSuchCommand": 1}).session(tx).await?),
            Statement::NotInATransaction => drop(db.run_command(doc! {"ping": 1}).session(tx).await?),
            Statement::OutOfACappedCollection => {
                db.collection::<Document>("capped").delete_one(doc! {}).session(tx).await?;
            }
            Statement::Outside => drop(items.find_one(doc! {"_id": "hot"}).await?),
            Statement::Nested => {
                let runner = self.runner.clone().max_attempts(2);
                let nested = runner.run_as(OPERATION, async |mut tx| {
                    items.find_one(doc! {"_id": "hot"}).session(&mut tx).await?;
                    Ok::<_, Abort>(())
                });
                let _ = Box::pin(nested).await;
            }
            Statement::Pause => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        Ok(())
    }

    async fn callback(
        &self,
        attempt: u32,
        log: &std::sync::Mutex<RunLog>,
        tx: &mut Transaction,
    ) -> Result<(), Abort<WrappedError>> {
        let mut mine = BTreeSet::new();
        let mut answered_well = false;
        for (index, (statement, waits, on_error)) in self.script.steps.iter().enumerate() {
            let id = format!("{} {attempt} {index}", self.name);
            if *statement == Statement::Insert {
                log.lock().unwrap().sent.insert(id.clone());
            }
            let one = self.statement(*statement, &id, tx);
            let result = match waits {
                Waits::ForIt => Some(one.await),
                Waits::Timeout(time) => timeout(*time, one).await.ok(),
                Waits::Select(polls) => tokio::select! {
                    biased;
                    result = one => Some(result),
                    () = async { for _ in 0..*polls { tokio::task::yield_now().await } } => None,
                },
            };
            match (result, on_error) {
                (Some(Ok(())), _) => {
                    answered_well |=
                        !matches!(statement, Statement::Outside | Statement::Nested | Statement::Pause);
                    if *statement == Statement::Insert {
                        mine.insert(id);
                    }
                }
                (None, OnError::SaysNo | OnError::Wraps) => return Err(WrappedError::No.into()),
                (None, _) => {}
                (Some(Err(error)), OnError::Returns) => return Err(error.into()),
                (Some(Err(error)), OnError::Wraps) => return Err(WrappedError::from(error).into()),
                (Some(Err(error)), OnError::Swallows | OnError::SaysNo) => {
                    if !answered_well
                        && !matches!(
                            error.kind.as_ref(),
                            ErrorKind::Write(_) | ErrorKind::InvalidArgument { .. }
                        )
                    {
                        self.hidden.fetch_add(1, Relaxed);
                    }
                    if matches!(on_error, OnError::SaysNo) {
                        return Err(WrappedError::No.into());
                    }
                }
            }
        }
        match self.script.end {
            End::Done => {}
            End::No => return Err(WrappedError::No.into()),
            End::Fault => return Err(WrappedError::Broken.into()),
            End::Panics => panic!("as scripted"),
            End::Aborts => tx.session().abort_transaction().await?,
            End::Never => std::future::pending().await,
        }
        log.lock().unwrap().acknowledged = mine;
        Ok(())
    }

    /// The run's result, unless it was dropped or panicked, and its writes.
    async fn play(&self) -> (Option<Result<Committed<()>, TransactionError<WrappedError>>>, RunLog) {
        let (attempts, log) = (AtomicU32::new(0), std::sync::Mutex::new(RunLog::default()));
        let mut run = self.runner.transaction().named(OPERATION);
        if let Some(deadline) = self.script.deadline {
            run = run.deadline(Instant::now() + deadline);
        }
        if let Some(key) = self.script.key {
            run = run.serialize_on(key);
        }
        let run = run.run(async |mut tx| self.callback(attempts.fetch_add(1, Relaxed), &log, &mut tx).await);
        let run = AssertUnwindSafe(run).catch_unwind();
        let ended = match self.script.dropped {
            Some(after) => timeout(after, run).await.ok(),
            None => Some(run.await),
        };
        (ended.and_then(Result::ok), log.into_inner().unwrap())
    }
}

fn blocks(command: &str) -> Document {
    doc! {"failCommands": [command], "blockConnection": true, "blockTimeMS": 20}
}

/// Injects faults, one after another, until dropped.
async fn faults(env: &Environment, proxy: &Proxy, mut rng: StdRng) {
    loop {
        match rng.random_range(0..10) {
            0 | 1 => proxy.set(ProxyMode::HoldReplies),
            2 => proxy.set(ProxyMode::HoldAll),
            3 => proxy.set(ProxyMode::Delay(Duration::from_millis(rng.random_range(1..5)))),
            4 if rng.random_bool(0.01) => proxy.cut(),
            5 => {
                let command = *["insert", "update", "find", "commitTransaction", "abortTransaction"]
                    .choose(&mut rng)
                    .unwrap();
                // After a lost connection the driver rediscovers its server, and every operation waits for that.
                let how = match rng.random_range(0..20) {
                    0 => doc! {"failCommands": [command], "closeConnection": true},
                    // A server that answers an abort has ended the transaction; a failpoint in its place has not.
                    _ if command == "abortTransaction" => blocks(command),
                    1..12 => blocks(command),
                    _ => doc! {"failCommands": [command], "errorCode": 11601},
                };
                env.fail_times(1, how).await;
            }
            _ => proxy.set(ProxyMode::Forward),
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

async fn round(env: &Environment, proxy: &Proxy, seed: u64, first: usize) {
    let mut players = JoinSet::new();
    let hidden = Arc::new(AtomicU32::new(0));
    for index in first..first + AT_ONCE {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(index as u64));
        let player = Player {
            client: env.client.clone(),
            // A callback that swallows every error is retried until one of its limits is reached.
            runner: env.runner.clone().time_limit(Duration::from_secs(5)).max_attempts(4),
            hidden: AtomicU32::new(0),
            script: Script::draw(&mut rng),
            name: format!("work {index}"),
        };
        let hidden = Arc::clone(&hidden);
        players.spawn(async move {
            let (said, log) = player.play().await;
            hidden.fetch_add(player.hidden.load(Relaxed), Relaxed);
            (format!("{} of seed {seed}: {:?}", player.name, player.script), said, log)
        });
    }
    let play = async {
        let mut ended = Vec::new();
        while let Some(one) = players.join_next().await {
            ended.push(one.unwrap());
        }
        ended
    };
    let ended = tokio::select! {
        ended = play => ended,
        () = faults(env, proxy, StdRng::seed_from_u64(seed ^ first as u64)) => unreachable!("it goes on"),
    };
    proxy.set(ProxyMode::Forward);
    let off = doc! {"configureFailPoint": "failCommand", "mode": "off"};
    env.admin.database("admin").run_command(off).await.unwrap();

    env.runner.wait_idle().await;
    assert_eq!(
        env.server().await.open,
        0,
        "something is open, from work {first} on, seed {seed}\n{}",
        env.metrics.render()
    );
    env.reconciled_but_for(f64::from(hidden.load(Relaxed))).await;

    let there = env.items_of_others().distinct("_id", doc! {"_id": {"$regex": "^work "}}).await.unwrap();
    let there: BTreeSet<_> = there.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    for (script, said, log) in ended {
        let sent: Vec<_> = log.sent.iter().filter(|id| there.contains(*id)).collect();
        match said {
            Some(Ok(_)) => {
                let missing: Vec<_> = log.acknowledged.iter().filter(|id| !there.contains(*id)).collect();
                assert!(missing.is_empty(), "committed documents are missing: {missing:?}\n{script}");
            }
            Some(Err(TransactionError::Rejected { .. } | TransactionError::Failed(_))) => {
                assert!(sent.is_empty(), "nothing was to be changed, and there are {sent:?}\n{script}");
            }
            Some(Err(_)) | None => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_callbacks_under_random_faults_keep_counters_matching() {
    let (callbacks, seed) = (number("TXNSCOPE_RANDOM_CALLBACKS", 100), number("TXNSCOPE_SEED", 1));
    let (mut env, proxy) = Environment::behind_a_proxy().await;
    env.admin.database("shop").create_collection("capped").capped(true).size(4_096).await.unwrap();
    let client = env.client.clone();
    for first in (0..usize::try_from(callbacks).unwrap()).step_by(AT_ONCE) {
        env.reset(&client).await;
        env.items_of_others().insert_one(doc! {"_id": "hot", "n": 0}).await.unwrap();
        round(&env, &proxy, seed, first).await;
        if first % 1_000 == 0 {
            println!("{first} of {callbacks} callbacks, seed {seed}");
        }
    }
}
