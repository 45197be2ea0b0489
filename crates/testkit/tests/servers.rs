//! The test kit against the servers that it starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use anyhow::{Result, anyhow};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use rustix::process::{Pid, test_kill_process};
use testkit::{FailPoint, Port, Prometheus, ProxyMode, ReplicaSet, ReplicaSetOptions, ScrapeJob, wait};

async fn commit_one(client: &Client) -> Result<()> {
    let jobs = client.database("kit").collection::<Document>("jobs");
    jobs.insert_one(doc! {"outside": true}).await?;
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    jobs.insert_one(doc! {"inside": true}).session(&mut session).await?;
    session.commit_transaction().await?;
    Ok(())
}

fn runs(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap()).is_ok()
}

#[tokio::test]
async fn single_member_set_commits_and_stops_on_drop() {
    let set = ReplicaSet::start(1).await.unwrap();
    commit_one(&set.client().await.unwrap()).await.unwrap();
    let status = set.members()[0].admin(doc! {"serverStatus": 1}).await.unwrap();
    assert_eq!(status.get_document("transactions").unwrap().get_i64("totalCommitted").unwrap(), 1);
    let pid = set.members()[0].pid();
    assert!(runs(pid));
    drop(set);
    assert!(!runs(pid), "mongod outlived its owner");
}

#[tokio::test]
async fn killed_primary_is_replaced_and_rejoins() {
    let options = ReplicaSetOptions::new(3).election_timeout(Duration::from_secs(1));
    let mut set = options.start().await.unwrap();
    let old = set.primary().await.unwrap();
    set.member_mut(old).kill().await.unwrap();
    let new = set.primary().await.unwrap();
    assert_ne!(new, old);
    commit_one(&set.client().await.unwrap()).await.unwrap();
    set.member_mut(old).restart().await.unwrap();
    let third = set.step_up_another().await.unwrap();
    assert_ne!(third, new);
}

#[tokio::test]
async fn failpoint_fires_for_its_application_only() {
    let set = ReplicaSet::start(1).await.unwrap();
    let (admin, hit, spared) = (
        set.client().await.unwrap(),
        set.client_named("hit").await.unwrap(),
        set.client_named("spared").await.unwrap(),
    );
    let data = doc! {"failCommands": ["insert"], "errorCode": 121};
    let failpoint = FailPoint::fail_command(&admin, "hit", data).await.unwrap();
    assert!(commit_one(&hit).await.is_err());
    commit_one(&spared).await.unwrap();
    failpoint.off().await.unwrap();
    commit_one(&hit).await.unwrap();
}

#[tokio::test]
async fn authentication_is_required() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    commit_one(&set.client().await.unwrap()).await.unwrap();
    let stranger = set.members()[0].client().await.unwrap();
    assert!(commit_one(&stranger).await.is_err());
}

#[tokio::test]
async fn paused_server_responds_after_resume() {
    let set = ReplicaSet::start(1).await.unwrap();
    let member = &set.members()[0];
    let client = member.client().await.unwrap();
    let ping = || async { client.database("admin").run_command(doc! {"ping": 1}).await };
    ping().await.unwrap();
    member.pause().unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(300), ping()).await.is_err(),
        "a paused server responded"
    );
    member.resume().unwrap();
    wait::until("a response after resuming", async || Ok(ping().await?)).await.unwrap();
}

/// The members know each other by their proxies as well, so that the set holds together through them.
#[tokio::test]
async fn proxy_holds_back_one_application_only() {
    let mut set = ReplicaSetOptions::new(1).proxied().start().await.unwrap();
    assert_eq!(set.addresses(), [set.proxies()[0].address().to_string()]);
    let (held, other) = (set.client_named("held").await.unwrap(), set.client_named("other").await.unwrap());
    let ping = async |client: &mongodb::Client| client.database("admin").run_command(doc! {"ping": 1}).await;
    ping(&held).await.unwrap();
    set.proxies()[0].set_for("held", ProxyMode::HoldAll);
    ping(&other).await.unwrap();
    let limit = Duration::from_millis(300);
    assert!(tokio::time::timeout(limit, ping(&held)).await.is_err(), "a held request was answered");
    set.proxies()[0].set(ProxyMode::Forward);
    wait::until("a response", async || Ok(ping(&held).await?)).await.unwrap();

    set.member_mut(0).restart().await.unwrap();
    set.wait_in_sync().await.unwrap();
    commit_one(&set.client().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn failpoint_counts_how_often_it_fired() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client_named("counted").await.unwrap();
    let data = doc! {"failCommands": ["ping"], "errorCode": 8000};
    for times in [1, 2] {
        let failpoint =
            FailPoint::fail_command(&set.client().await.unwrap(), "counted", data.clone()).await.unwrap();
        for _ in 0..times {
            client.database("admin").run_command(doc! {"ping": 1}).await.unwrap_err();
        }
        failpoint.fired(Duration::from_secs(1)).await.unwrap();
        assert_eq!(failpoint.count().await.unwrap(), times);
    }
    let idle = FailPoint::fail_command(&set.client().await.unwrap(), "idle", data).await.unwrap();
    assert!(idle.fired(Duration::from_millis(100)).await.is_err());
}

#[tokio::test]
async fn prometheus_scrapes_itself() {
    let port = Port::reserve().unwrap();
    let jobs = [ScrapeJob { name: "itself".into(), target: port.address() }];
    let prometheus = Prometheus::start_on(port, &jobs).await.unwrap();
    wait::until("its first scrape of itself", async || {
        match prometheus.value("up{job=\"itself\"}").await? {
            1.0 => Ok(()),
            up => Err(anyhow!("up is {up}")),
        }
    })
    .await
    .unwrap();
    assert!(prometheus.query("up{").await.is_err());
}

#[tokio::test]
async fn alertmanager_accepts_alert() {
    let config = "route: {receiver: none}\nreceivers: [{name: none}]\n";
    let alertmanager = testkit::Alertmanager::start(config).await.unwrap();
    let alert = serde_json::json!([{"labels": {"alertname": "Test"}}]);
    alertmanager.send(&alert).await.unwrap();
    wait::until("the alert", async || match alertmanager.alerts().await?.len() {
        1 => Ok(()),
        n => Err(anyhow!("there are {n}")),
    })
    .await
    .unwrap();
    assert!(testkit::Alertmanager::start("route: {}").await.is_err(), "a configuration without receiver");
}

#[tokio::test]
async fn promtool_accepts_valid_and_rejects_invalid_page() {
    testkit::promtool::check_metrics("# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total 1\n")
        .await
        .unwrap();
    let bad = "# HELP jobs Jobs.\n# TYPE jobs counter\njobs 1\n";
    assert!(testkit::promtool::check_metrics(bad).await.unwrap_err().to_string().contains("_total"));
}
