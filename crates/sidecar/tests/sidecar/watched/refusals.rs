//! Commands that hosted servers refuse permanently: they do not count as failures, and are not repeated.

use std::collections::BTreeMap;

use mongodb::bson::{Document, doc};
use testkit::fake_member::{error_reply, hello_reply, is_hello};
use testkit::{FakeMember, wait};

use super::fakes::{ERRORS, healthy, primary, succeed, up};
use crate::common::{COLLECTORS, everything, frequent, page_where, patient_sidecar, sidecar, sidecar_with};

/// The commands of the collectors, without those that identify the server.
const ASKED: [&str; 6] = ["serverStatus", "replSetGetStatus", "aggregate", "getParameter", "getLog", "find"];

/// Waits until the member was sent `hello` this many times, which bounds how often it could have been sent
/// anything else.
async fn rounds(fake: &FakeMember, many: u64) {
    let before = fake.count("hello");
    wait::until("more rounds", async || {
        anyhow::ensure!(fake.count("hello") >= before + many, "{:?}", fake.commands());
        Ok(())
    })
    .await
    .unwrap();
}

async fn is_asked_once_and_fails_nothing(refused: Document) {
    let (fake, who) = primary().await;
    let address = fake.address();
    fake.answer(move |command, _| {
        Some(if is_hello(command) { hello_reply(who.clone()) } else { refused.clone() })
    });
    let sidecar = patient_sidecar(&format!("mongodb://{address}/"), everything()).await;
    let collectors = COLLECTORS + 2.0;
    page_where(&sidecar, "a member that is up, and no failure", |page| {
        up(page, &address) == Some(1.0) && succeed(page, &address) == collectors
    })
    .await;
    let before: BTreeMap<_, _> = ASKED.map(|command| (command, fake.count(command))).into();
    rounds(&fake, 40).await;
    for (command, before) in before {
        assert!(
            fake.count(command) <= before.max(1) + 1,
            "{command} is asked in a loop: {:?}",
            fake.commands()
        );
    }
    let page = page_where(&sidecar, "no failure", |page| {
        succeed(page, &address) == collectors && up(page, &address) == Some(1.0)
    })
    .await;
    assert_eq!(page.sum(ERRORS, &[]), 0.0);
    sidecar.shutdown().await;
}

macro_rules! refused_for_good {
    ($($name:ident: $code:literal, $code_name:literal, $message:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            is_asked_once_and_fails_nothing(error_reply($code, $code_name, $message)).await;
        }
    )*};
}

refused_for_good! {
    an_atlas_shared_tier_that_refuses_with_8000_fails_nothing:
        8000, "AtlasError", "(AtlasError) serverStatus is not allowed in this atlas tier";
    a_documentdb_that_refuses_with_303_fails_nothing: 303, "", "Feature not supported: serverStatus";
    a_documentdb_that_refuses_a_stage_with_304_fails_nothing: 304, "", "Aggregation stage not supported: '$currentOp'";
    a_server_that_has_not_implemented_it_and_refuses_with_238_fails_nothing: 238, "NotImplemented", "not implemented";
    a_server_under_the_strict_stable_api_that_refuses_with_323_fails_nothing:
        323, "APIStrictError", "Provided apiStrict:true, but the command serverStatus is not in API Version 1";
    a_cosmos_that_refuses_with_115_fails_nothing: 115, "CommandNotSupported", "Command is not supported.";
    a_server_that_does_not_know_the_command_fails_nothing: 59, "CommandNotFound", "no such command";
}

#[tokio::test(flavor = "multi_thread")]
async fn error_without_code_is_not_a_failure() {
    is_asked_once_and_fails_nothing(doc! {"ok": 0.0, "errmsg": "no such thing here"}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongos_error_without_code_is_not_a_failure() {
    let fake = FakeMember::start().await.unwrap();
    let address = fake.address();
    let answers = healthy(doc! {"msg": "isdbgrid", "isWritablePrimary": true}, 1);
    fake.answer(move |command, document| match command {
        "replSetGetStatus" => Some(doc! {
            "ok": 0.0, "errmsg": "replSetGetStatus is not supported through mongos", "info": "mongos",
        }),
        "getParameter" => Some(error_reply(72, "InvalidOptions", "no option found to get")),
        "serverStatus" => {
            let mut status = answers(command, document)?;
            status.remove("repl");
            status.insert("process", "mongos");
            Some(status)
        }
        _ => answers(command, document),
    });
    let sidecar = patient_sidecar(&format!("mongodb://{address}/"), frequent()).await;
    page_where(&sidecar, "no failure", |page| succeed(page, &address) == COLLECTORS).await;
    let asked = fake.count("replSetGetStatus");
    rounds(&fake, 40).await;
    assert!(fake.count("replSetGetStatus") <= asked + 1, "{:?}", fake.commands());
    let page = page_where(&sidecar, "its counters", |page| {
        page.value("mongodb_transactions_started_total", &[("rs", "")]) == Some(7.0)
    })
    .await;
    assert_eq!(page.sum(ERRORS, &[]), 0.0);
    sidecar.shutdown().await;
}

/// A missing privilege may be granted: the command is repeated, and fails meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn command_denied_for_missing_privilege_is_retried() {
    let (fake, who) = primary().await;
    let address = fake.address();
    let answers = healthy(who.clone(), 1);
    fake.answer(move |command, document| match command {
        "getParameter" => Some(error_reply(13, "Unauthorized", "not authorized on admin")),
        _ => answers(command, document),
    });
    let sidecar = sidecar_with(&format!("mongodb://{address}/"), everything()).await;
    let denied = [("collector", "parameters"), ("reason", "permission_denied")];
    page_where(&sidecar, "refusals", |page| page.sum(ERRORS, &denied) > 3.0).await;
    fake.answer(healthy(who, 1));
    page_where(&sidecar, "the limit", |page| {
        page.family("mongodb_transaction_lifetime_limit_seconds").is_some()
    })
    .await;
    sidecar.shutdown().await;
}

/// A command that a member refuses in one state is repeated in another.
#[tokio::test(flavor = "multi_thread")]
async fn command_refused_in_one_state_is_retried_in_another() {
    let (fake, mut who) = primary().await;
    let address = fake.address();
    who.extend(doc! {"isWritablePrimary": false, "ismaster": false});
    let recovering = healthy(who.clone(), 3);
    fake.answer(move |command, document| match command {
        "aggregate" => Some(error_reply(13436, "NotPrimaryOrSecondary", "node is recovering")),
        _ => recovering(command, document),
    });
    let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    page_where(&sidecar, "no failure", |page| succeed(page, &address) == COLLECTORS).await;
    let asked = fake.count("aggregate");
    rounds(&fake, 20).await;
    assert!(fake.count("aggregate") <= asked + 1, "{:?}", fake.commands());
    who.insert("secondary", true);
    fake.answer(healthy(who, 2));
    page_where(&sidecar, "what is open", |page| {
        page.family("mongodb_transactions_oldest_open_seconds").is_some()
    })
    .await;
    sidecar.shutdown().await;
}
