//! The live model, held to known situations on a real replica set.

mod backend;
mod blockers;
mod ending;
mod members;
mod privileges;

use std::time::Duration;

use anyhow::{Result, anyhow};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession, Collection};
use testkit::{ReplicaSet, ReplicaSetOptions, wait};
use txnscope_sidecar::Target;
use txnscope_sidecar::live::{LiveMonitor, LiveReport, LiveSettings};

/// Longer than any test: the server must not end a transaction that a test has opened.
const LIFETIME: u64 = 600;

fn options(members: u8) -> ReplicaSetOptions {
    ReplicaSetOptions::new(members).parameter("transactionLifetimeLimitSeconds", LIFETIME)
}

/// A client with enough connections for all writers of a test.
async fn client(set: &ReplicaSet, application: &str) -> Client {
    client_of(&set.uri(), application).await
}

async fn client_of(uri: &str, application: &str) -> Client {
    let mut options = ClientOptions::parse(uri).await.unwrap();
    options.app_name = Some(application.to_owned());
    options.max_pool_size = Some(100);
    Client::with_options(options).unwrap()
}

fn collection(client: &Client, name: &str) -> Collection<Document> {
    client.database("shop").collection(name)
}

/// Fills a collection with forty documents.
async fn fill(client: &Client, name: &str) {
    collection(client, name).insert_many((0..40).map(|id| doc! {"_id": id, "n": 0})).await.unwrap();
}

/// Begins a transaction that has changed the first document of a collection.
async fn transaction(client: &Client, name: &str) -> ClientSession {
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let (first, more) = (doc! {"_id": 0}, doc! {"$inc": {"n": 1}});
    collection(client, name).update_one(first, more).session(&mut session).await.unwrap();
    session
}

/// The id of a session, as in the report.
fn session_id(session: &ClientSession) -> String {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => id.to_uuid().unwrap().to_string(),
        other => panic!("{other:?} is no id"),
    }
}

async fn monitor(uri: &str) -> LiveMonitor {
    monitor_with(uri, wait::LIMIT, Vec::new()).await
}

/// A busy machine must not look like a member that hangs, so the timeout is long unless a test is about it.
async fn monitor_with(uri: &str, timeout: Duration, backends: Vec<String>) -> LiveMonitor {
    let mut settings = LiveSettings::default();
    settings.interval = Duration::from_millis(200);
    settings.timeout = timeout;
    // On a busy machine a poll waits for a core, which looks like cost.
    settings.max_load = 1.0;
    settings.backends = backends;
    LiveMonitor::start(&Target::new(uri), &settings).await.unwrap()
}

/// Waits until the report meets a condition, and returns it.
async fn report_where(monitor: &LiveMonitor, what: &str, holds: impl Fn(&LiveReport) -> bool) -> LiveReport {
    wait::until(what, async || {
        let report = monitor.report();
        if holds(&report) { Ok(report) } else { Err(anyhow!("{}", serde_json::to_string(&report)?)) }
    })
    .await
    .unwrap()
}

/// The number of a session's transaction, from the server.
async fn number(client: &Client, session: &ClientSession) -> Result<i64> {
    let of_session = doc! {"$match": {"lsid.id": session.id().get("id").unwrap()}};
    let stages = [doc! {"$currentOp": {"allUsers": true, "idleSessions": true}}, of_session];
    let mut found = client.database("admin").aggregate(stages).await?;
    if !found.advance().await? {
        return Err(anyhow!("the session has no transaction"));
    }
    let found = found.deserialize_current()?;
    Ok(found.get_document("transaction")?.get_document("parameters")?.get_i64("txnNumber")?)
}
