//! The printed role is sufficient and minimal for all collectors.

use std::collections::BTreeSet;

use mongodb::Database;
use mongodb::bson::{Bson, doc};
use testkit::{ReplicaSetOptions, Scrape};
use txnscope_catalog::COLLECTORS;
use txnscope_sidecar::{Privilege, privileges, privileges_by_collector};

use crate::common::{everything, open_transaction, page_where, patient_sidecar, prepare};

const ERRORS: &str = "txnscope_poll_errors_total";
const DENIED: (&str, &str) = ("reason", "permission_denied");

/// Pasted into a shell.
async fn grant(admin: &Database, verb: &str, privileges: &[Privilege]) {
    let printed: Vec<_> = privileges.iter().map(ToString::to_string).collect();
    let printed: serde_json::Value = serde_json::from_str(&format!("[{}]", printed.join(","))).unwrap();
    let privileges = mongodb::bson::serialize_to_bson(&printed).unwrap();
    let mut command = doc! {verb: "txnscope", "privileges": privileges};
    if verb == "createRole" {
        command.insert("roles", Vec::<Bson>::new());
    }
    admin.run_command(command).await.unwrap();
}

fn failing(page: &Scrape) -> BTreeSet<&'static str> {
    let fails =
        |collector: &&&str| page.value("txnscope_poll_success", &[("collector", **collector)]) == Some(0.0);
    COLLECTORS.iter().filter(fails).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_role_is_sufficient_and_minimal() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let (admin, settings) = (client.database("admin"), everything());
    let whole = privileges(&settings);
    grant(&admin, "createRole", &whole).await;
    let user = doc! {"createUser": "txnscope", "pwd": "pass-of-ours", "roles": ["txnscope"]};
    admin.run_command(user).await.unwrap();
    // While a transaction is open, every collector is polled each time.
    let mut open = open_transaction(&client).await;

    let hosts = set.members()[0].address();
    let uri = format!("mongodb://txnscope:pass-of-ours@{hosts}/?replicaSet={}", set.name());
    let sidecar = patient_sidecar(&uri, settings.clone()).await;
    let all: BTreeSet<_> =
        privileges_by_collector(&settings).into_iter().map(|(collector, _)| collector).collect();
    let succeed = |page: &Scrape| {
        let outcomes = page.matching("txnscope_poll_success", &[]);
        outcomes.filter(|series| series.value == 1.0).count() == all.len()
    };
    let page = page_where(&sidecar, "every collector", succeed).await;
    assert_eq!(page.sum(ERRORS, &[]), 0.0, "nothing was ever refused");

    for (index, privilege) in whole.iter().enumerate() {
        for action in &privilege.actions {
            let mut part = whole.clone();
            part[index].actions.retain(|other| other != action);
            part.retain(|privilege| !privilege.actions.is_empty());
            grant(&admin, "updateRole", &part).await;
            let needs = |(_, needed): &&(&str, Privilege)| {
                needed.resource == privilege.resource && needed.actions.contains(action)
            };
            let by_source = privileges_by_collector(&settings);
            let expected: BTreeSet<_> =
                by_source.iter().filter(needs).map(|(collector, _)| *collector).collect();
            assert!(!expected.is_empty(), "no collector needs {action}");
            let what = format!("without {action}: {expected:?}");
            page_where(&sidecar, &what, |page| failing(page) == expected).await;
            grant(&admin, "updateRole", &whole).await;
            let page = page_where(&sidecar, "every collector again", succeed).await;
            assert_eq!(page.sum(ERRORS, &[]), page.sum(ERRORS, &[DENIED]), "all failures were refusals");
            assert!(
                expected.iter().all(|collector| page.sum(ERRORS, &[("collector", collector), DENIED]) > 0.0)
            );
        }
    }
    open.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}
