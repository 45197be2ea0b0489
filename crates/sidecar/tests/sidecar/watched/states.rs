//! Members in every state: the state is exported, and metrics that it cannot have are no failures.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use testkit::fake_member::error_reply;
use testkit::{Mongod, ReplicaSetOptions, wait};

use super::fakes::{ERRORS, SUCCESS, healthy, member, primary, states, succeed, up};
use crate::common::{COLLECTORS, everything, frequent, page_where, patient_sidecar, sidecar, sidecar_with};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_state_is_exported_by_protocol_number() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    for (number, name) in [
        (0, "startup"),
        (1, "primary"),
        (2, "secondary"),
        (3, "recovering"),
        (5, "startup2"),
        (6, "unknown"),
        (7, "arbiter"),
        (8, "down"),
        (9, "rollback"),
        (10, "removed"),
    ] {
        fake.answer(healthy(who.clone(), number));
        page_where(&sidecar, name, |page| states(page, &address) == [name]).await;
    }
    fake.answer(healthy(who, 4));
    let dropped = [("collector", "replication")];
    let page = page_where(&sidecar, "a number that is no state", |page| {
        page.sum("txnscope_series_dropped_total", &dropped) > 0.0
    })
    .await;
    assert!(states(&page, &address).is_empty(), "{:?}", states(&page, &address));
    sidecar.shutdown().await;
}

fn is_at(member: &Document, address: &str) -> bool {
    member.get_str("host").is_ok_and(|host| host == address)
}

