//! Before MongoDB 5.0 there are no snapshots outside of a transaction: the checks read what a majority has.

use mongodb::bson::{Bson, doc};
use testkit::ReplicaSetOptions;
use txnscope_checks::repair::{RepairOutcome, Repairer, plan, undo};

use crate::world::{Found, World, audit, checks};

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_is_checked_and_repaired_as_well() {
    let world = World::on(ReplicaSetOptions::new(1).version("4.4.2").start().await.unwrap()).await;
    let info = world.database.run_command(doc! {"buildInfo": 1}).await.unwrap();
    assert_eq!(info.get_str("version").unwrap(), "4.4.2");
    assert_eq!(audit(&world.client).await, Found::new());

    let retainer = Bson::ObjectId(world.retainers[0]);
    world.set("retainers", world.retainers[0], doc! {"currentBalance": -1_i64}).await;
    let wrong = world.get("retainers", world.retainers[0]).await;
    world.set("bankAccounts", world.accounts[0], doc! {"availableBalance": -5_i64}).await;
    let account = Bson::ObjectId(world.accounts[0]);
    let expected = [
        ("bank_account_balance_drift", account.clone()),
        ("bank_account_overdrawn", account),
        ("bank_accounts_total", Bson::from("EUR")),
        ("retainer_balance_drift", retainer.clone()),
        ("retainer_balance_negative", retainer.clone()),
        ("retainer_not_in_general_ledger", retainer.clone()),
    ];
    let expected: Found = expected.into_iter().map(|(name, id)| (name.to_owned(), vec![id])).collect();
    assert_eq!(audit(&world.client).await, expected);

    let repairer = Repairer::connect(&world.client, "ledger", "txnscopeRepairs", "ann@test").await.unwrap();
    let mut made = Vec::new();
    for name in ["retainer_balance_drift", "bank_account_balance_drift"] {
        let checks = checks();
        let check = checks.find(name).unwrap();
        let planned = plan(&world.client, check, &[], 10).await.unwrap();
        assert_eq!(planned.steps.len(), 1, "{planned:?}");
        match repairer.repair(check, &planned.steps[0]).await.unwrap() {
            RepairOutcome::Done(record) => made.push(record),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(audit(&world.client).await, Found::new());
    let checks = checks();
    let check = checks.find(&made[0].check).unwrap();
    assert!(matches!(undo(&repairer, check, &made[0]).await.unwrap(), RepairOutcome::Done(_)));
    assert_eq!(world.get("retainers", world.retainers[0]).await, wrong);
}
