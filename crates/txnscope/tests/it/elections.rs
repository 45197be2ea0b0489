//! Accounting through elections: the server's counter of started transactions equals the driver's, less the attempts
//! that were not started, within the bounds of the `lost` ones.
//!
//! A few elections in each run. For two hundred:
//!
//! ```console
//! $ TXNSCOPE_ELECTIONS=200 cargo test -p txnscope --all-features --test it elections -- --nocapture
//! ```

#![allow(clippy::cast_precision_loss, reason = "counts, far below 2^53")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession, Collection};
use testkit::{ReplicaSet, ReplicaSetOptions, Scrape, wait};
use tokio::task::JoinSet;
use txnscope::{Abort, Metrics, Transaction, TransactionListener, TransactionRunner};

/// The default number of elections.
const FEW: usize = 4;
/// The number of elections after which everything ends, and the counters are compared.
const ROUND: usize = 10;
/// Tasks with the runner, and as many with driver sessions.
const TASKS: usize = 8;
/// Commits between two elections.
const COMMITS: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn election_driver_and_server_counters_match() {
    let elections = std::env::var("TXNSCOPE_ELECTIONS").map_or(FEW, |text| text.parse().unwrap());
    let set = ReplicaSetOptions::new(3).election_timeout(Duration::from_secs(1)).start().await.unwrap();
    let load = Load::on(&set).await;
    let (mut held, mut seen) = (0, Counters::default());
    while held < elections {
        let round = ROUND.min(elections - held);
        let before = Server::of(&set).await.unwrap();
        load.through(&set, held, round).await;
        held += round;
        let counters = load.wait_idle(&set, before).await;
        println!("{held} elections: {counters:?}");
        for (answer, times) in &load.answers.0.lock().unwrap().failed {
            println!("  {times} × {answer}");
        }
        counters.check(seen.since(&counters));
        seen = counters;
    }
    // Every commit was applied once.
    let written = load.marks.count_documents(doc! {}).await.unwrap() as f64;
    assert!(
        (seen.committed..=seen.committed + seen.unknown).contains(&written),
        "{written} written, {seen:?}"
    );
    assert!(
        seen.refused + seen.lost > 0.0 || elections < ROUND,
        "no election met a first statement: {seen:?}"
    );
}

/// The driver's counters since the start, and the server's of the last round.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    started: f64,
    committed: f64,
    unknown: f64,
    refused: f64,
    lost: f64,
    fenced: f64,
    server_started: f64,
}

impl Counters {
    fn since(&self, now: &Self) -> Self {
        Self {
            started: now.started - self.started,
            committed: now.committed - self.committed,
            unknown: now.unknown - self.unknown,
            refused: now.refused - self.refused,
            lost: now.lost - self.lost,
            fenced: now.fenced - self.fenced,
            server_started: now.server_started,
        }
    }

    fn check(&self, round: Self) {
        let most = round.started - round.refused + round.fenced;
        assert!((most - round.lost..=most).contains(&round.server_started), "{round:?} of {self:?}");
    }
}

#[derive(Debug, Clone, Copy)]
struct Server {
    started: i64,
    open: i64,
}

impl Server {
    /// Sums the members' counters: each member counts its transactions as the primary.
    async fn of(set: &ReplicaSet) -> Result<Self> {
        let mut sum = Self { started: 0, open: 0 };
        for member in set.members() {
            let status = member.admin(doc! {"serverStatus": 1}).await?;
            let transactions = status.get_document("transactions")?;
            sum.started += transactions.get_i64("totalStarted")?;
            sum.open += transactions.get_i64("currentOpen")?;
        }
        Ok(sum)
    }
}

/// Transactions of the runner, and of driver sessions with the listener.
struct Load {
    metrics: Metrics,
    runner: TransactionRunner,
    with_driver_session: Client,
    marks: Collection<Document>,
    answers: Answers,
    commits: Arc<AtomicU64>,
}

impl Load {
    async fn on(set: &ReplicaSet) -> Self {
        let (metrics, answers) = (Metrics::isolated().unwrap(), Answers::default());
        let client = Client::with_options(options(set, &answers).await).unwrap();
        let runner = TransactionRunner::with_registry(&client, metrics.registry());
        let mut listened = options(set, &answers).await;
        TransactionListener::with_registry(metrics.registry()).install(&mut listened);
        let with_driver_session = Client::with_options(listened).unwrap();
        let marks = client.database("shop").collection("marks");
        client.database("shop").create_collection("marks").await.unwrap();
        let hot: Collection<Document> = client.database("shop").collection("hot");
        hot.insert_many((0..4).map(|id| doc! {"_id": id, "n": 0})).await.unwrap();
        Self { metrics, runner, with_driver_session, marks, answers, commits: Arc::default() }
    }

