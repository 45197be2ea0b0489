//! A user who may only insert into the collection of repair records must not be able to misuse the next undo.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, Regex, cstr, doc};
use txnscope_checks::repair::{
    RepairOutcome, RepairRecord, Repairer, StoredRecord, UndoOptions, UndoSelector, records, undo, undo_with,
};
use txnscope_checks::{Check, Checks};

use crate::money::environment::{EMBEDDED, Money, check};

/// A record as a repair writes it: the balance of account 1 was changed from 5 to 9, its present value.
fn honest(run: ObjectId) -> Document {
    doc! {
        "_id": ObjectId::new(), "kind": "repair", "run": run, "at": DateTime::now(),
        "by": {"name": "ann@host", "users": ["ann@admin"]}, "check": "drift", "collection": "accounts",
        "document": 1, "field": "balance", "inputs": [], "before": 5_i64, "after": 9_i64, "version": "0.1.0",
    }
}

/// Changes to the record that an attacker makes; null removes a field.
fn forged() -> Vec<(&'static str, Document)> {
    let function = doc! {"$function": {"body": "function() { return 7; }", "args": [], "lang": "js"}};
    vec![
        (
            "another collection",
            doc! {"collection": "users", "field": "admin", "before": true, "after": false},
        ),
        ("another collection alone", doc! {"collection": "users"}),
        (
            "the collection of the views",
            doc! {"collection": "system.views", "document": "d.view", "field": "pipeline"},
        ),
        ("another field", doc! {"field": "admin"}),
        ("a field below it", doc! {"field": "balance.admin"}),
        ("a field above all", doc! {"field": "$$ROOT"}),
        ("a field that is an expression", doc! {"field": "$function"}),
        ("a field that is empty", doc! {"field": ""}),
        ("a check that is none", doc! {"check": "other"}),
        ("a check in capitals", doc! {"check": "DRIFT"}),
        ("another kind", doc! {"kind": ["repair"]}),
        ("an undo", doc! {"undoes": ObjectId::new()}),
        ("an undo of a text", doc! {"undoes": "x"}),
        ("a function as the value", doc! {"before": function.clone()}),
        ("a function as the document", doc! {"document": function.clone()}),
        ("a function as the value that is", doc! {"after": function}),
        ("an operator as the document", doc! {"document": {"$gt": 0}}),
        (
            "a pattern as the document",
            doc! {"document": Regex { pattern: cstr!("1").into(), options: cstr!("").into() }},
        ),
        ("several documents", doc! {"document": [1, 2]}),
        ("no document", doc! {"document": Bson::Null}),
        ("a document that the check does not select", doc! {"document": 2}),
        ("a document that is not there", doc! {"document": 3}),
        ("a text as the value", doc! {"before": "$$ROOT"}),
        ("a list as the value", doc! {"before": [1]}),
        ("a flag as the value", doc! {"before": true}),
        ("code as the value", doc! {"before": Bson::JavaScriptCode("f()".into())}),
        ("a number of another type", doc! {"before": 5}),
        ("a value that is not what the field is", doc! {"after": 8_i64}),
        ("a value of another type than the field", doc! {"after": 9}),
        ("no value that it is", doc! {"after": Bson::Null}),
    ]
}

struct Attack {
    money: Money,
    repairer: Repairer,
    check: Check,
    run: ObjectId,
}

impl Attack {
    async fn prepare() -> Self {
        let money = Money::start().await;
        let parts = [doc! {"amount": 9_i64}];
        let account = |id: i32, open: bool| doc! {"_id": id, "open": open, "balance": 9_i64, "in": &parts[..], "out": []};
        money.fill("accounts", &[account(1, true), account(2, false)]).await;
        money.fill("users", &[doc! {"_id": 1, "admin": false, "balance": 9_i64}]).await;
        money.database.create_collection("view").view_on("accounts").await.unwrap();
        let repairer = money.repairer().await;
        let check = check(&format!("{EMBEDDED}where = '{{ \"open\": true }}'\ntype = \"long\""));
        Self { money, repairer, check, run: ObjectId::new() }
    }

    async fn insert(&self, changes: Document) -> ObjectId {
        let mut record = honest(self.run);
        for (key, value) in changes {
            match value {
                Bson::Null => _ = record.remove(key),
                value => _ = record.insert(key, value),
            }
        }
        self.money.collection("repairs").insert_one(&record).await.unwrap();
        record.get_object_id("_id").unwrap()
    }

    /// The state that an attack must not change: the documents, the views, and how often the server ran JavaScript.
    async fn state(&self) -> (Vec<Vec<Document>>, i64) {
        let mut all = Vec::new();
        for name in ["accounts", "users", "system.views"] {
            all.push(self.money.all(name).await);
        }
        let status = self.money.client.database("admin").run_command(doc! {"serverStatus": 1}).await.unwrap();
        let counters = status.get_document("metrics").unwrap().get_document("operatorCounters").unwrap();
        let expressions = counters.get_document("expressions").unwrap();
        (all, expressions.get_i64("$function").unwrap())
    }

    async fn found(&self, which: UndoSelector) -> Vec<StoredRecord> {
        records(&self.repairer, which).await.unwrap()
    }

