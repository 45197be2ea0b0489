//! Stages that do not return exactly one document for each input document.

use mongodb::bson::{Bson, doc};
use txnscope_checks::Reason;
use txnscope_checks::repair::{Repair, RepairOutcome, undo};

use super::environment::{Money, check};

fn rule(stages: &str, expression: &str) -> String {
    format!("[check.derived]\nfield = \"balance\"\nstages = '''{stages}'''\nexpression = '''{expression}'''")
}

const JOIN: &str =
    r#"{ "$lookup": { "from": "lines", "localField": "_id", "foreignField": "account", "as": "line" } }"#;

#[tokio::test(flavor = "multi_thread")]
async fn audit_and_repair_reject_stages_that_duplicate_or_drop_ids() {
    let money = Money::start().await;
    let accounts = [doc! {"_id": 1, "balance": 30_i64}, doc! {"_id": 2, "balance": 5_i64}];
    money.fill("accounts", &accounts).await;
    money
        .fill("lines", &[doc! {"account": 1, "amount": 10_i64}, doc! {"account": 1, "amount": 20_i64}])
        .await;
    let twice = "return 2 documents for the _id 1";
    let lose = "drop the document with the _id";
    for (stages, expression, message) in [
        (
            format!(
                "[ {JOIN}, {{ \"$unwind\": {{ \"path\": \"$line\", \"preserveNullAndEmptyArrays\": true }} }} ]"
            ),
            "\"$line.amount\"",
            twice,
        ),
        (
            format!(
                "[ {JOIN}, {{ \"$unwind\": \"$line\" }}, {{ \"$group\": {{ \"_id\": \"$_id\", \"balance\": {{ \"$first\": \"$balance\" }}, \"sum\": {{ \"$sum\": \"$line.amount\" }} }} }} ]"
            ),
            "\"$sum\"",
            "drop the document with the _id 2",
        ),
        (
            format!("[ {JOIN}, {{ \"$match\": {{ \"line\": {{ \"$ne\": [] }} }} }} ]"),
            r#"{ "$sum": "$line.amount" }"#,
            lose,
        ),
        (format!("[ {JOIN}, {{ \"$limit\": 1 }} ]"), r#"{ "$sum": "$line.amount" }"#, lose),
        (format!("[ {JOIN}, {{ \"$set\": {{ \"_id\": \"none\" }} }} ]"), r#"{ "$sum": "$line.amount" }"#, ""),
        (
            format!("[ {JOIN}, {{ \"$unionWith\": \"lines\" }} ]"),
            r#"{ "$sum": "$line.amount" }"#,
            "which belongs to none of their input documents",
        ),
    ] {
        money.refuses(&check(&rule(&stages, expression)), Reason::InvalidQuery, message).await;
    }
}

/// $unwind and $group return one document for each if they drop none.
#[tokio::test(flavor = "multi_thread")]
async fn stages_that_keep_each_document_are_accepted() {
    let money = Money::start().await;
    money.fill("accounts", &[doc! {"_id": 1, "balance": 7_i64}, doc! {"_id": 2, "balance": 5_i64}]).await;
    money
        .fill(
            "lines",
            &[
                doc! {"account": 1, "amount": 10_i64},
                doc! {"account": 1, "amount": 20_i64},
                doc! {"account": 2, "amount": 5_i64},
            ],
        )
        .await;
    let stages = format!(
        "[ {JOIN}, {{ \"$unwind\": {{ \"path\": \"$line\", \"preserveNullAndEmptyArrays\": true }} }}, \
         {{ \"$group\": {{ \"_id\": \"$_id\", \"balance\": {{ \"$first\": \"$balance\" }}, \"sum\": {{ \"$sum\": \"$line.amount\" }} }} }} ]"
    );
    let check = check(&rule(&stages, "\"$sum\""));
    assert_eq!(money.wrong(&check).await, [1.into()]);
    assert_eq!(money.repair(&check).await.0, [(1.into(), Bson::Int64(30))]);
    assert!(money.wrong(&check).await.is_empty());
    // NaN, which the stages compute for a sum with a string, does not match a field that is NaN.
    money
        .collection("lines")
        .update_one(doc! {"amount": 10_i64}, doc! {"$set": {"amount": "10"}})
        .await
        .unwrap();
    money
        .collection("accounts")
        .update_one(doc! {"_id": 1}, doc! {"$set": {"balance": f64::NAN}})
        .await
        .unwrap();
    assert_eq!(money.wrong(&check).await, [1.into()]);
    let (set, refused) = money.repair(&check).await;
    assert!(set.is_empty() && refused[0].1.contains("\"10\""), "{set:?} {refused:?}");
}

/// An undo restores the stored value of the field, not the value that a stage computes.
#[tokio::test(flavor = "multi_thread")]
async fn undo_restores_field_that_stages_overwrite() {
    let money = Money::start().await;
    money.fill("accounts", &[doc! {"_id": 1}]).await;
    money.fill("lines", &[doc! {"account": 1, "amount": 10_i64}]).await;
    let back = |field: &str| {
        format!(
            "[ {JOIN}, {{ \"$unwind\": \"$line\" }}, {{ \"$group\": {{ \"_id\": \"$_id\", \
             \"balance\": {{ \"$first\": {field} }}, \"sum\": {{ \"$sum\": \"$line.amount\" }} }} }} ]"
        )
    };
    let typed = format!("{}\ntype = \"long\"", rule(&back("\"$balance\""), "\"$sum\""));
    let planned = money.plan(&check(&typed)).await.unwrap();
    let outcomes = money.apply(&check(&typed), &planned).await;
    let [RepairOutcome::Done(record)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(money.balance(1).await, Some(Bson::Int64(10)));
    assert_eq!(record.before, None, "the group shows null");
    let undone = undo(&money.repairer().await, &check(&typed), record).await.unwrap();
    assert!(matches!(undone, RepairOutcome::Done(_)), "{undone:?}");
    assert_eq!(money.get(1).await, doc! {"_id": 1});

    let changed = format!("{}\ntype = \"long\"", rule(&back("7"), "\"$sum\""));
    let planned = money.plan(&check(&changed)).await.unwrap();
    let outcomes = money.apply(&check(&changed), &planned).await;
    assert!(matches!(outcomes.as_slice(), [RepairOutcome::Refused(_)]), "{outcomes:?}");
    assert_eq!(money.get(1).await, doc! {"_id": 1});
}

/// Setting the expected value would change the expected value.
#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_field_computed_from_itself() {
    let money = Money::start().await;
    money.fill("accounts", &[doc! {"_id": 1, "balance": 7_i64, "fee": 1_i64}]).await;
    let check = check(&rule("[]", r#"{ "$add": [ "$balance", "$fee" ] }"#));
    let planned = money.plan(&check).await.unwrap();
    assert_eq!(planned.steps[0].repair, Repair::Set(Bson::Int64(8)));
    let outcomes = money.apply(&check, &planned).await;
    assert!(matches!(outcomes.as_slice(), [RepairOutcome::Refused(_)]), "{outcomes:?}");
    assert_eq!(money.balance(1).await, Some(Bson::Int64(7)));
    assert!(money.all("repairs").await.is_empty());
}

/// `$set` of a path through a list or a number is an error, or changes another element.
#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_field_inside_non_document() {
    let money = Money::start().await;
    let part = [doc! {"amount": 5_i64}];
    money
        .fill(
            "accounts",
            &[
                doc! {"_id": "list", "total": [{"0": 7_i64}], "in": &part[..]},
                doc! {"_id": "number", "total": 7_i64, "in": &part[..]},
                doc! {"_id": "document", "total": {"0": 7_i64}, "in": &part[..]},
            ],
        )
        .await;
    let check = check(
        "[check.derived]\nfield = \"total.0\"\ntype = \"long\"\nexpression = '{ \"$sum\": \"$in.amount\" }'",
    );
    let (set, refused) = money.repair(&check).await;
    assert_eq!(set, [("document".into(), Bson::Int64(5))]);
    assert!(refused.iter().all(|(_, why)| why.contains("within a value of the type")), "{refused:?}");
    assert_eq!(refused.len(), 2);
}
