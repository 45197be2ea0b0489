//! Before MongoDB 5.0 there are no snapshots outside of a transaction: the checks read majority-committed data.

use mongodb::bson::{Bson, doc};
use testkit::ReplicaSetOptions;
use txnscope_checks::repair::{RepairOutcome, Repairer, plan, undo};

use super::fixtures::{Fixtures, Found, audit, checks};

#[tokio::test(flavor = "multi_thread")]
async fn audit_and_repair_work_on_old_servers() {
    let fixtures = Fixtures::on(ReplicaSetOptions::new(1).version("4.4.2").start().await.unwrap()).await;
    let info = fixtures.database.run_command(doc! {"buildInfo": 1}).await.unwrap();
    assert_eq!(info.get_str("version").unwrap(), "4.4.2");
    assert_eq!(audit(&fixtures.client).await, Found::new());

    let retainer = Bson::ObjectId(fixtures.retainers[0]);
    fixtures.set("retainers", fixtures.retainers[0], doc! {"currentBalance": -1_i64}).await;
    let wrong = fixtures.get("retainers", fixtures.retainers[0]).await;
    fixtures.set("bankAccounts", fixtures.accounts[0], doc! {"availableBalance": -5_i64}).await;
    let account = Bson::ObjectId(fixtures.accounts[0]);
    let expected = [
        ("bank_account_balance_drift", account.clone()),
        ("bank_account_overdrawn", account),
        ("bank_accounts_total", Bson::from("EUR")),
        ("retainer_balance_drift", retainer.clone()),
        ("retainer_balance_negative", retainer.clone()),
        ("retainer_not_in_general_ledger", retainer.clone()),
    ];
    let expected: Found = expected.into_iter().map(|(name, id)| (name.to_owned(), vec![id])).collect();
    assert_eq!(audit(&fixtures.client).await, expected);

    let repairer =
        Repairer::connect(&fixtures.client, "ledger", "txnscopeRepairs", "ann@test").await.unwrap();
    let mut made = Vec::new();
    for name in ["retainer_balance_drift", "bank_account_balance_drift"] {
        let checks = checks();
        let check = checks.find(name).unwrap();
        let planned = plan(&fixtures.client, check, &[], 10).await.unwrap();
        assert_eq!(planned.steps.len(), 1, "{planned:?}");
        match repairer.repair(check, &planned.steps[0]).await.unwrap() {
            RepairOutcome::Done(record) => made.push(record),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(audit(&fixtures.client).await, Found::new());
    let checks = checks();
    let check = checks.find(&made[0].check).unwrap();
    assert!(matches!(undo(&repairer, check, &made[0]).await.unwrap(), RepairOutcome::Done(_)));
    assert_eq!(fixtures.get("retainers", fixtures.retainers[0]).await, wrong);
}
