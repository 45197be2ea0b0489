//! Members that hang, die, are unreachable, or return errors. The page stays available, fast and accurate.

use std::time::Duration;

use mongodb::bson::doc;
use testkit::{Mongod, Port, ReplicaSet, ReplicaSetOptions, promtool, wait};

use crate::common::{
    COLLECTORS, frequent, open_transaction, page_where, patient_sidecar, prepare, scrape, sidecar, total, url,
};

const STARTED: &str = "mongodb_transactions_started_total";
const OLDEST: &str = "mongodb_transactions_oldest_open_seconds";
const ERRORS: &str = "txnscope_poll_errors_total";

#[tokio::test(flavor = "multi_thread")]
async fn hung_member_is_down_until_resumed() {
    let set = ReplicaSet::start(1).await.unwrap();
    let sidecar = sidecar(&set.uri()).await;
    page_where(&sidecar, "every collector", |page| page.sum("txnscope_poll_success", &[]) == COLLECTORS)
        .await;
    let member = &set.members()[0];

    member.pause().unwrap();
    let page = page_where(&sidecar, "down, and nothing stale", |page| {
        total(page, "mongodb_up") == 0.0 && page.family(STARTED).is_none()
    })
    .await;
    let address = member.address();
    let who = [("rs", set.name()), ("member", address.as_str())];
    assert_eq!(page.value("mongodb_up", &who), Some(0.0), "it is still known by name");
    assert!(page.family("mongodb_info").is_none());
    page_where(&sidecar, "the reason", |page| page.sum(ERRORS, &[("reason", "timeout")]) > 0.0).await;
    // A scrape never waits for a member: many concurrent scrapes are answered while every poll hangs.
    let scrapes = (0..50).map(|_| scrape(&sidecar));
    let pages = futures_util::future::try_join_all(scrapes);
    tokio::time::timeout(wait::LIMIT, pages).await.expect("scrapes wait for MongoDB").unwrap();
    let ready = reqwest::get(url(&sidecar, "/-/ready")).await.unwrap();
    assert!(ready.status().is_success());
    assert!(ready.text().await.unwrap().contains("down"));

    member.resume().unwrap();
    page_where(&sidecar, "all of it again", |page| {
        total(page, "mongodb_up") == 1.0
            && page.family(STARTED).is_some()
            && page.sum("txnscope_poll_success", &[]) == COLLECTORS
    })
    .await;
    sidecar.shutdown().await;
}

