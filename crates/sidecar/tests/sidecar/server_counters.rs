//! The effects of real transactions on the metrics page.

use anyhow::ensure;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use testkit::{FailPoint, ReplicaSet, Scrape, promtool, wait};
use txnscope_catalog::{self as catalog, Emitter, Presence, Values};

use crate::common::{
    COLLECTORS, everything, frequent, open_transaction, page_where, patient_sidecar, prepare, scrape,
    sidecar, sidecar_with, total, url,
};

const STARTED: &str = "mongodb_transactions_started_total";
const COMMITTED: &str = "mongodb_transactions_committed_total";
const ABORTED: &str = "mongodb_transactions_aborted_total";
const OPEN: &str = "mongodb_transactions_open";
const OLDEST: &str = "mongodb_transactions_oldest_open_seconds";

#[tokio::test(flavor = "multi_thread")]
async fn commit_and_abort_move_their_counters() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar(&set.uri()).await;
    let before = page_where(&sidecar, "the first poll", |page| page.family(STARTED).is_some()).await;
    let moved = |page: &Scrape, name: &str| total(page, name) - total(&before, name);

    for _ in 0..3 {
        open_transaction(&client).await.commit_transaction().await.unwrap();
    }
    for _ in 0..2 {
        open_transaction(&client).await.abort_transaction().await.unwrap();
    }
    let mut open = open_transaction(&client).await;
    let page = page_where(&sidecar, "six transactions", |page| moved(page, STARTED) == 6.0).await;
    assert_eq!(moved(&page, COMMITTED), 3.0);
    assert_eq!(moved(&page, ABORTED), 2.0);
    assert_eq!(page.sum(OPEN, &[("state", "inactive")]), 1.0);
    assert_eq!(page.sum(OPEN, &[("state", "active")]), 0.0);
    let ended = total(&page, COMMITTED) + total(&page, ABORTED);
    assert_eq!(total(&page, STARTED), ended + total(&page, OPEN));
    assert_eq!(total(&page, "mongodb_transaction_duration_seconds_count"), ended);
    assert_eq!(total(&page, "mongodb_last_committed_transaction_operations"), 1.0);

    open.commit_transaction().await.unwrap();
    let page = page_where(&sidecar, "the last commit", |page| moved(page, COMMITTED) == 4.0).await;
    assert_eq!(total(&page, OPEN), 0.0);
    // Without open transactions no `$currentOp` is sent, and the age is zero.
    page_where(&sidecar, "no open transaction", |page| {
        page.family(OLDEST).is_some() && total(page, OLDEST) == 0.0
    })
    .await;
    sidecar.shutdown().await;
}

