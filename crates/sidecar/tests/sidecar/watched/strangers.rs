//! Another server at a member's address: none of its numbers are exported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::bson::doc;
use testkit::fake_member::{hello_reply, is_hello};
use testkit::{FakeMember, ReplicaSet};

use super::fakes::{
    ERRORS, MISMATCH, STATE, has_numbers, healthy, member, member_of, primary, states, succeed, up,
};
use crate::common::{COLLECTORS, page_where, sidecar};

/// One of three monitored members dies, and another server takes its port.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_a_member_address_is_down() {
    let mut set = ReplicaSet::start(3).await.unwrap();
    let addresses = set.addresses();
    let primary = set.primary().await.unwrap();
    let victim = addresses[primary].clone();
    let sidecar = sidecar(&set.uri()).await;
    page_where(&sidecar, "all up", |page| {
        addresses.iter().all(|address| succeed(page, address) == COLLECTORS)
    })
    .await;
    set.member_mut(primary).kill().await.unwrap();
    page_where(&sidecar, "it is down", |page| up(page, &victim) == Some(0.0)).await;

    let stranger = FakeMember::listen(&victim).await.unwrap();
    let alone = doc! {"isWritablePrimary": true};
    let strangers = [
        ("a primary of another set", member_of("rs1", &victim, &[&victim], "primary"), 1),
        ("a primary of another set of the same name", member(&victim, &[&victim, "other:1"], "primary"), 1),
        ("a member that has another name", member("other:1", &["other:1", &addresses[0]], "primary"), 1),
        ("a standalone", alone, 1),
        ("a mongos", doc! {"msg": "isdbgrid", "isWritablePrimary": true}, 1),
    ];
    for (who, answer, state) in strangers {
        stranger.answer(healthy(answer, state));
        let before =
            crate::common::scrape(&sidecar).await.unwrap().sum(ERRORS, &[("member", &victim), MISMATCH]);
        let page = page_where(&sidecar, who, |page| {
            // The member's own numbers are exported until they are three intervals old.
            page.sum(ERRORS, &[("member", &victim), MISMATCH]) > before + 10.0 && !has_numbers(page, &victim)
        })
        .await;
        assert_eq!(up(&page, &victim), Some(0.0), "{who}");
        assert_eq!(succeed(&page, &victim), 0.0, "{who}");
        assert_eq!(page.matching("mongodb_up", &[("rs", "rs0")]).count(), 3, "{who}");
        assert_eq!(page.matching("mongodb_up", &[]).count(), 3, "{who}");
        let primaries = page.matching(STATE, &[("state", "primary")]).filter(|series| series.value == 1.0);
        assert!(primaries.count() <= 1, "{who}: its state is not the set's");
    }
    drop(stranger);
    set.member_mut(primary).restart().await.unwrap();
    page_where(&sidecar, "the member itself", |page| {
        up(page, &victim) == Some(1.0)
            && succeed(page, &victim) == COLLECTORS
            && !states(page, &victim).is_empty()
    })
    .await;
    sidecar.shutdown().await;
}

/// The other server answers on the member's existing connections, and only to commands that do not identify it.
#[tokio::test(flavor = "multi_thread")]
async fn every_reply_is_verified() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    page_where(&sidecar, "the member", |page| succeed(page, &address) == COLLECTORS).await;
    let stranger = healthy(member_of("rs1", &address, &[&address], "primary"), 1);
    let own = healthy(who, 1);
    // The reply that identifies the server seems to come from the member. It has an open transaction: without one, `$currentOp`
    // is not sent, and cannot fail.
    fake.answer(move |command, document| {
        if command != "serverStatus" {
            return stranger(command, document);
        }
        let mut status = own(command, document)?;
        status.get_document_mut("transactions").unwrap().insert("currentInactive", 1_i64);
        Some(status)
    });
    let page = page_where(&sidecar, "only what says whose it is", |page| {
        let failed = |collector| page.sum(ERRORS, &[("collector", collector), MISMATCH]) > 0.0;
        failed("replication")
            && failed("current_op")
            && failed("parameters")
            && page.family(STATE).is_none()
            && page.family("mongodb_transaction_lifetime_limit_seconds").is_none()
    })
    .await;
    assert_eq!(page.sum(ERRORS, &[("collector", "storage_engine"), MISMATCH]), 0.0);
    sidecar.shutdown().await;
}

/// The process is another at each `hello`: no reply is bracketed by two of one process.
#[tokio::test(flavor = "multi_thread")]
async fn reply_between_two_processes_is_discarded() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let own = healthy(who.clone(), 1);
    let changing = Arc::new(AtomicBool::new(false));
    let changes = Arc::clone(&changing);
    let lone = address.clone();
    fake.answer(move |command, document| {
        let another = || member(&lone, &[&lone], "primary");
        match command {
            _ if !changes.load(Ordering::Relaxed) => own(command, document),
            command if is_hello(command) => Some(hello_reply(another())),
            _ => healthy(another(), 1)(command, document),
        }
    });
    let sidecar = sidecar(&format!("mongodb://{address}/")).await;
    page_where(&sidecar, "the member", |page| succeed(page, &address) == COLLECTORS).await;
    changing.store(true, Ordering::Relaxed);
    page_where(&sidecar, "nothing", |page| {
        succeed(page, &address) == 0.0 && page.sum(ERRORS, &[("reason", "network")]) > 5.0
    })
    .await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn member_restarted_as_standalone_is_down() {
    let (fake, who) = primary().await;
    let address = fake.address();
    for uri in [format!("mongodb://{address}/"), format!("mongodb://{address}/?replicaSet=rs0")] {
        fake.answer(healthy(who.clone(), 1));
        let sidecar = sidecar(&uri).await;
        page_where(&sidecar, "a member of the set", |page| states(page, &address) == ["primary"]).await;
        fake.answer(healthy(doc! {"isWritablePrimary": true}, 1));
        let page = page_where(&sidecar, "a member that is down", |page| {
            up(page, &address) == Some(0.0) && !has_numbers(page, &address)
        })
        .await;
        assert!(page.sum(ERRORS, &[("rs", "rs0"), MISMATCH]) > 0.0);
        fake.answer(healthy(who.clone(), 1));
        page_where(&sidecar, "the member again", |page| succeed(page, &address) == COLLECTORS).await;
        sidecar.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone_in_place_of_required_set_is_down() {
    let fake = FakeMember::start().await.unwrap();
    let address = fake.address();
    fake.answer(healthy(doc! {"isWritablePrimary": true}, 1));
    let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    let page =
        page_where(&sidecar, "a stranger", |page| page.sum(ERRORS, &[("rs", "rs0"), MISMATCH]) > 5.0).await;
    assert_eq!(up(&page, &address), Some(0.0));
    assert!(!has_numbers(&page, &address));
    sidecar.shutdown().await;
}
