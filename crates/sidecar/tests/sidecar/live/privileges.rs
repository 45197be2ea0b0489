//! Missing privileges cost their own part, and the message says what to do.

use mongodb::Client;
use mongodb::bson::{Bson, doc};
use testkit::{ReplicaSet, wait};
use txnscope_sidecar::live::{MemberStatus, Part};
use txnscope_sidecar::{CollectorSettings, privileges};

use super::{client, fill, monitor, monitor_with, options, report_where, transaction};

pub(super) async fn create_user(client: &Client, name: &str, actions: &[&str]) {
    let admin = client.database("admin");
    let privileges = vec![doc! {"resource": {"cluster": true}, "actions": actions.to_vec()}];
    let none = Vec::<Bson>::new();
    admin.run_command(doc! {"createRole": name, "privileges": privileges, "roles": none}).await.unwrap();
    admin.run_command(doc! {"createUser": name, "pwd": "pass-of-ours", "roles": [name]}).await.unwrap();
}

pub(super) fn uri(set: &ReplicaSet, user: &str) -> String {
    format!("mongodb://{user}:pass-of-ours@{}/?replicaSet={}", set.addresses().join(","), set.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_cost_their_own_part() {
    let set = options(1).auth().start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    let _open = transaction(&shop, "orders").await;
    let role = privileges(&CollectorSettings::default());
    let cluster: Vec<_> = role.iter().flat_map(|privilege| privilege.actions.clone()).collect();
    create_user(&shop, "whole", &cluster).await;
    create_user(&shop, "status", &["serverStatus"]).await;
    create_user(&shop, "operations", &["inprog"]).await;
    for (user, missing, transactions, has_rates) in [
        ("whole", &[][..], 1, true),
        ("status", &[Part::Operations], 0, true),
        ("operations", &[Part::Rates, Part::Locks], 1, false),
    ] {
        let monitor = monitor(&uri(&set, user)).await;
        monitor.wait_for_members(wait::LIMIT).await;
        let report = report_where(&monitor, "an answer", |report| {
            report.members.first().is_some_and(|member| member.rates.is_some() == has_rates)
        })
        .await;
        let member = &report.members[0];
        let parts: Vec<_> = member.missing.iter().map(|missing| missing.part).collect();
        assert_eq!((member.state, parts.as_slice()), (MemberStatus::Answers, missing), "{user}");
        let says = |text: &str| member.missing.iter().all(|missing| missing.message.contains(text));
        assert!(says("`txnscope role`"), "{:?}", member.missing);
        assert_eq!(report.transactions.len(), transactions, "{user}");
        monitor.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_that_does_not_answer_costs_the_names_of_operations() {
    let set = options(1).start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    let _open = transaction(&shop, "orders").await;
    // It accepts connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let table = format!("http://{}/-/transactions", silent.local_addr().unwrap());
    let monitor = monitor_with(&set.uri(), wait::LIMIT, vec![table]).await;
    let report = report_where(&monitor, "the transaction", |report| report.transactions.len() == 1).await;
    assert_eq!(report.transactions[0].operation, None);
    let missing: Vec<_> = report.members[0].missing.iter().map(|missing| missing.part).collect();
    assert_eq!(missing, [Part::OperationNames]);
    monitor.shutdown().await;
}