/// The page has exactly the catalog's metrics, and Prometheus's own checker accepts it.
#[tokio::test(flavor = "multi_thread")]
async fn page_matches_the_catalog() {
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    open_transaction(&client).await.commit_transaction().await.unwrap();
    let mut open = open_transaction(&client).await;
    // With an entry in the profiler of each member, the metrics by namespace have series.
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    let mut members = Vec::new();
    for member in set.members() {
        let client = member.client().await.unwrap();
        client.database("test").run_command(doc! {"profile": 2}).await.unwrap();
        members.push(client);
    }
    let promised = catalog::emitted_by(Emitter::Sidecar)
        .filter(|metric| matches!(metric.presence(), Presence::Always | Presence::OptionalCollector));
    let promised: Vec<_> = promised.collect();
    let text = wait::until("every metric of three members", async || {
        for member in &members {
            member.database("test").collection::<Document>("c").find_one(doc! {}).await?;
        }
        let text = reqwest::get(url(&sidecar, "/metrics")).await?.text().await?;
        let page = Scrape::parse(&text)?;
        let missing: Vec<_> = promised.iter().filter(|metric| page.family(metric.name).is_none()).collect();
        let up = page.sum("mongodb_up", &[]);
        ensure!(
            missing.is_empty() && up == 3.0 && page.sum(OLDEST, &[]) > 0.0,
            "{up} up, missing {missing:?}"
        );
        Ok(text)
    });
    let text = text.await.unwrap();
    promtool::check_metrics(&text).await.unwrap();
    let page = Scrape::parse(&text).unwrap();
    for family in page.families() {
        let metric = catalog::find(&family.name).unwrap_or_else(|| panic!("{} is no entry", family.name));
        assert!(metric.is_emitted_by(Emitter::Sidecar), "{}", metric.name);
        assert_eq!(family.help, metric.help);
        assert_eq!(format!("{:?}", family.kind).to_lowercase(), metric.kind.as_str(), "{}", metric.name);
        for series in &family.series {
            let mut labels = series.labels.clone();
            labels.remove("le");
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
            for label in metric.labels {
                let value = &labels[label.name];
                if let Values::Closed(values) = label.values {
                    assert!(values.contains(&value.as_str()), "{}: {value}", metric.name);
                }
                assert!(label.name != "rs" || value == set.name(), "{}: {value}", metric.name);
            }
        }
    }
    let info = page.matching("mongodb_info", &[("process", "mongod"), ("storage_engine", "wiredTiger")]);
    assert_eq!(info.count(), 3);
    // A reason that has not occurred is exported as zero, so that its first occurrence is an increase. No
    // backend is configured, so one collector is off.
    assert_eq!(
        page.matching("txnscope_poll_errors_total", &[]).count(),
        3 * (catalog::COLLECTORS.len() - 1) * catalog::POLL_ERROR_REASONS.len()
    );
    assert_eq!(page.sum("txnscope_series_dropped_total", &[]), 0.0);
    open.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_transaction_age_is_exported() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar(&set.uri()).await;
    let began = tokio::time::Instant::now();
    let mut session = open_transaction(&client).await;
    let inactive = [("state", "inactive")];
    let page = page_where(&sidecar, "an age of a second", |page| page.sum(OLDEST, &inactive) >= 1.0).await;
    assert!(page.sum(OLDEST, &inactive) <= began.elapsed().as_secs_f64(), "older than the test");
    assert_eq!(page.sum(OLDEST, &[("state", "active")]), 0.0);
    session.abort_transaction().await.unwrap();
    page_where(&sidecar, "its end", |page| page.family(OLDEST).is_some() && total(page, OLDEST) == 0.0).await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_conflicts_inside_and_outside_transactions_are_distinguished() {
    const INSIDE: &str = "mongodb_wiredtiger_update_conflicts_total";
    const OUTSIDE: &str = "mongodb_operation_write_conflicts_total";
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar(&set.uri()).await;
    let before = page_where(&sidecar, "the first poll", |page| page.family(INSIDE).is_some()).await;

    let hot: Collection<Document> = client.database("test").collection("c");
    let (one, more) = (doc! {"_id": "hot"}, doc! {"$inc": {"n": 1}});
    let mut winner = client.start_session().await.unwrap();
    winner.start_transaction().await.unwrap();
    hot.update_one(one.clone(), more.clone()).session(&mut winner).await.unwrap();
    let mut loser = client.start_session().await.unwrap();
    loser.start_transaction().await.unwrap();
    let lost = hot.update_one(one.clone(), more.clone()).session(&mut loser).await;
    assert!(lost.unwrap_err().contains_label("TransientTransactionError"));

    let moved = |page: &Scrape, name: &str| total(page, name) - total(&before, name);
    let page = page_where(&sidecar, "the conflict", |page| moved(page, INSIDE) == 1.0).await;
    assert_eq!(moved(&page, OUTSIDE), 0.0, "the server did not retry it");

    let outside = tokio::spawn({
        let (hot, one, more) = (hot.clone(), one.clone(), more.clone());
        async move { hot.update_one(one, more).await }
    });
    // The storage engine counts each conflict as it happens; the server adds up those of an operation when it
    // ends.
    page_where(&sidecar, "conflicts outside", |page| moved(page, INSIDE) >= 5.0).await;
    winner.commit_transaction().await.unwrap();
    outside.await.unwrap().unwrap();
    // Each counter comes from a collector of its own; once both were polled, only the conflict inside is left.
    page_where(&sidecar, "the retries, and the one inside", |page| {
        moved(page, OUTSIDE) > 0.0 && moved(page, INSIDE) - moved(page, OUTSIDE) == 1.0
    })
    .await;
    sidecar.shutdown().await;
}

/// The initial connections suffice, also while transactions are open and `$currentOp` is polled.
#[tokio::test(flavor = "multi_thread")]
async fn polling_opens_no_new_connections() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let mut open = open_transaction(&client).await;
    let sidecar = sidecar(&set.uri()).await;
    page_where(&sidecar, "every collector", |page| page.sum("txnscope_poll_success", &[]) == COLLECTORS)
        .await;
    let connections = async |what: &str| {
        let status = client.database("admin").run_command(doc! {"serverStatus": 1}).await.unwrap();
        let connections = status.get_document("connections").unwrap();
        connections.get_i32(what).map(i64::from).or_else(|_| connections.get_i64(what)).unwrap()
    };
    let ours = async || {
        let pipeline = [
            doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
            doc! {"$match": {"appName": "txnscope"}},
            doc! {"$group": {"_id": "$connectionId"}},
            doc! {"$count": "n"},
        ];
        let mut counted = client.database("admin").aggregate(pipeline).await.unwrap();
        assert!(counted.advance().await.unwrap());
        counted.deserialize_current().unwrap().get_i32("n").unwrap()
    };
    let before = connections("totalCreated").await;
    let uptime = |page: &Scrape| total(page, "mongodb_uptime_seconds");
    let began = uptime(&scrape(&sidecar).await.unwrap());
    // Fifteen polls of the status, and five of the storage engine.
    page_where(&sidecar, "three seconds of polls", |page| uptime(page) >= began + 3.0).await;
    assert_eq!(connections("totalCreated").await, before);
    let ours = ours().await;
    assert!(
        (1..=3).contains(&ours),
        "{ours} connections: two pooled and one of the driver's monitor at most"
    );
    open.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}

