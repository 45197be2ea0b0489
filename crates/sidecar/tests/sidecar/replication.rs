//! Replication metrics: states, elections, lag, and the lifetime limit.

use mongodb::bson::doc;
use testkit::{ReplicaSet, Scrape};

use crate::common::{everything, page_where, prepare, sidecar_with, total};

const STATE: &str = "mongodb_replication_member_state";

fn is_in(page: &Scrape, state: &str) -> f64 {
    page.sum(STATE, &[("state", state)])
}

#[tokio::test(flavor = "multi_thread")]
async fn election_and_winner_are_exported() {
    const WON: &str = "mongodb_replication_elections_won_total";
    let set = ReplicaSet::start(3).await.unwrap();
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    let limit = "mongodb_transaction_lifetime_limit_seconds";
    let before = page_where(&sidecar, "a primary and two secondaries", |page| {
        is_in(page, "primary") == 1.0
            && is_in(page, "secondary") == 2.0
            && total(page, limit) == 3.0 * 60.0
            && page.family(WON).is_some()
    })
    .await;

    let next = set.step_up_another().await.unwrap();
    let winner = set.members()[next].address();
    let cause = [("member", winner.as_str()), ("cause", "step_up_command")];
    let term = |page: &Scrape| page.sum("mongodb_replication_term", &[("member", &winner)]);
    page_where(&sidecar, "another primary, elected by command, in a later term", |page| {
        page.value(STATE, &[("member", &winner), ("state", "primary")]) == Some(1.0)
            && is_in(page, "primary") == 1.0
            && page.sum(WON, &cause) - before.sum(WON, &cause) == 1.0
            && term(page) > term(&before)
    })
    .await;
    page_where(&sidecar, "who stepped down", |page| {
        total(page, "mongodb_replication_step_downs_total") == 1.0
    })
    .await;

    set.members()[next].admin(doc! {"setParameter": 1, "transactionLifetimeLimitSeconds": 30}).await.unwrap();
    page_where(&sidecar, "the new limit", |page| page.value(limit, &[("member", &winner)]) == Some(30.0))
        .await;
    sidecar.shutdown().await;
}

/// The member that hangs cannot report its lag. The primary can.
#[tokio::test(flavor = "multi_thread")]
async fn lag_of_a_hung_member_is_exported_by_the_primary() {
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    let primary = set.primary().await.unwrap();
    let (primary, hung) = (set.members()[primary].address(), &set.members()[(primary + 1) % 3]);
    let peer = hung.address();
    let who = [("member", primary.as_str()), ("peer", peer.as_str())];
    page_where(&sidecar, "all in touch", |page| {
        page.value("mongodb_replication_peer_up", &who) == Some(1.0)
            && page.value("mongodb_replication_peer_lag_seconds", &who).is_some()
            && page.family("mongodb_replication_oplog_window_seconds").is_some()
            && page.family("mongodb_replication_majority_lag_seconds").is_some()
    })
    .await;
    hung.pause().unwrap();
    let test = client.database("test");
    let page = testkit::wait::until("a lag of two seconds", async || {
        test.collection("c").insert_one(doc! {"n": 1}).await?;
        let page = crate::common::scrape(&sidecar).await?;
        let lag = page.value("mongodb_replication_peer_lag_seconds", &who);
        let up = page.value("mongodb_replication_peer_up", &who);
        anyhow::ensure!(lag > Some(2.0) && up == Some(0.0), "{lag:?}, {up:?}");
        Ok(page)
    })
    .await
    .unwrap();
    assert_eq!(page.value("mongodb_replication_lag_seconds", &[("member", &primary)]), Some(0.0));
    assert_eq!(page.value("mongodb_replication_lag_seconds", &[("member", &peer)]), None, "it is silent");
    hung.resume().unwrap();
    page_where(&sidecar, "in touch again", |page| {
        page.value("mongodb_replication_peer_up", &who) == Some(1.0)
            && page.value("mongodb_replication_lag_seconds", &[("member", &peer)]).is_some()
    })
    .await;
    sidecar.shutdown().await;
}