    async fn undo(&self, record: &RepairRecord) -> RepairOutcome {
        undo(&self.repairer, &self.check, record).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_rejects_records_that_differ_from_check_and_writes_nothing() {
    let attack = Attack::prepare().await;
    let before = attack.state().await;
    let checks = checks();
    for (what, changes) in forged() {
        let id = attack.insert(changes).await;
        for stored in attack.found(UndoSelector::Record(id)).await {
            let Some(record) = stored.record() else { continue };
            // The record must be rejected by the verification, by the undo, and by an undo that allows any value.
            let outcome = attack.undo(record).await;
            assert!(
                matches!(outcome, RepairOutcome::Refused(_) | RepairOutcome::Changed),
                "{what}: {outcome:?}"
            );
            if !["a function as the value", "a text as the value", "a list as the value"].contains(&what)
                && !["a flag as the value", "code as the value"].contains(&what)
            {
                let options = UndoOptions::new().any_value(true);
                let outcome = undo_with(&attack.repairer, &attack.check, record, options).await.unwrap();
                assert!(
                    matches!(outcome, RepairOutcome::Refused(_) | RepairOutcome::Changed),
                    "{what}: {outcome:?}"
                );
            }
        }
        assert_eq!(attack.state().await, before, "{what}");
    }
    let undone = attack.money.collection("repairs").count_documents(doc! {"kind": "undo"}).await.unwrap();
    assert_eq!(undone, 0, "a record of an undo that was none");
    // The records were rejected for their content: an honest record is undone.
    let id = attack.insert(doc! {}).await;
    let stored = attack.found(UndoSelector::Record(id)).await;
    let record = stored[0].record().unwrap();
    assert_eq!(
        attack.repairer.check_of(&checks, record, UndoOptions::new()).map(|check| &*check.name),
        Ok("drift")
    );
    assert!(matches!(attack.undo(record).await, RepairOutcome::Done(_)));
    assert_eq!(attack.money.balance(1).await, Some(Bson::Int64(5)));
}

/// The file also has another check with the same name, or a check of another kind.
fn checks() -> Checks {
    let text = r#"
        [defaults]
        database = "d"
        severity = "critical"
        [[check]]
        name = "drift"
        collection = "accounts"
        [check.derived]
        field = "balance"
        type = "long"
        expression = '{ "$subtract": [ { "$sum": "$in.amount" }, { "$sum": "$out.amount" } ] }'
    "#;
    Checks::parse(text).unwrap()
}

/// A value is restored literally and never evaluated as an expression.
#[tokio::test(flavor = "multi_thread")]
async fn undo_restores_values_verbatim_without_evaluating_them() {
    let attack = Attack::prepare().await;
    let (_, javascript) = attack.state().await;
    let function = doc! {"$function": {"body": "function() { return 7; }", "args": [], "lang": "js"}};
    for before in [Bson::from(function), "$$ROOT".into(), Bson::Array(vec!["$in".into()])] {
        let set = doc! {"$set": {"balance": 9_i64}};
        attack.money.collection("accounts").update_one(doc! {"_id": 1}, set).await.unwrap();
        let id = attack.insert(doc! {"before": before.clone()}).await;
        let stored = attack.found(UndoSelector::Record(id)).await;
        let record = stored[0].record().unwrap();
        assert!(matches!(attack.undo(record).await, RepairOutcome::Refused(_)));
        let options = UndoOptions::new().any_value(true);
        let outcome = undo_with(&attack.repairer, &attack.check, record, options).await.unwrap();
        assert!(matches!(outcome, RepairOutcome::Done(_)), "{outcome:?}");
        assert_eq!(attack.money.balance(1).await, Some(before));
    }
    assert_eq!(attack.state().await.1, javascript, "the server ran JavaScript");
}

/// A malformed record must not prevent the undo of the other records of its run.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_record_does_not_hide_other_records_of_its_run() {
    let attack = Attack::prepare().await;
    let malformed = [
        doc! {"at": "yesterday"},
        doc! {"by": 7},
        doc! {"check": Bson::Null},
        doc! {"collection": {"$ne": ""}},
        doc! {"document": Bson::Null},
        doc! {"undoes": 1},
        doc! {"_id": "\u{1b}[2J"},
    ];
    for changes in &malformed {
        let mut record = honest(attack.run);
        record.extend(changes.clone().into_iter().filter(|(_, value)| *value != Bson::Null));
        changes.iter().filter(|(_, value)| **value == Bson::Null).for_each(|(key, _)| _ = record.remove(key));
        attack.money.collection("repairs").insert_one(record).await.unwrap();
    }
    let id = attack.insert(doc! {"inputs": [{"path": "in", "value": "x".repeat(1 << 20)}]}).await;
    let found = attack.found(UndoSelector::Run(attack.run)).await;
    assert_eq!(found.len(), malformed.len() + 1);
    let readable: Vec<_> = found.iter().filter_map(StoredRecord::record).collect();
    assert_eq!(readable.iter().map(|record| record.id).collect::<Vec<_>>(), [id]);
    assert!(
        readable[0].inputs.is_empty(),
        "it is not read: a megabyte for each record would fill the memory"
    );
    assert!(matches!(attack.undo(readable[0]).await, RepairOutcome::Done(_)));
}