/// A failpoint on the sidecar's own commands shows that a failing collector costs only its own families.
#[tokio::test(flavor = "multi_thread")]
async fn failing_command_costs_its_own_families() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let mut open = open_transaction(&client).await;
    let sidecar = patient_sidecar(&set.uri(), frequent()).await;
    page_where(&sidecar, "the age", |page| total(page, OLDEST) > 0.0).await;
    let data = doc! {"failCommands": ["aggregate"], "errorCode": 8};
    let failing = FailPoint::fail_command(&client, "txnscope", data).await.unwrap();
    let reason = [("collector", "current_op"), ("reason", "command_failed")];
    let page = page_where(&sidecar, "the failure, and its families gone from a member that is up", |page| {
        page.sum("txnscope_poll_errors_total", &reason) > 0.0
            && page.family(OLDEST).is_none()
            && total(page, "mongodb_up") == 1.0
    })
    .await;
    assert_eq!(page.sum("txnscope_poll_success", &[("collector", "current_op")]), 0.0);
    assert_eq!(page.sum("txnscope_poll_success", &[("collector", "server_status")]), 1.0);
    assert_eq!(total(&page, OPEN), 1.0);
    failing.off().await.unwrap();
    page_where(&sidecar, "the age again", |page| total(page, OLDEST) > 0.0).await;
    open.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn current_op_is_not_sent_without_open_transactions() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = patient_sidecar(&set.uri(), frequent()).await;
    let page = page_where(&sidecar, "the first answer", |page| page.family(OLDEST).is_some()).await;
    let began = total(&page, "mongodb_uptime_seconds");

    // Every later `$currentOp` fails.
    let data = doc! {"failCommands": ["aggregate"], "errorCode": 8};
    let failing = FailPoint::fail_command(&client, "txnscope", data).await.unwrap();
    let later = |page: &Scrape| total(page, "mongodb_uptime_seconds") > began + 2.0;
    let page = page_where(&sidecar, "ten polls of the status", later).await;
    assert_eq!(page.sum("txnscope_poll_errors_total", &[]), 0.0);
    assert_eq!(page.sum("txnscope_poll_success", &[("collector", "current_op")]), 1.0);

    let mut open = open_transaction(&client).await;
    let asked = [("collector", "current_op"), ("reason", "command_failed")];
    page_where(&sidecar, "the question", |page| page.sum("txnscope_poll_errors_total", &asked) > 0.0).await;
    failing.off().await.unwrap();
    open.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}