    /// Runs while this many elections are held.
    async fn through(&self, set: &ReplicaSet, held: usize, elections: usize) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..TASKS {
            tasks.spawn(runs(
                self.runner.clone(),
                self.marks.clone(),
                number,
                Arc::clone(&stop),
                Arc::clone(&self.commits),
            ));
            tasks.spawn(with_driver_session(
                self.with_driver_session.clone(),
                number,
                Arc::clone(&stop),
                Arc::clone(&self.commits),
            ));
        }
        for number in held..held + elections {
            let wanted = self.commits.load(Relaxed) + COMMITS;
            wait::until("transactions to commit", async || {
                let committed = self.commits.load(Relaxed);
                ensure!(committed >= wanted, "{committed} of {wanted}");
                Ok(())
            })
            .await
            .unwrap();
            elect(set, number).await.unwrap();
        }
        stop.store(true, Relaxed);
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    }

    /// The counters when no transaction is open any more.
    async fn wait_idle(&self, set: &ReplicaSet, before: Server) -> Counters {
        self.runner.wait_idle().await;
        wait::until("every transaction to have ended", async || {
            let server = Server::of(set).await?;
            let scrape = Scrape::parse(&self.metrics.render())?;
            let sum = |metric: &str, labels: &[(&str, &str)]| {
                scrape.sum(&format!("mongodb_client_{metric}"), labels)
            };
            let open = sum("transactions_open", &[]);
            ensure!(server.open == 0 && open == 0.0, "{server:?}, {open} open here");
            let not_started = |cause| sum("transactions_not_started_total", &[("cause", cause)]);
            Ok(Counters {
                started: sum("transactions_started_total", &[]),
                committed: sum("transactions_committed_total", &[]),
                unknown: sum("transactions_unknown_total", &[]),
                refused: not_started("refused") + not_started("not_sent"),
                lost: not_started("lost"),
                fenced: sum("transaction_cleanups_total", &[("result", "fenced")]),
                server_started: (server.started - before.started) as f64,
            })
        })
        .await
        .unwrap()
    }
}

async fn options(set: &ReplicaSet, answers: &Answers) -> ClientOptions {
    let mut options = ClientOptions::parse(set.uri()).await.unwrap();
    options.heartbeat_freq = Some(Duration::from_millis(500));
    let answers = answers.clone();
    options.command_event_handler = Some(EventHandler::callback(move |event| answers.hear(&event)));
    options
}

/// The messages of failed first statements, and their numbers.
#[derive(Debug, Clone, Default)]
struct Answers(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// The first statements in flight.
    first: BTreeSet<i32>,
    failed: BTreeMap<String, u32>,
}

impl Answers {
    fn hear(&self, event: &CommandEvent) {
        let Heard { first, failed } = &mut *self.0.lock().unwrap();
        match event {
            CommandEvent::Started(event) if event.command.contains_key("startTransaction") => {
                first.insert(event.request_id);
            }
            CommandEvent::Succeeded(event) => {
                first.remove(&event.request_id);
            }
            CommandEvent::Failed(event) if first.remove(&event.request_id) => {
                let said = match event.failure.kind.as_ref() {
                    ErrorKind::Command(error) => {
                        format!("{} {}: {}", event.command_name, error.code, error.message)
                    }
                    other => format!("{}: {other}", event.command_name),
                };
                *failed.entry(said).or_default() += 1;
            }
            _ => {}
        }
    }
}

/// Elects another primary: a secondary that calls an election, or a primary that steps down, which interrupts its
/// operations.
async fn elect(set: &ReplicaSet, number: usize) -> Result<()> {
    if number % 2 == 1 {
        let old = set.primary().await?;
        let step_down = doc! {"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 0, "force": true};
        set.members()[old].admin(step_down).await?;
        let next = (old + 1 + number / 2 % 2) % set.members().len();
        return wait::until("an election", async || {
            if set.primary().await.is_ok_and(|primary| primary != old) {
                return Ok(());
            }
            set.members()[next].admin(doc! {"replSetStepUp": 1}).await.map(drop)
        })
        .await
        .context("after a step-down");
    }
    set.step_up_another().await.map(drop)
}

/// Uses a different first statement each time, since statements report an election with different messages. `session`
/// is called for each statement.
async fn statements(
    session: &mut (dyn Session + Send),
    marks: &Collection<Document>,
    kind: usize,
    mark: &str,
) -> Result<(), Error> {
    let hot = marks.client().database("shop").collection::<Document>("hot");
    let (filter, change) = (doc! {"_id": i32::try_from(kind % 4).unwrap_or(0)}, doc! {"$inc": {"n": 1}});
    match kind % 4 {
        0 => hot.find_one(filter).session(session.get()).await.map(drop)?,
        1 => hot.find_one_and_update(filter, change).session(session.get()).await.map(drop)?,
        2 => hot.update_one(filter, change).session(session.get()).await.map(drop)?,
        _ => hot.aggregate([doc! {"$match": filter}]).session(session.get()).await.map(drop)?,
    }
    marks.insert_one(doc! {"mark": mark}).session(session.get()).await.map(drop)
}

trait Session {
    fn get(&mut self) -> &mut ClientSession;
}

impl Session for ClientSession {
    fn get(&mut self) -> &mut ClientSession {
        self
    }
}

impl Session for Transaction {
    fn get(&mut self) -> &mut ClientSession {
        self.session()
    }
}

async fn runs(
    runner: TransactionRunner,
    marks: Collection<Document>,
    number: usize,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
) {
    for turn in 0.. {
        if stop.load(Relaxed) {
            return;
        }
        let marks = marks.clone();
        let count_executions = runner.run_as("runner", async |mut tx| {
            statements(&mut tx, &marks, number + turn, "runner").await?;
            Ok::<_, Abort>(())
        });
        if count_executions.await.is_ok() {
            commits.fetch_add(1, Relaxed);
        }
    }
}

async fn with_driver_session(client: Client, number: usize, stop: Arc<AtomicBool>, commits: Arc<AtomicU64>) {
    let marks = client.database("shop").collection::<Document>("marks");
    let mut session = client.start_session().await.unwrap();
    for turn in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        session.start_transaction().await.unwrap();
        if statements(&mut session, &marks, number + turn, "by hand").await.is_err() {
            session.abort_transaction().await.unwrap();
            continue;
        }
        loop {
            match session.commit_transaction().await {
                Ok(()) => {
                    commits.fetch_add(1, Relaxed);
                    break;
                }
                Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
                Err(_) => break,
            }
        }
    }
    // The session's next transaction ends one that may still be open in it.
    client
        .database("shop")
        .collection::<Document>("ends")
        .insert_one(doc! {})
        .session(&mut session)
        .await
        .unwrap();
}