/// The member hangs, and its kernel's accept queue is full.
#[tokio::test(flavor = "multi_thread")]
async fn member_with_full_accept_queue_is_down() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let set = ReplicaSet::start(1).await.unwrap();
    let member = &set.members()[0];
    let watching = sidecar(&set.uri()).await;
    page_where(&watching, "the member up", |page| total(page, "mongodb_up") == 1.0).await;

    member.pause().unwrap();
    let mut waiting = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(member.address());
        match tokio::time::timeout(Duration::from_millis(500), connect).await {
            Ok(connection) => waiting.push(connection.unwrap()),
            Err(_) => break,
        }
    }
    let late = sidecar(&set.uri()).await;
    for sidecar in [&watching, &late] {
        page_where(sidecar, "down, and nothing stale", |page| {
            let down = page.value("mongodb_up", &[]) == Some(0.0) && page.family(STARTED).is_none();
            down && page.sum(ERRORS, &[]) > 0.0
        })
        .await;
        let text = reqwest::get(url(sidecar, "/metrics")).await.unwrap().text().await.unwrap();
        promtool::check_metrics(&text).await.unwrap();
    }

    drop(waiting);
    member.resume().unwrap();
    for sidecar in [&watching, &late] {
        page_where(sidecar, "all of it again", |page| page.sum("txnscope_poll_success", &[]) == COLLECTORS)
            .await;
    }
    watching.shutdown().await;
    late.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_member_counters_start_at_zero() {
    let mut set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    open_transaction(&client).await.commit_transaction().await.unwrap();
    let sidecar = sidecar(&set.uri()).await;
    page_where(&sidecar, "a transaction", |page| total(page, STARTED) > 0.0).await;

    set.member_mut(0).kill().await.unwrap();
    page_where(&sidecar, "down, and every collector failed", |page| {
        page.value("mongodb_up", &[]) == Some(0.0)
            && page.sum("txnscope_poll_success", &[]) == 0.0
            && page.family(STARTED).is_none()
    })
    .await;
    promtool::check_metrics(&reqwest::get(url(&sidecar, "/metrics")).await.unwrap().text().await.unwrap())
        .await
        .unwrap();

    set.member_mut(0).restart().await.unwrap();
    let page = page_where(&sidecar, "up again", |page| {
        total(page, "mongodb_up") == 1.0 && page.family(STARTED).is_some()
    })
    .await;
    assert_eq!(total(&page, STARTED), 0.0, "a reset is a reset");
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_database_at_startup_is_retried() {
    let mut set = ReplicaSet::start(1).await.unwrap();
    set.member_mut(0).kill().await.unwrap();
    let sidecar = sidecar(&set.uri()).await;
    let page =
        page_where(&sidecar, "a member that is down", |page| page.family("mongodb_up").is_some()).await;
    let (name, address) = (set.name().to_owned(), set.members()[0].address());
    let who = [("rs", name.as_str()), ("member", address.as_str())];
    assert_eq!(page.value("mongodb_up", &who), Some(0.0), "the URI names the set and the member");
    set.member_mut(0).restart().await.unwrap();
    page_where(&sidecar, "up", |page| page.value("mongodb_up", &who) == Some(1.0)).await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone_has_no_replication_metrics() {
    let mongod = Mongod::standalone().await.unwrap();
    let sidecar = sidecar(&format!("mongodb://{}/", mongod.address())).await;
    let address = mongod.address();
    let page = page_where(&sidecar, "every collector", |page| {
        page.sum("txnscope_poll_success", &[]) == COLLECTORS
            && page.value("mongodb_up", &[("rs", ""), ("member", &address)]) == Some(1.0)
    })
    .await;
    assert_eq!(total(&page, STARTED), 0.0);
    sidecar.shutdown().await;
}

/// With `serverStatus` and without `inprog`, only the metrics of `$currentOp` are missing, and the page says
/// why, before any transaction is open. Once the privilege is granted, they appear.
#[tokio::test(flavor = "multi_thread")]
async fn missing_privilege_costs_its_own_families_and_is_reported() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let admin = client.database("admin");
    let actions = |actions: &[&str]| vec![doc! {"resource": {"cluster": true}, "actions": actions.to_vec()}];
    let least = ["getParameter", "replSetGetStatus", "serverStatus"];
    let role = doc! {"createRole": "poller", "privileges": actions(&least), "roles": []};
    admin.run_command(role).await.unwrap();
    admin
        .run_command(doc! {"createUser": "txnscope", "pwd": "pass-of-ours", "roles": ["poller"]})
        .await
        .unwrap();

    let hosts = set.members()[0].address();
    let uri = format!("mongodb://txnscope:pass-of-ours@{hosts}/?replicaSet={}", set.name());
    let sidecar = patient_sidecar(&uri, frequent()).await;
    let denied = [("collector", "current_op"), ("reason", "permission_denied")];
    let page = page_where(&sidecar, "the refusal, and every other collector", |page| {
        page.sum(ERRORS, &denied) > 1.0
            && page.sum("txnscope_poll_success", &[]) == COLLECTORS - 1.0
            && total(page, "mongodb_up") == 1.0
    })
    .await;
    assert_eq!(page.sum(ERRORS, &[]), page.sum(ERRORS, &denied), "nothing else has failed");
    assert!(page.family(OLDEST).is_none() && page.family(STARTED).is_some());

    let more = doc! {"updateRole": "poller", "privileges": actions(&["serverStatus", "inprog"])};
    admin.run_command(more).await.unwrap();
    let mut open = open_transaction(&client).await;
    page_where(&sidecar, "the age", |page| total(page, OLDEST) > 0.0).await;

    // The reverse case: the status is denied, which is a reply, and other collectors go on.
    let other = doc! {"updateRole": "poller", "privileges": actions(&["inprog"])};
    admin.run_command(other).await.unwrap();
    // While polls are late, the status is gone as well, but then the member is down.
    page_where(&sidecar, "the status gone, of a member that is up", |page| {
        page.family(STARTED).is_none() && total(page, "mongodb_up") == 1.0
    })
    .await;
    page_where(&sidecar, "the age all the same", |page| total(page, OLDEST) > 0.0).await;
    open.abort_transaction().await.unwrap();

    for path in ["/metrics", "/", "/-/ready"] {
        let text = reqwest::get(url(&sidecar, path)).await.unwrap().text().await.unwrap();
        assert!(!text.contains("pass-of-ours"), "{path}");
    }
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_reported() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let uri = set.uri().replace("the-password-of-root", "wrong");
    let sidecar = sidecar(&uri).await;
    let reason = [("collector", "server_status"), ("reason", "authentication")];
    let page = page_where(&sidecar, "the refusal", |page| page.sum(ERRORS, &reason) > 1.0).await;
    assert_eq!(total(&page, "mongodb_up"), 0.0);
    assert_eq!(page.value("mongodb_up", &[("rs", set.name())]), Some(0.0));
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unresolvable_srv_name_is_down_and_retried() {
    let sidecar = sidecar("mongodb+srv://cluster.txnscope.invalid/").await;
    let page = page_where(&sidecar, "the name, down", |page| page.family("mongodb_up").is_some()).await;
    assert_eq!(page.value("mongodb_up", &[("member", "cluster.txnscope.invalid")]), Some(0.0));
    page_where(&sidecar, "another try", |page| page.sum(ERRORS, &[("collector", "server_status")]) > 1.0)
        .await;
    sidecar.shutdown().await;
}

#[tokio::test]
async fn invalid_configuration_is_rejected_at_startup() {
    use txnscope_sidecar::{Config, Sidecar};
    let refused = async |uri: &str| {
        let mut config = Config::new(uri);
        config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
        let error = Sidecar::start(config).await.expect_err(uri);
        assert!(error.is_misuse(), "{uri}: {error}");
        let text = error.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        text
    };
    let port = Port::reserve().unwrap();
    refused("mongodb://user:hunter2/@host/").await;
    refused("mongodb://user:hunter2@a,b/?directConnection=true").await;
    let text = refused(&format!("mongodb://127.0.0.1:{port}/?tls=true&tlsCAFile=/nowhere/ca.pem")).await;
    assert!(text.contains("tlsCAFile") && !text.contains("nowhere"), "{text}");
}
