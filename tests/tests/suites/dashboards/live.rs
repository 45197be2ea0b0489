//! Every panel of every dashboard, queried from a real Prometheus that monitors a real deployment under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::load::{Load, Targets};
use end_to_end::promql;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use testkit::{FailPoint, Port, Prometheus, ReplicaSet, ScrapeJob, wait};
use tokio::sync::oneshot;
use txnscope_catalog::Presence;
use txnscope_sidecar::{Config, Sidecar};

use super::page::{Panel, pages};
use super::queries::{recorded, sent};
use crate::common::{Backend, frequent_checks, metrics_url};

const OPERATION: &str = "POST /api/retainers/{id}/consume";

/// Rules are evaluated every 15 seconds, and some depend on other rules.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_under_load() {
    let set = ReplicaSet::start(3).await.unwrap();
    let backend = Backend::start(&set.uri()).await;
    let sidecar = sidecar(&set, &backend).await;
    let job = |name: &str, url: String| {
        let target = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
        ScrapeJob { name: name.to_owned(), target }
    };
    let jobs = [job("ledger", backend.metrics_url()), job("txnscope", metrics_url(&sidecar))];
    let rules = testkit::workspace().join("alerts/rules");
    let prometheus = Prometheus::start_with_rules(Port::reserve().unwrap(), &jobs, &rules).await.unwrap();

    let client = set.client().await.unwrap();
    client.database("ledger").run_command(doc! {"profile": 2, "slowms": 20}).await.unwrap();
    // A transaction that takes milliseconds is rarely open during a poll.
    let slow = doc! {"failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 100};
    let slow = FailPoint::fail_command(&client, "ledger", slow).await.unwrap();
    let (http, load) = (backend.client(), Load::default());
    let targets = Targets::open(&http).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let until = async {
        let _ = stopped.await;
    };
    let look = async {
        tokio::select! {
            () = every_query_answers(&prometheus) => {}
            failed = trouble(&client) => failed.unwrap(),
        }
        stop.send(()).unwrap();
    };
    tokio::join!(load.run(&http, &targets, 8, until, 7), look);
    slow.off().await.unwrap();
    sidecar.shutdown().await;
}

/// A sidecar with all collectors and a short poll interval.
async fn sidecar(set: &ReplicaSet, backend: &Backend) -> Sidecar {
    let mut config = Config::new(set.uri());
    config.checks = Some(frequent_checks(""));
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(500);
    let interval = config.poll_interval;
    let collectors = &mut config.collectors;
    collectors.replication.interval = interval;
    collectors.storage_engine.interval = 3 * interval;
    collectors.profile.enabled = true;
    collectors.profile.interval = 2 * interval;
    collectors.profile.databases = vec!["ledger".to_owned()];
    collectors.slow_transactions.enabled = true;
    collectors.slow_transactions.interval = interval;
    collectors.open_by_operation.backends =
        vec![backend.metrics_url().replace("/metrics", "/-/transactions")];
    Sidecar::start(config).await.unwrap()
}

/// Continuously runs transactions that the ledger avoids: long ones, conflicting ones, and ones that block others, in
/// a separate collection. Returns only with an error.
async fn trouble(client: &Client) -> Result<()> {
    let database = client.database("ledger");
    let hot: Collection<Document> = database.collection("hotDocuments");
    hot.insert_one(doc! {"_id": 1, "times": 0}).await?;
    loop {
        let (mut first, mut second) = (client.start_session().await?, client.start_session().await?);
        let more = doc! {"$inc": {"times": 1}};
        for session in [&mut first, &mut second] {
            session.start_transaction().await?;
        }
        hot.update_one(doc! {"_id": 1}, more.clone()).session(&mut first).await?;
        let conflict = hot.update_one(doc! {"_id": 1}, more).session(&mut second).await;
        ensure!(conflict.is_err(), "two transactions have changed one document");
        let commit = async {
            // Longer than the server's threshold for slow operations.
            tokio::time::sleep(Duration::from_millis(300)).await;
            first.commit_transaction().await
        };
        // This command needs an exclusive lock, and waits for it until the transaction has ended.
        let alter = doc! {"collMod": hot.name(), "validationLevel": "strict"};
        let (committed, altered) = tokio::join!(commit, database.run_command(alter));
        committed?;
        altered?;
        let _ = second.abort_transaction().await;
    }
}

/// Waits until each query that must have a result has one.
async fn every_query_answers(prometheus: &Prometheus) {
    let recorded = recorded();
    let mut missing: Vec<_> = pages().iter().flat_map(|page| expected(&page.panels(), &recorded)).collect();
    assert!(missing.len() > 200, "only {} queries are asked", missing.len());
    wait::until_within(LIMIT, "all panels to have data", async || {
        let mut silent = Vec::new();
        for (place, query) in &missing {
            let samples = prometheus.query(query).await?;
            // Grafana draws nothing for NaN.
            if samples.iter().all(|sample| sample.value.is_nan()) {
                silent.push((place.clone(), query.clone()));
            }
        }
        missing = silent;
        ensure!(missing.is_empty(), "{missing:#?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The queries that must have a result here, each with its location. A panel that only counts errors has another
/// query that counts everything.
fn expected(panels: &[Panel<'_>], recorded: &std::collections::BTreeSet<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels {
        let queries: Vec<_> =
            panel.queries().iter().map(|query| sent(query, OPERATION, "1m", "5m")).collect();
        for query in &queries {
            let uses = promql::check(query, recorded).unwrap();
            let elsewhere =
                uses.metrics.iter().filter_map(|name| txnscope_catalog::find(name)).any(|metric| {
                    matches!(metric.presence(), Presence::Mongos | Presence::Server7 | Presence::Ingress)
                });
            let of_errors = query.contains("_errors_total") && query.ends_with("> 0") && queries.len() > 1;
            if !elsewhere && !of_errors {
                found.push((panel.place.clone(), query.clone()));
            }
        }
    }
    found
}
