//! Undoing repairs.

use mongodb::bson::{Bson, doc};
use txnscope_checks::repair::{RepairOutcome, UndoSelector, records, undo};

use super::environment::{EMBEDDED, LINES, Money, check};

/// The balances were set to zero while the lines were lost, and the lines returned.
#[tokio::test(flavor = "multi_thread")]
async fn undo_restores_value_after_inputs_return() {
    let money = Money::start().await;
    let accounts = [doc! {"_id": 1, "balance": 500_i64}, doc! {"_id": 2, "balance": 700_i64}];
    money.fill("accounts", &accounts).await;
    let lines = [doc! {"account": 1, "amount": 500_i64}, doc! {"account": 2, "amount": 700_i64}];
    money.fill("lines", &lines).await;
    money.collection("lines").delete_many(doc! {}).await.unwrap();
    let check = check(LINES);
    let planned = money.plan_of_nothing(&check).await.unwrap();
    let outcomes = money.apply(&check, &planned).await;
    assert!(matches!(outcomes.as_slice(), [RepairOutcome::Done(_), RepairOutcome::Done(_)]), "{outcomes:?}");
    assert_eq!(money.balance(2).await, Some(Bson::Int64(0)));

    money.fill("lines", &lines).await;
    let repairer = money.repairer().await;
    let RepairOutcome::Done(made) = &outcomes[0] else { panic!("{outcomes:?}") };
    let found = records(&repairer, UndoSelector::Run(made.run)).await.unwrap();
    assert_eq!(found.len(), 2);
    for stored in &found {
        let undone = undo(&repairer, &check, stored.record().unwrap()).await.unwrap();
        assert!(matches!(undone, RepairOutcome::Done(_)), "{undone:?}");
    }
    assert_eq!(money.all("accounts").await, accounts);
    assert!(money.wrong(&check).await.is_empty());
}

/// An undo does not overwrite a change that a person or the backend has made after the repair.
#[tokio::test(flavor = "multi_thread")]
async fn undo_leaves_field_changed_since_repair() {
    let money = Money::start().await;
    let parts = [doc! {"amount": 9_i64}];
    let document = doc! {"_id": 1, "balance": 7_i64, "in": &parts[..], "out": Bson::Array(vec![])};
    for (what, change) in [
        ("its value", doc! {"$set": {"balance": 8_i64}}),
        ("its type", doc! {"$set": {"balance": 9}}),
        ("that it is there", doc! {"$unset": {"balance": ""}}),
    ] {
        money.fill("accounts", std::slice::from_ref(&document)).await;
        let check = check(EMBEDDED);
        let planned = money.plan(&check).await.unwrap();
        let outcomes = money.apply(&check, &planned).await;
        let [RepairOutcome::Done(record)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        money.collection("accounts").update_one(doc! {"_id": 1}, change).await.unwrap();
        let changed = money.get(1).await;
        assert_eq!(
            undo(&money.repairer().await, &check, record).await.unwrap(),
            RepairOutcome::Changed,
            "{what}"
        );
        assert_eq!(money.get(1).await, changed, "{what}");
    }
}
