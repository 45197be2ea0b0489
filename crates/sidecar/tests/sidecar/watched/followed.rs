//! Changes of the deployment at runtime: followed, or logged.

use mongodb::bson::doc;
use testkit::fake_member::error_reply;
use testkit::{FakeMember, Mongod, ReplicaSet, wait};

use super::fakes::{ERRORS, MISMATCH, has_numbers, healthy, member, member_of, primary, states, succeed, up};
use crate::common::{COLLECTORS, page_where, reconfigure, sidecar};

/// The others do not list it, and it was another server to them when it was first asked.
#[tokio::test(flavor = "multi_thread")]
async fn hidden_member_added_later_is_monitored() {
    let set = ReplicaSet::start(1).await.unwrap();
    let server = Mongod::uninitiated(None).await.unwrap();
    let late = server.address();
    let client = set.client().await.unwrap();
    let sidecar = sidecar(&format!("mongodb://{},{late}/?replicaSet=rs0", set.addresses()[0])).await;
    page_where(&sidecar, "one that belongs to no set yet", |page| states(page, &late) == ["startup"]).await;
    reconfigure(&client, |members| {
        members.push(doc! {"_id": 9, "host": &late, "hidden": true, "priority": 0, "votes": 0});
    })
    .await;
    page_where(&sidecar, "a hidden member", |page| {
        states(page, &late) == ["secondary"] && succeed(page, &late) == COLLECTORS
    })
    .await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_set_is_monitored_or_reported() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let renamed = member_of("rs1", &address, &[&address], "primary");
    let free = sidecar(&format!("mongodb://{address}/")).await;
    let demanding = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    for sidecar in [&free, &demanding] {
        page_where(sidecar, "the set", |page| page.value("mongodb_up", &[("rs", "rs0")]) == Some(1.0)).await;
    }
    fake.answer(healthy(renamed, 1));
    // The URI does not name the set.
    page_where(&free, "the set by its new name", |page| {
        page.value("mongodb_up", &[("rs", "rs1")]) == Some(1.0)
            && page.matching("mongodb_up", &[]).count() == 1
            && succeed(page, &address) == COLLECTORS
    })
    .await;
    let page = page_where(&demanding, "another set than the URI demands", |page| {
        page.sum(ERRORS, &[("rs", "rs0"), MISMATCH]) > 5.0 && !has_numbers(page, &address)
    })
    .await;
    assert_eq!(up(&page, &address), Some(0.0));
    fake.answer(healthy(who, 1));
    page_where(&demanding, "the set again", |page| succeed(page, &address) == COLLECTORS).await;
    free.shutdown().await;
    demanding.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reinitiated_set_is_monitored() {
    let (fake, mut who) = primary().await;
    let (address, gone) = (fake.address(), FakeMember::start().await.unwrap());
    who.extend(doc! {"hosts": [&address, gone.address()], "setVersion": 7});
    fake.answer(healthy(who, 1));
    gone.answer(healthy(member(&gone.address(), &[&address, &gone.address()], "secondary"), 2));
    let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    page_where(&sidecar, "both", |page| page.sum("mongodb_up", &[]) == 2.0).await;
    let new = FakeMember::start().await.unwrap();
    let hosts = [address.as_str(), &new.address()];
    fake.answer(healthy(member(&address, &hosts, "primary"), 1));
    new.answer(healthy(member(&new.address(), &hosts, "secondary"), 2));
    drop(gone);
    page_where(&sidecar, "the members of the new set", |page| {
        page.matching("mongodb_up", &[]).count() == 2
            && states(page, &address) == ["primary"]
            && states(page, &new.address()) == ["secondary"]
    })
    .await;
    sidecar.shutdown().await;
}

/// `hello` was added in 4.4.2.
#[tokio::test(flavor = "multi_thread")]
async fn server_without_hello_is_monitored_with_is_master() {
    let fakes = [FakeMember::start().await.unwrap(), FakeMember::start().await.unwrap()];
    let addresses = [fakes[0].address(), fakes[1].address()];
    let hosts = [addresses[0].as_str(), addresses[1].as_str()];
    for (fake, (role, state)) in fakes.iter().zip([("primary", 1), ("secondary", 2)]) {
        let mut who = member(&fake.address(), &hosts, role);
        for unknown in ["isWritablePrimary", "topologyVersion"] {
            who.remove(unknown);
        }
        let answers = healthy(who, state);
        fake.answer(move |command, document| match command {
            "hello" => Some(error_reply(59, "CommandNotFound", "no such command: 'hello'")),
            _ => {
                let mut reply = answers(command, document)?;
                reply.remove("helloOk");
                Some(reply)
            }
        });
    }
    let sidecar = sidecar(&format!("mongodb://{}/?replicaSet=rs0", addresses[0])).await;
    page_where(&sidecar, "both members", |page| {
        states(page, &addresses[0]) == ["primary"]
            && states(page, &addresses[1]) == ["secondary"]
            && addresses.iter().all(|address| succeed(page, address) == COLLECTORS)
    })
    .await;
    let asked = fakes[1].count("isMaster");
    wait::until("more rounds", async || {
        anyhow::ensure!(fakes[1].count("isMaster") > asked + 20);
        Ok(())
    })
    .await
    .unwrap();
    assert!(fakes[1].count("hello") < 10, "it is asked again and again: {:?}", fakes[1].commands());
    sidecar.shutdown().await;
}

/// A host of the URI that never answers is down, and stays on the page.
#[tokio::test(flavor = "multi_thread")]
async fn unlisted_uri_host_is_down() {
    let (fake, _) = primary().await;
    let unreachable = testkit::Port::reserve().unwrap();
    let sidecar = sidecar(&format!("mongodb://{},{}/", fake.address(), unreachable.address())).await;
    page_where(&sidecar, "both", |page| {
        up(page, &fake.address()) == Some(1.0) && up(page, &unreachable.address()) == Some(0.0)
    })
    .await;
    sidecar.shutdown().await;
}
