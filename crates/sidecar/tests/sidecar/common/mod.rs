//! A sidecar in the test's own process, and its metrics page.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every suite uses all of it")]

pub(crate) mod authority;
pub(crate) mod terminal;

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use mongodb::bson::{Document, doc};
use mongodb::{Client, ClientSession};
use testkit::{Scrape, wait};
use txnscope_sidecar::{CollectorSettings, Config, Sidecar};

/// The number of collectors that are on by default.
pub(crate) const COLLECTORS: f64 = 5.0;

/// A sidecar with a short poll interval.
pub(crate) async fn sidecar(uri: &str) -> Sidecar {
    sidecar_with(uri, frequent()).await
}

/// The default collectors, at intervals that are to the tests' poll interval as the defaults are to the default.
pub(crate) fn frequent() -> CollectorSettings {
    let mut collectors = CollectorSettings::default();
    for interval in [
        &mut collectors.storage_engine.interval,
        &mut collectors.replication.interval,
        &mut collectors.parameters.interval,
        &mut collectors.profile.interval,
        &mut collectors.slow_transactions.interval,
    ] {
        *interval /= 25;
    }
    collectors
}

/// A sidecar with other settings of its collectors.
pub(crate) async fn sidecar_with(uri: &str, collectors: CollectorSettings) -> Sidecar {
    start(Config::new(uri), collectors).await
}

/// A sidecar with a long poll timeout, for tests that count failures on a busy machine.
pub(crate) async fn patient_sidecar(uri: &str, collectors: CollectorSettings) -> Sidecar {
    let mut config = Config::new(uri);
    config.poll_timeout = wait::LIMIT;
    start(config, collectors).await
}

async fn start(mut config: Config, collectors: CollectorSettings) -> Sidecar {
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    config.collectors = collectors;
    Sidecar::start(config).await.unwrap()
}

/// Every collector on, each at every poll; the profiler of the database `test` is read.
pub(crate) fn everything() -> CollectorSettings {
    let mut collectors = CollectorSettings::default();
    let interval = Duration::from_millis(200);
    collectors.storage_engine.interval = interval;
    collectors.replication.interval = interval;
    collectors.parameters.interval = interval;
    collectors.profile.enabled = true;
    collectors.profile.interval = interval;
    collectors.profile.databases = vec!["test".to_owned()];
    collectors.slow_transactions.enabled = true;
    collectors.slow_transactions.interval = interval;
    collectors
}

pub(crate) fn url(sidecar: &Sidecar, path: &str) -> String {
    format!("http://{}{path}", sidecar.local_addr())
}

pub(crate) async fn scrape(sidecar: &Sidecar) -> Result<Scrape> {
    Scrape::get(&url(sidecar, "/metrics")).await
}

/// Waits until the page meets a condition, and returns it.
pub(crate) async fn page_where(sidecar: &Sidecar, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    wait::until(what, async || {
        let page = scrape(sidecar).await?;
        if holds(&page) { Ok(page) } else { Err(Mismatch(page).into()) }
    })
    .await
    .unwrap()
}

/// A page that does not meet a condition. It is formatted without buckets and zeros, and only if the wait fails.
#[derive(Debug)]
struct Mismatch(Scrape);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let series = self.0.families().iter().flat_map(|family| &family.series);
        for series in series.filter(|series| series.value != 0.0 && !series.name.ends_with("_bucket")) {
            write!(f, "\n{}{:?} {}", series.name, series.labels, series.value)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

/// The sum of a metric over all members.
pub(crate) fn total(page: &Scrape, name: &str) -> f64 {
    page.sum(name, &[])
}

/// Begins a transaction and inserts a document in it. The server lets it live for an hour: with the default of a minute it
/// expires before the end of a test on a busy machine.
pub(crate) async fn open_transaction(client: &Client) -> ClientSession {
    let lifetime = doc! {"setParameter": 1, "transactionLifetimeLimitSeconds": 3_600};
    client.database("admin").run_command(lifetime).await.unwrap();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    write(client, &mut session, doc! {"a": 1}).await.unwrap();
    session
}

pub(crate) async fn write(
    client: &Client,
    session: &mut ClientSession,
    document: Document,
) -> mongodb::error::Result<()> {
    client.database("test").collection("c").insert_one(document).session(session).await.map(|_| ())
}

/// Creates the collection, so that the first transaction need not.
pub(crate) async fn prepare(client: &Client) {
    client.database("test").collection("c").insert_one(doc! {"_id": "hot", "n": 0}).await.unwrap();
}

/// Reconfigures the replica set.
pub(crate) async fn reconfigure(client: &Client, change: impl Fn(&mut Vec<Document>)) {
    let admin = client.database("admin");
    wait::until("the new configuration", async || {
        let current = admin.run_command(doc! {"replSetGetConfig": 1}).await?;
        let mut config = current.get_document("config")?.clone();
        let members = config.get_array("members")?.iter().filter_map(|member| member.as_document().cloned());
        let mut members: Vec<_> = members.collect();
        change(&mut members);
        config.insert("members", members);
        config.insert("version", config.get_i32("version")? + 1);
        admin.run_command(doc! {"replSetReconfig": config}).await?;
        Ok(())
    })
    .await
    .unwrap();
}
