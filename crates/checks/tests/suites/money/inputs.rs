//! Inputs that are missing, misspelled, empty, or not matched by any key.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, doc};
use txnscope_checks::repair::{Repair, RepairOutcome, plan};
use txnscope_checks::{CheckResult, Reason};

use super::environment::{EMBEDDED, LINES, Money, check, check_of};

async fn accounts(money: &Money) {
    let documents = [doc! {"_id": 1, "balance": 500_i64}, doc! {"_id": 2, "balance": 700_i64}];
    money.fill("accounts", &documents).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_missing_inputs_collection() {
    let money = Money::start().await;
    accounts(&money).await;
    money.refuses(&check(LINES), Reason::CollectionMissing, "there is no collection lines in d").await;
    // A misspelled name, or one in another case.
    money.fill("Lines", &[doc! {"account": 1, "amount": 500_i64}]).await;
    money.refuses(&check(LINES), Reason::CollectionMissing, "did you mean Lines?").await;
    let misspelled = check_of("acounts", LINES);
    money.refuses(&misspelled, Reason::CollectionMissing, "there is no collection acounts in d").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_view_over_missing_collection() {
    let money = Money::start().await;
    accounts(&money).await;
    money.database.create_collection("middle").view_on("nowhere").await.unwrap();
    money.database.create_collection("lines").view_on("middle").await.unwrap();
    money
        .refuses(
            &check(LINES),
            Reason::CollectionMissing,
            "no collection nowhere in d, which the view middle reads",
        )
        .await;
    // Missing only in the pipeline of a view.
    money.collection("lines").drop().await.unwrap();
    money.fill("real", &[doc! {"account": 1, "amount": 500_i64}]).await;
    let more =
        [doc! {"$lookup": {"from": "archive", "localField": "_id", "foreignField": "line", "as": "more"}}];
    money.database.create_collection("lines").view_on("real").pipeline(more).await.unwrap();
    money.refuses(&check(LINES), Reason::CollectionMissing, "no collection archive in d").await;
    money.fill("archive", &[doc! {"line": 7}]).await;
    let (set, refused) = money.repair(&check(LINES)).await;
    assert!(set.is_empty() && refused.len() == 1, "the second account has no lines: {set:?} {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_unwritable_collection() {
    let money = Money::start().await;
    accounts(&money).await;
    money.fill("lines", &[doc! {"account": 1, "amount": 500_i64}]).await;
    money.database.create_collection("view").view_on("accounts").await.unwrap();
    let refused = money.plan(&check_of("view", LINES)).await.unwrap_err();
    assert!(refused.message.contains("view is a view: name the collection that it reads"), "{refused}");
}

/// The collection of the lines has been emptied, or renamed and created again.
#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_empty_inputs_collection_unless_allowed() {
    let money = Money::start().await;
    accounts(&money).await;
    let check = check(LINES);
    money.database.create_collection("lines").await.unwrap();
    let refused = money.plan(&check).await.unwrap_err();
    assert!(refused.message.contains("the $lookup of lines finds nothing for any document"), "{refused}");
    assert!(refused.message.contains("--allow-empty-inputs"), "{refused}");
    assert_eq!(money.wrong(&check).await, [1.into(), 2.into()], "an audit finds both");

    let planned = money.plan_of_nothing(&check).await.unwrap();
    let outcomes = money.apply(&check, &planned).await;
    assert!(matches!(outcomes.as_slice(), [RepairOutcome::Done(_), RepairOutcome::Done(_)]), "{outcomes:?}");
    assert_eq!(money.balance(1).await, Some(Bson::Int64(0)));
}

/// Accounts have an ObjectId, and the lines refer to its string.
#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_inputs_whose_keys_never_match() {
    let money = Money::start().await;
    let ids = [ObjectId::new(), ObjectId::new()];
    let accounts = ids.map(|id| doc! {"_id": id, "balance": 500_i64});
    money.fill("accounts", &accounts).await;
    money.fill("lines", &ids.map(|id| doc! {"account": id.to_hex(), "amount": 400_i64})).await;
    // The same if later stages leave nothing of the list.
    let folded = LINES
        .replace("} } ]'''", "} }, { \"$set\": { \"total\": { \"$sum\": \"$posted.sum\" } } }, { \"$unset\": \"posted\" } ]'''")
        .replace("{ \"$sum\": \"$posted.sum\" }'", "\"$total\"'");
    for rule in [LINES, &folded] {
        let refused = money.plan(&check(rule)).await.expect_err(rule);
        assert!(refused.message.contains("the types of the keys"), "{refused}");
        assert_eq!(money.all("accounts").await, accounts);
    }
    // Only one account is empty: the drifted one is repaired, and the empty one is left to a person.
    money
        .fill(
            "lines",
            &[
                doc! {"account": ids[0], "amount": 400_i64},
                doc! {"account": ids[1].to_hex(), "amount": 400_i64},
            ],
        )
        .await;
    let (set, refused) = money.repair(&check(&folded)).await;
    assert_eq!(set, [(ids[0].into(), Bson::Int64(400))]);
    let [(id, why)] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(*id, Bson::ObjectId(ids[1]));
    assert!(why.contains("all inputs are empty"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_embedded_inputs_that_are_all_empty() {
    let money = Money::start().await;
    let none = Bson::Array(Vec::new());
    let empty = |id: i32, balance: i64| doc! {"_id": id, "balance": balance, "in": &none, "out": &none};
    let documents = [empty(1, 500), empty(2, 700), empty(3, 0)];
    money.fill("accounts", &documents).await;
    let check = check(EMBEDDED);
    let refused = money.plan(&check).await.unwrap_err();
    assert!(refused.message.contains("no document of accounts has anything in in, out"), "{refused}");
    assert_eq!(money.all("accounts").await, documents);
    // One account has lost its inputs, and another one has drifted.
    let honest = doc! {"_id": 4, "balance": 7_i64, "in": [{"amount": 9_i64}], "out": &none};
    money.fill("accounts", &[empty(1, 500), honest]).await;
    let (set, refused) = money.repair(&check).await;
    assert_eq!(set, [(4.into(), Bson::Int64(9))]);
    assert!(refused[0].1.contains("--allow-empty-inputs"), "{refused:?}");
    let planned = money.plan_of_nothing(&check).await.unwrap();
    assert_eq!(planned.steps[0].repair, Repair::Set(Bson::Int64(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_missing_collection_counts_as_empty() {
    let money = Money::start().await;
    accounts(&money).await;
    let rule = format!("may_be_missing = true\n{LINES}");
    assert_eq!(money.wrong(&check(&rule)).await, [1.into(), 2.into()]);
    let refused = money.plan(&check(&rule)).await.unwrap_err();
    assert!(refused.message.contains("finds nothing"), "{refused}");
    let nowhere = check_of("nowhere", &rule);
    assert!(money.wrong(&nowhere).await.is_empty());
    assert_eq!(money.plan(&nowhere).await.unwrap_err().reason, Reason::CollectionMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_and_repair_reject_filter_on_misspelled_field() {
    let money = Money::start().await;
    let amounts = [doc! {"amount": 5_i64}];
    let none = Bson::Array(Vec::new());
    let drifted = doc! {"_id": 1, "balance": 7_i64, "status": "open", "in": &amounts[..], "out": none};
    money.fill("accounts", &[drifted]).await;
    let rule = |filter: &str| EMBEDDED.replace("field =", &format!("where = '{filter}'\nfield ="));
    let misspelled = check(&rule(r#"{ "state": "open" }"#));
    money
        .refuses(
            &misspelled,
            Reason::InvalidQuery,
            "no document of accounts has the field state of its `where`",
        )
        .await;
    assert!(money.wrong(&check(&rule(r#"{ "status": "closed" }"#))).await.is_empty(), "there is none");
    assert_eq!(
        money.wrong(&check(&rule(r#"{ "deleted": null }"#))).await,
        [1.into()],
        "absence is asked for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_fails_on_misspelled_field_with_misspelled_input() {
    let money = Money::start().await;
    accounts(&money).await;
    let check = check("[check.derived]\nfield = \"balanec\"\nexpression = '\"$totl\"'");
    let CheckResult::Failed(failure) = money.audit(&check).await else { panic!("it is not blind") };
    assert!(failure.message.contains("no document of accounts has the field balanec"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_reports_unknown_ids() {
    let money = Money::start().await;
    let id = ObjectId::new();
    let none = Bson::Array(Vec::new());
    money.fill("accounts", &[doc! {"_id": id.to_hex(), "balance": 0, "in": &none, "out": &none}]).await;
    let planned = plan(&money.client, &check(EMBEDDED), &[id.into(), Bson::Int32(9)], 10).await.unwrap();
    let unknown: Vec<_> =
        planned.unknown.iter().map(|one| (one.id.clone(), one.suggestion.clone())).collect();
    assert_eq!(unknown, [(id.into(), Some(id.to_hex().into())), (9.into(), None)]);
    let planned = plan(&money.client, &check(EMBEDDED), &[id.to_hex().into()], 10).await.unwrap();
    assert!(planned.unknown.is_empty() && planned.steps.is_empty(), "{planned:?}");
}
