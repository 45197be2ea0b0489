//! The scenarios: the injected fault, its end, and the expected alerts.

use std::time::Duration;

use anyhow::{Context, Result};
use mongodb::bson::{Document, doc};
use mongodb::{Client, ClientSession, Collection};
use testkit::wait;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::environment::Environment;
use crate::listener::Notification;

/// The time limit for an alert to fire, and to be resolved: far above what any needs, to end a drill that would hang.
const LIMIT: Duration = Duration::from_secs(150);
/// More than `txnscope:threshold:idle_transactions`.
const IDLE: usize = 15;
/// The number of concurrent writers of one document.
const WRITERS: usize = 24;

pub(crate) const NAMES: [&str; 5] = ["idle", "corrupt", "sidecar", "storm", "primary"];

/// The result for one alert.
#[derive(Debug)]
pub(crate) struct AlertResult {
    pub(crate) scenario: &'static str,
    pub(crate) alert: &'static str,
    expected: &'static str,
    pub(crate) receiver: Option<String>,
    pub(crate) fired: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    pub(crate) labels: String,
}

impl AlertResult {
    pub(crate) fn holds(&self) -> bool {
        self.fired.is_some() && self.ended.is_some() && self.receiver.as_deref() == Some(self.expected)
    }
}

/// An alert and its receiver.
type Expected = (&'static str, &'static str);

/// Runs the scenarios with these names, or all.
pub(crate) async fn run(env: &mut Environment, only: &[String], say: fn(&str)) -> Result<Vec<AlertResult>> {
    let mut results = Vec::new();
    for name in NAMES.into_iter().filter(|name| only.is_empty() || only.iter().any(|only| only == name)) {
        let of_scenario = match name {
            "idle" => idle(env, say).await,
            "corrupt" => corrupt(env, say).await,
            "sidecar" => sidecar(env, say).await,
            "storm" => storm(env, say).await,
            _ => primary(env, say).await,
        };
        results.extend(of_scenario.with_context(|| format!("the scenario `{name}`"))?);
    }
    Ok(results)
}

/// An application begins transactions and leaves them idle.
async fn idle(env: &Environment, say: fn(&str)) -> Result<Vec<AlertResult>> {
    let expected = [("MongoDBOldestOpenTransaction", "ticket"), ("MongoDBIdleInTransaction", "ticket")];
    until_calm(env, &expected).await?;
    say("Holding idle transactions …");
    let client = env.set.client_named("drill-idle").await?;
    let collection = scratch(&client).await?;
    let started = Instant::now();
    let mut sessions: Vec<ClientSession> = Vec::new();
    for number in 0..IDLE {
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        let number = i64::try_from(number)?;
        collection.insert_one(doc! {"held": number}).session(&mut session).await?;
        sessions.push(session);
    }
    let fired = until_fired(env, &expected, started, say).await;
    let fixed = Instant::now();
    for mut session in sessions {
        session.abort_transaction().await?;
    }
    Ok(until_ended(env, "idle transactions", &expected, started, fired, fixed, say).await)
}

/// A balance is changed manually.
async fn corrupt(env: &Environment, say: fn(&str)) -> Result<Vec<AlertResult>> {
    let expected = [("ConsistencyViolated", "page")];
    until_calm(env, &expected).await?;
    say("Corrupting a balance …");
    let retainers = env.set.client().await?.database("ledger").collection::<Document>("retainers");
    // A retainer that the load does not use.
    let id = wait::until("a retainer", async || env.client().retainer(500).await).await?;
    let one = doc! {"_id": mongodb::bson::oid::ObjectId::parse_str(&id)?};
    let started = Instant::now();
    let wrong = doc! {"$set": {"currentBalance": -1_i64}};
    let before =
        retainers.find_one_and_update(one.clone(), wrong).await?.context("the retainer is not there")?;
    let fired = until_fired(env, &expected, started, say).await;
    let fixed = Instant::now();
    let right = doc! {"$set": {"currentBalance": before.get_i64("currentBalance")?}};
    retainers.update_one(one, right).await?;
    Ok(until_ended(env, "a corrupt balance", &expected, started, fired, fixed, say).await)
}

/// The sidecar is stopped.
async fn sidecar(env: &mut Environment, say: fn(&str)) -> Result<Vec<AlertResult>> {
    let expected = [("TxnscopeSidecarDown", "page")];
    until_calm(env, &expected).await?;
    say("Stopping the sidecar …");
    let started = Instant::now();
    env.stop_sidecar().await;
    let fired = until_fired(env, &expected, started, say).await;
    let fixed = Instant::now();
    env.start_sidecar().await?;
    Ok(until_ended(env, "no sidecar", &expected, started, fired, fixed, say).await)
}