/// A real set of each version: a primary, a member that recovers and is then removed, and an arbiter.
async fn states_of_a_real_set(version: Option<&str>) {
    let mut options = ReplicaSetOptions::new(3).arbiter();
    if let Some(version) = version {
        options = options.version(version);
    }
    let set = options.start().await.unwrap();
    let primary = set.primary().await.unwrap();
    let (arbiter, other) = (&set.members()[2], &set.members()[1 - primary]);
    let (arbiter, name) = (arbiter.address(), other.address());
    let primary = &set.members()[primary];
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    let collectors = COLLECTORS + 2.0;
    page_where(&sidecar, "the arbiter's state, and no failure", |page| {
        states(page, &arbiter) == ["arbiter"] && succeed(page, &arbiter) == collectors
    })
    .await;
    page_where(&sidecar, "the secondary", |page| states(page, &name) == ["secondary"]).await;

    wait::until("maintenance", async || Ok(other.admin(doc! {"replSetMaintenance": 1}).await.map(drop)?))
        .await
        .unwrap();
    page_where(&sidecar, "a member that recovers, and no failure", |page| {
        states(page, &name) == ["recovering"] && succeed(page, &name) == collectors
    })
    .await;
    other.admin(doc! {"replSetMaintenance": 0}).await.unwrap();
    page_where(&sidecar, "the secondary again", |page| {
        states(page, &name) == ["secondary"]
            && page.matching("mongodb_transactions_oldest_open_seconds", &[("member", &name)]).count() > 0
    })
    .await;

    let config = primary.admin(doc! {"replSetGetConfig": 1}).await.unwrap();
    let mut config = config.get_document("config").unwrap().clone();
    let members = config.get_array("members").unwrap().iter().filter_map(|member| member.as_document());
    let members: Vec<_> = members.filter(|member| !is_at(member, &name)).cloned().collect();
    config.insert("members", members);
    config.insert("version", config.get_i32("version").unwrap() + 1);
    primary.admin(doc! {"replSetReconfig": config, "force": true}).await.unwrap();
    let page = page_where(&sidecar, "a removed member that the URI lists, and no failure", |page| {
        states(page, &name) == ["removed"] && succeed(page, &name) == collectors
    })
    .await;
    assert_eq!(up(&page, &name), Some(1.0));
    let failed = page.matching(ERRORS, &[("reason", "command_failed")]).filter(|series| series.value > 0.0);
    assert_eq!(failed.map(|series| series.labels.clone()).collect::<Vec<_>>(), []);
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arbiter_recovering_and_removed_states_are_exported() {
    states_of_a_real_set(None).await;
}

/// Before 5.0 all of `serverStatus` is refused with 17347 where there is no oplog.
#[tokio::test(flavor = "multi_thread")]
async fn arbiter_recovering_and_removed_states_of_4_4_are_exported() {
    states_of_a_real_set(Some("4.4.2")).await;
}

async fn not_initiated(version: Option<&str>) {
    let mongod = Mongod::uninitiated(version).await.unwrap();
    let address = mongod.address();
    for uri in [format!("mongodb://{address}/?replicaSet=rs0"), mongod.uri()] {
        let sidecar = patient_sidecar(&uri, frequent()).await;
        let page = page_where(&sidecar, "a member of no set yet, and no failure", |page| {
            states(page, &address) == ["startup"]
                && succeed(page, &address) == COLLECTORS
                && up(page, &address) == Some(1.0)
        })
        .await;
        assert_eq!(page.sum(ERRORS, &[]), 0.0);
        sidecar.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uninitiated_set_is_in_startup_without_failures() {
    not_initiated(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uninitiated_set_of_4_4_is_in_startup_without_failures() {
    not_initiated(Some("4.4.2")).await;
}

/// An arbiter has no users, so it is polled without credentials.
#[tokio::test(flavor = "multi_thread")]
async fn arbiter_with_authentication_is_up() {
    let options = ReplicaSetOptions::new(3).arbiter().auth().election_timeout(Duration::from_secs(1));
    let set = options.start().await.unwrap();
    let arbiter = set.members()[2].address();
    let direct = set.uri().split_once('@').unwrap().0.to_owned();
    for uri in [set.uri(), format!("{direct}@{arbiter}/?directConnection=true")] {
        let sidecar = sidecar(&uri).await;
        page_where(&sidecar, "the arbiter's state, and no failure", |page| {
            up(page, &arbiter) == Some(1.0)
                && states(page, &arbiter) == ["arbiter"]
                && succeed(page, &arbiter) == COLLECTORS
        })
        .await;
        sidecar.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn member_state_is_exported_when_server_status_is_refused() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let answers = healthy(who.clone(), 2);
    fake.answer(move |command, document| match command {
        "serverStatus" => Some(error_reply(13, "Unauthorized", "not authorized on admin")),
        _ => answers(command, document),
    });
    let sidecar = sidecar(&format!("mongodb://{address}/")).await;
    let replication = [("collector", "replication")];
    let page = page_where(&sidecar, "the state, and the refusal", |page| {
        states(page, &address) == ["secondary"] && page.value(SUCCESS, &replication) == Some(0.0)
    })
    .await;
    let denied = [("collector", "replication"), ("reason", "permission_denied")];
    assert!(page.sum(ERRORS, &denied) > 0.0);

    let answers = healthy(who, 3);
    fake.answer(move |command, document| match command {
        "serverStatus" if document.contains_key("oplog") => {
            Some(error_reply(17347, "Location17347", "Problem reading earliest entry from oplog"))
        }
        _ => answers(command, document),
    });
    page_where(&sidecar, "what an older server without an oplog can tell", |page| {
        states(page, &address) == ["recovering"]
            && page.value("mongodb_replication_step_downs_total", &[]) == Some(3.0)
            && succeed(page, &address) == COLLECTORS
    })
    .await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_arbiter_is_exported() {
    let (fake, mut who) = primary().await;
    let arbiter = testkit::FakeMember::start().await.unwrap();
    let (address, of_arbiter) = (fake.address(), arbiter.address());
    who.insert("arbiters", vec![&of_arbiter]);
    let mut own = member(&of_arbiter, &[&address], "arbiter");
    own.extend(doc! {"arbiters": [&of_arbiter], "arbiterOnly": true});
    fake.answer(healthy(who, 1));
    arbiter.answer(healthy(own, 7));
    let sidecar = sidecar(&format!("mongodb://{address}/")).await;
    page_where(&sidecar, "both", |page| {
        states(page, &address) == ["primary"] && states(page, &of_arbiter) == ["arbiter"]
    })
    .await;
    drop(arbiter);
    page_where(&sidecar, "an arbiter that is down", |page| up(page, &of_arbiter) == Some(0.0)).await;
    sidecar.shutdown().await;
}
