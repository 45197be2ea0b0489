//! Members with unusual addresses: each one that the deployment names is on the page.

use testkit::{FakeMember, ReplicaSetOptions};

use super::fakes::{healthy, member, primary, states, succeed, up};
use crate::common::COLLECTORS;
use crate::common::{page_where, sidecar, url};

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_members_are_monitored() {
    let set = ReplicaSetOptions::new(3).ipv6().start().await.unwrap();
    let addresses = set.addresses();
    assert!(addresses.iter().all(|address| address.starts_with("[::1]:")), "{addresses:?}");
    // One URI with an IPv6 address, and one with an IPv4 address.
    for seed in [addresses[1].clone(), set.members()[0].address()] {
        let sidecar = sidecar(&format!("mongodb://{seed}/?replicaSet=rs0")).await;
        page_where(&sidecar, "three members up", |page| {
            let all = addresses.iter().all(|address| {
                up(page, address) == Some(1.0)
                    && !states(page, address).is_empty()
                    && succeed(page, address) == COLLECTORS
            });
            all && page.matching("mongodb_up", &[]).count() == 3
        })
        .await;
        assert!(reqwest::get(url(&sidecar, "/-/ready")).await.unwrap().status().is_success());
        sidecar.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_uri_monitors_its_member() {
    let fake = FakeMember::start_ipv6().await.unwrap();
    let address = fake.address();
    fake.answer(healthy(member(&address, &[&address], "primary"), 1));
    for uri in [format!("mongodb://{address}/?directConnection=true"), format!("mongodb://{address}/")] {
        let sidecar = sidecar(&uri).await;
        page_where(&sidecar, "the member", |page| {
            up(page, &address) == Some(1.0) && states(page, &address) == ["primary"]
        })
        .await;
        sidecar.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn undialable_members_are_down() {
    let (fake, mut who) = primary().await;
    let address = fake.address();
    let long = format!("{}.example:27017", "a".repeat(300));
    let invalid = [
        "",
        ":27017",
        "db1:",
        "db1:0",
        "db1:70000",
        "db1:x",
        "db1:1:2",
        "[::1",
        "[db1]:1",
        "[::1]x:1",
        "/tmp/mongodb-27017.sock",
        "user@db1:1",
        "db 1:1",
        "db\u{1b}[2J:1",
        "db\"1\n:1",
        &long,
    ];
    let hosts: Vec<_> = std::iter::once(address.as_str()).chain(invalid).collect();
    who.insert("hosts", hosts);
    fake.answer(healthy(who, 1));
    let sidecar = sidecar(&format!("mongodb://{address}/")).await;
    let page = page_where(&sidecar, "every member that the set names", |page| {
        page.matching("mongodb_up", &[]).count() == 1 + invalid.len() && up(page, &address) == Some(1.0)
    })
    .await;
    for series in page.matching("mongodb_up", &[("rs", "rs0")]) {
        let name = &series.labels["member"];
        assert_eq!(series.value, f64::from(u8::from(*name == address)), "{name:?}");
        assert!(!name.is_empty() && name.len() < 300, "{name:?}");
        assert!(name.chars().all(|c| c.is_ascii_graphic()), "{name:?} can be printed");
    }
    let ready = reqwest::get(url(&sidecar, "/-/ready")).await.unwrap();
    assert!(ready.status().is_success());
    assert!(ready.text().await.unwrap().contains("db1:70000: down"));
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malicious_member_list_is_limited() {
    let (fake, mut who) = primary().await;
    let address = fake.address();
    let named: Vec<_> = (0..5_000).map(|index| format!("db 0{index}:1")).collect();
    who.insert("hosts", std::iter::once(address.clone()).chain(named).collect::<Vec<_>>());
    fake.answer(healthy(who, 1));
    let sidecar = sidecar(&format!("mongodb://{address}/")).await;
    let page = page_where(&sidecar, "as many as a set can have", |page| {
        page.matching("mongodb_up", &[]).count() == txnscope_catalog::MAX_PEERS
            && up(page, &address) == Some(1.0)
    })
    .await;
    assert_eq!(page.sum("mongodb_up", &[]), 1.0);
    sidecar.shutdown().await;
}

/// The set's own name for a member cannot be reached from here; a host of the URI leads to a member under
/// another name.
#[tokio::test(flavor = "multi_thread")]
async fn member_alias_is_exported_once() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let other = FakeMember::start().await.unwrap();
    other.answer(healthy(who, 1));
    let sidecar = sidecar(&format!("mongodb://{},{address}/", other.address())).await;
    page_where(&sidecar, "the member, by the name that the set has for it", |page| {
        page.matching("mongodb_up", &[]).count() == 1 && up(page, &address) == Some(1.0)
    })
    .await;
    sidecar.shutdown().await;
}
