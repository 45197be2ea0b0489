//! Discovery: from one URI to the current members.

use mongodb::bson::{Document, doc};
use testkit::{ReplicaSet, Scrape, wait};

use crate::common::{open_transaction, page_where, prepare, reconfigure, sidecar, total};

/// The members on the page, and whether each is up.
fn members(page: &Scrape) -> Vec<(String, bool)> {
    let series = page.matching("mongodb_up", &[("rs", "rs0")]);
    series.map(|series| (series.labels["member"].clone(), series.value == 1.0)).collect()
}

fn sorted(set: &ReplicaSet, is_up: impl Fn(&str) -> bool) -> Vec<(String, bool)> {
    let addresses = set.members().iter().map(testkit::Mongod::address);
    let mut members: Vec<_> = addresses.map(|address| (address.clone(), is_up(&address))).collect();
    members.sort();
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seed_discovers_all_members() {
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    // Under a name that differs from the one in the set.
    let seed = set.members()[0].address().replace("127.0.0.1", "localhost");
    let sidecar = sidecar(&format!("mongodb://{seed}/")).await;
    let all = sorted(&set, |_| true);
    page_where(&sidecar, "three members", |page| members(page) == all).await;

    let mut open = open_transaction(&client).await;
    let primary = set.members()[set.primary().await.unwrap()].address();
    let page =
        page_where(&sidecar, "the transaction", |page| total(page, "mongodb_transactions_open") == 1.0).await;
    let on_primary = page.sum("mongodb_transactions_open", &[("member", &primary)]);
    assert_eq!(on_primary, 1.0, "only the primary counts");
    open.abort_transaction().await.unwrap();

    let hung = set.members().iter().find(|member| member.address() != primary).unwrap();
    hung.pause().unwrap();
    let all_but_one = sorted(&set, |address| address != hung.address());
    page_where(&sidecar, "one of them down", |page| members(page) == all_but_one).await;
    hung.resume().unwrap();
    page_where(&sidecar, "three members again", |page| members(page) == all).await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_connection_monitors_one_member() {
    let set = ReplicaSet::start(3).await.unwrap();
    let given = set.members()[1].address().replace("127.0.0.1", "localhost");
    let sidecar = sidecar(&format!("mongodb://{given}/?directConnection=true")).await;
    page_where(&sidecar, "the member, with its set", |page| members(page) == [(given.clone(), true)]).await;
    sidecar.shutdown().await;
}

fn is_at(member: &Document, address: &str) -> bool {
    member.get_str("host").is_ok_and(|host| host == address)
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_and_leaving_members_are_monitored() {
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    // The URI names only a member that stays.
    let primary = set.members()[set.primary().await.unwrap()].address();
    let sidecar = sidecar(&format!("mongodb://{primary}/?replicaSet=rs0")).await;
    let all = sorted(&set, |_| true);
    page_where(&sidecar, "three members", |page| members(page) == all).await;

    let leaver = all.iter().map(|(address, _)| address).find(|address| **address != primary).unwrap();
    reconfigure(&client, |members| members.retain(|member| !is_at(member, leaver))).await;
    let page = page_where(&sidecar, "two members", |page| members(page).len() == 2).await;
    assert!(page.matching("txnscope_poll_errors_total", &[("member", leaver)]).next().is_none());

    let returns = doc! {"_id": 7, "host": leaver};
    reconfigure(&client, |members| members.push(returns.clone())).await;
    page_where(&sidecar, "three members again", |page| members(page) == all).await;
    sidecar.shutdown().await;
}

/// Not listed by the other members, but by the URI.
#[tokio::test(flavor = "multi_thread")]
async fn hidden_member_in_the_uri_is_monitored() {
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    let primary = set.members()[set.primary().await.unwrap()].address();
    let hidden = set.members().iter().map(testkit::Mongod::address).find(|one| *one != primary).unwrap();
    reconfigure(&client, |members| {
        let member = members.iter_mut().find(|member| is_at(member, &hidden)).unwrap();
        member.extend(doc! {"hidden": true, "priority": 0});
    })
    .await;
    wait::until("a hidden member", async || {
        let hello = client.database("admin").run_command(doc! {"hello": 1}).await?;
        anyhow::ensure!(hello.get_array("hosts")?.len() == 2, "{hello}");
        Ok(())
    })
    .await
    .unwrap();
    let listed = sidecar(&set.uri()).await;
    let all = sorted(&set, |_| true);
    page_where(&listed, "three members", |page| members(page) == all).await;
    let unlisted = sidecar(&format!("mongodb://{primary}/")).await;
    let but_for_one: Vec<_> = all.into_iter().filter(|(address, _)| *address != hidden).collect();
    page_where(&unlisted, "two members", |page| members(page) == but_for_one).await;
    listed.shutdown().await;
    unlisted.shutdown().await;
}