/// Many clients write one document concurrently, without instrumentation.
async fn storm(env: &Environment, say: fn(&str)) -> Result<Vec<AlertResult>> {
    let expected = [("MongoDBWriteConflicts", "ticket"), ("MongoDBTransactionAbortRatio", "ticket")];
    until_calm(env, &expected).await?;
    say("Storming one document …");
    let client = env.set.client_named("drill-storm").await?;
    let collection = scratch(&client).await?;
    collection.insert_one(doc! {"_id": "hot", "n": 0_i64}).await?;
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write(client.clone(), collection.clone()));
    }
    let fired = until_fired(env, &expected, started, say).await;
    let fixed = Instant::now();
    writers.shutdown().await;
    Ok(until_ended(env, "a hot document", &expected, started, fired, fixed, say).await)
}

/// Writes the hot document continuously, each time in a slow transaction. Failed ones are started again.
async fn write(client: Client, collection: Collection<Document>) {
    loop {
        let attempt = async {
            let mut session = client.start_session().await?;
            session.start_transaction().await?;
            let add = doc! {"$inc": {"n": 1_i64}};
            collection.update_one(doc! {"_id": "hot"}, add).session(&mut session).await?;
            sleep(Duration::from_millis(5)).await;
            session.commit_transaction().await
        };
        let _: mongodb::error::Result<()> = attempt.await;
    }
}

/// The primary and another member are killed, so that there is no majority.
async fn primary(env: &mut Environment, say: fn(&str)) -> Result<Vec<AlertResult>> {
    let expected = [
        ("MongoDBNoPrimary", "page"),
        ("MongoDBMemberDown", "ticket"),
        ("TransactionFailureBudgetBurnFast", "page"),
    ];
    until_calm(env, &expected).await?;
    say("Killing the primary, and another member …");
    let first = env.set.primary().await?;
    let started = Instant::now();
    let second = (first + 1) % env.set.members().len();
    env.set.member_mut(first).kill().await?;
    env.set.member_mut(second).kill().await?;
    let fired = until_fired(env, &expected, started, say).await;
    let fixed = Instant::now();
    env.set.member_mut(second).restart().await?;
    env.set.member_mut(first).restart().await?;
    Ok(until_ended(env, "no primary", &expected, started, fired, fixed, say).await)
}

// ===== Waiting for notifications =====

/// Waits until none of these alerts is firing: a firing alert would not be notified again.
async fn until_calm(env: &Environment, expected: &[Expected]) -> Result<()> {
    wait::until_within(LIMIT, "a moment without these alerts", async || {
        let firing: Vec<_> = expected.iter().filter(|(alert, _)| env.listener.is_firing(alert)).collect();
        anyhow::ensure!(firing.is_empty(), "{firing:?}");
        Ok(())
    })
    .await
}

/// Waits for the notification of each of these alerts, and returns it.
async fn until_fired(
    env: &Environment,
    expected: &[Expected],
    since: Instant,
    say: fn(&str),
) -> Vec<Option<Notification>> {
    let mut fired = vec![None; expected.len()];
    while since.elapsed() < LIMIT && fired.iter().any(Option::is_none) {
        for ((alert, _), fired) in expected.iter().zip(&mut fired) {
            if fired.is_none() {
                *fired = env.listener.first(alert, true, since);
                if let Some(notifications) = fired {
                    say(&format!("  {alert} after {:.1}s", (notifications.at - since).as_secs_f64()));
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    fired
}

/// Waits until each of these alerts is resolved, and returns the results.
async fn until_ended(
    env: &Environment,
    scenario: &'static str,
    expected: &[Expected],
    started: Instant,
    fired: Vec<Option<Notification>>,
    fixed: Instant,
    say: fn(&str),
) -> Vec<AlertResult> {
    let mut ended = vec![None; expected.len()];
    let missing = |ended: &[Option<Duration>]| {
        fired.iter().zip(ended).any(|(fired, ended)| fired.is_some() && ended.is_none())
    };
    while fixed.elapsed() < LIMIT && missing(&ended) {
        for (((alert, _), ended), fired) in expected.iter().zip(&mut ended).zip(&fired) {
            if ended.is_none() && fired.is_some() {
                *ended = env.listener.all_ended(alert).map(|at| at.saturating_duration_since(fixed));
                if let Some(time) = ended {
                    say(&format!("  {alert} resolved after {:.1}s", time.as_secs_f64()));
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    let results =
        expected.iter().zip(fired).zip(ended).map(|(((alert, receiver), fired), ended)| AlertResult {
            scenario,
            alert,
            expected: receiver,
            receiver: fired.as_ref().map(|notifications| notifications.receiver.clone()),
            fired: fired.as_ref().map(|notifications| notifications.at - started),
            ended,
            labels: fired.map(|notifications| labels(&notifications)).unwrap_or_default(),
        });
    results.collect()
}

fn labels(notifications: &Notification) -> String {
    let others = notifications.labels.iter().filter(|(name, _)| *name != "alertname");
    others.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// A collection of the drill, created before a transaction writes to it.
async fn scratch(client: &Client) -> Result<Collection<Document>> {
    let database = client.database("drill");
    let names = database.list_collection_names().await?;
    if !names.iter().any(|name| name == "scratch") {
        database.create_collection("scratch").await?;
    }
    Ok(database.collection("scratch"))
}
