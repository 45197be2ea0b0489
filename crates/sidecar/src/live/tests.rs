//! Recorded replies of real servers, from the decoders to the tree. `fixtures/README.md` describes each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use serde_json::Value;

use super::locks;
use super::model::{LiveModel, Reference, TransactionState, WaitsFor};
use super::names::OperationNames;
use super::operation::{self, Operation};
use super::report::LiveReport;
use super::tracker::Tracker;
use super::transactions::model;
use super::tree::{TreeRow, blocker_tree};
use crate::collector::backend_table::ListedTransaction;

use Reference::{Transaction, Waiting};

/// From Extended JSON, as far as the fixtures use it.
fn bson(value: &Value) -> Bson {
    match value {
        Value::Object(fields) if fields.contains_key("$binary") => {
            let bytes = STANDARD.decode(fields["$binary"]["base64"].as_str().unwrap()).unwrap();
            Binary { subtype: BinarySubtype::Uuid, bytes }.into()
        }
        Value::Object(fields) => {
            Bson::Document(fields.iter().map(|(name, value)| (name.clone(), bson(value))).collect())
        }
        Value::Array(values) => Bson::Array(values.iter().map(bson).collect()),
        Value::String(text) => Bson::String(text.clone()),
        Value::Bool(boolean) => Bson::Boolean(*boolean),
        Value::Number(number) => Bson::Int64(number.as_i64().unwrap()),
        Value::Null => Bson::Null,
    }
}

struct Recorded {
    operations: Vec<Operation>,
    locks: Document,
}

fn recorded(name: &str) -> Recorded {
    let path = format!("{}/fixtures/live/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let operations = value["operations"].as_array().unwrap().iter();
    let operations = operations.map(|operation| operation::decode(bson(operation).as_document().unwrap()));
    Recorded { operations: operations.collect(), locks: doc! {"lockInfo": bson(&value["locks"])} }
}

impl Recorded {
    fn model(&self) -> LiveModel {
        self.model_with(&OperationNames::default())
    }

    fn model_with(&self, names: &OperationNames) -> LiveModel {
        let mut tracker = Tracker::default();
        tracker.observe(&self.operations);
        let locks = locks::decode(&self.locks).unwrap();
        model("db1:27017", &self.operations, &locks, names, &tracker)
    }
}

fn report(model: &LiveModel) -> LiveReport {
    let mut report = LiveReport::default();
    report.append(model);
    report
}

/// An idle transaction holds the collection, an index build waits for it, and writers wait behind the index build.
#[test]
fn index_build_waits_for_idle_transaction_and_writers_wait_behind_it() {
    for version in ["6.0", "4.4"] {
        let model = recorded(&format!("index-{version}")).model();
        assert_eq!(model.transactions.len(), 1, "{version}");
        let transaction = &model.transactions[0];
        assert_eq!((transaction.state, transaction.txn_number), (TransactionState::Idle, 3));
        assert_eq!(transaction.namespaces, ["shop.orders", "shop.stock"]);
        assert_eq!(transaction.application.as_deref(), Some("shop"));
        assert_eq!(transaction.driver.as_deref(), Some("PyMongo|c 4.20.1|"));
        assert_eq!(transaction.read_concern.as_deref().unwrap_or("local"), "local");
        let expires = transaction.expires_in.unwrap() + transaction.age;
        assert_eq!(expires.as_secs(), 60, "the server ends it after a minute");
        assert_eq!(transaction.idle.unwrap() + transaction.active, transaction.age);

        let lock = |mode: &str| WaitsFor::Lock {
            resource: Some("collection".to_owned()),
            name: Some("shop.orders".to_owned()),
            mode: Some(mode.to_owned()),
        };
        let waiting: Vec<_> = model
            .waiting
            .iter()
            .map(|of| (of.command.as_str(), of.waits_for.clone(), of.blocked_by.as_slice()))
            .collect();
        let build = ("createIndexes", lock("X"), &[Transaction(0)][..]);
        let position = waiting.iter().position(|of| *of == build).expect(version);
        let writer = [Waiting(position)];
        for (index, of) in waiting.iter().enumerate().filter(|(index, _)| *index != position) {
            assert_eq!(*of, ("update", lock("IX"), &writer[..]), "{version}: {index}");
        }
        assert_eq!(waiting.len(), 5);
        assert!(model.waiting.iter().all(|of| of.more_blockers == 0 && of.candidates.is_empty()));
        assert!(model.running.is_empty());
    }
}

#[test]
fn tree_has_the_transaction_at_its_root_and_the_writers_in_one_row() {
    let model = recorded("index-6.0").model();
    let rows = blocker_tree(&report(&model));
    let build = model.waiting.iter().position(|of| of.command == "createIndexes").unwrap();
    let writers: Vec<_> = (0..5).filter(|index| *index != build).map(Waiting).collect();
    let row = |depth, entries, blocks| TreeRow { depth, entries, certain: true, blocks };
    assert_eq!(rows, [row(0, vec![Transaction(0)], 5), row(1, vec![Waiting(build)], 4), row(2, writers, 0)]);
}

/// The server retries them inside itself: `waitingForLock` is false, and nothing is in a queue.
#[test]
fn retried_writers_wait_for_a_document_with_the_transaction_as_candidate() {
    let model = recorded("conflict-6.0").model();
    assert_eq!(model.waiting.len(), 2);
    for waiting in &model.waiting {
        assert_eq!((&waiting.waits_for, waiting.command.as_str()), (&WaitsFor::Document, "update"));
        assert_eq!(
            (waiting.blocked_by.as_slice(), waiting.candidates.as_slice()),
            (&[][..], &[Transaction(0)][..])
        );
        assert!(waiting.write_conflicts > 100 && waiting.waiting.as_secs() >= 1);
    }
    let rows = blocker_tree(&report(&model));
    let depths: Vec<_> = rows.iter().map(|row| (row.depth, row.certain)).collect();
    assert_eq!(depths, [(0, true), (1, false), (1, false)]);
}

#[test]
fn writer_is_blocked_by_the_prepared_transaction() {
    let model = recorded("prepared-6.0").model();
    let transaction = &model.transactions[0];
    assert_eq!((transaction.state, transaction.expires_in), (TransactionState::Prepared, None));
    assert_eq!(model.waiting.len(), 1);
    assert_eq!(model.waiting[0].waits_for, WaitsFor::PreparedTransaction);
    assert_eq!(model.waiting[0].blocked_by, [Transaction(0)]);
}

#[test]
fn transaction_has_the_operation_of_the_backend_s_table() {
    let recorded = recorded("index-6.0");
    let session = recorded.model().transactions[0].session.clone();
    let listed = |number| ListedTransaction {
        session: session.clone(),
        number: Some(number),
        operation: "POST /orders".to_owned(),
    };
    let operation = |number| {
        let model = recorded.model_with(&OperationNames::new([listed(number)]));
        model.transactions[0].operation.clone()
    };
    assert_eq!(operation(3).as_deref(), Some("POST /orders"));
    assert_eq!(operation(4), None);
}

/// Without `lockInfo`, the queue is unknown, and the operations are still listed.
#[test]
fn operations_are_listed_without_locks() {
    let recorded = recorded("index-6.0");
    let mut tracker = Tracker::default();
    tracker.observe(&recorded.operations);
    let (locks, names) = (locks::LockTable::default(), OperationNames::default());
    let model = model("db1:27017", &recorded.operations, &locks, &names, &tracker);
    assert_eq!((model.transactions.len(), model.waiting.len()), (1, 5));
    assert!(model.transactions[0].namespaces.is_empty());
    assert!(model.waiting.iter().all(|waiting| waiting.blocked_by.is_empty()));
    assert_eq!(blocker_tree(&report(&model)).len(), 5);
}

#[test]
fn references_are_positions_in_the_report_of_all_members() {
    let model = recorded("index-6.0").model();
    let mut report = report(&model);
    report.append(&model);
    let build = report.waiting.iter().rposition(|of| of.command == "createIndexes").unwrap();
    assert!(build >= 5);
    assert_eq!(report.waiting[build].blocked_by, [Transaction(1)]);
    assert_eq!(report.waiting[9].blocked_by, [Waiting(build)]);
    assert_eq!(report.blocked_by(Waiting(build)), 4);
}

/// Neither the query, nor the update, nor a command that an older server shows in `lockInfo`.
#[test]
fn report_holds_no_value_of_a_command() {
    let text = serde_json::to_string(&report(&recorded("index-4.4").model())).unwrap();
    assert!(text.contains("createIndexes") && text.contains("shop.orders"), "{text}");
    for value in ["n_1", "signature", "$inc", "\"q\"", "indexes"] {
        assert!(!text.contains(value), "{value}: {text}");
    }
}

/// The decoders of the fuzzer read the recorded situations, so that it changes something that matters.
#[test]
fn recorded_situation_is_read_by_the_decoders_of_the_fuzzer() {
    let path = format!("{}/fixtures/live/index-6.0.json", env!("CARGO_MANIFEST_DIR"));
    let reply: Bson = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let model = super::decode_all::decode_all(reply.as_document().unwrap());
    assert_eq!(model, recorded("index-6.0").model());
}

#[test]
fn tree_of_a_cycle_ends() {
    let mut model = recorded("index-6.0").model();
    model.waiting[0].blocked_by = vec![Waiting(1)];
    model.waiting[1].blocked_by = vec![Waiting(0)];
    let rows = blocker_tree(&report(&model));
    let entries: usize = rows.iter().map(|row| row.entries.len()).sum();
    assert_eq!(entries, 6, "{rows:?}");
}

#[test]
fn malformed_replies_cost_their_own_fields() {
    let operation = operation::decode(&doc! {
        "opid": "seven", "active": 1, "op": 3, "command": "$truncated", "lsid": {"id": 1},
        "lockStats": {"Global": {"timeAcquiringMicros": {"w": "long", "r": 500_000}}},
        "transaction": {"parameters": {"autocommit": false, "txnNumber": 4}, "expiryTime": "soon"},
    });
    assert_eq!((operation.opid, operation.command, operation.session), (None, None, None));
    assert_eq!((operation.active, operation.lock_wait.as_millis()), (true, 500));
    assert_eq!(operation.transaction.unwrap().expires_in, None);
    assert_eq!(locks::decode(&doc! {"ok": 1}), None);
    let entry = |id: &str| doc! {"resourceId": id, "granted": [{"mode": "IX"}, {"mode": "?"}], "pending": 7};
    let ids = ["", "{", "{1: Collection", "{1: Collection, 2, a.b, c}", "{1: Database, 2}"];
    let table = locks::decode(&doc! {"lockInfo": ids.map(entry).to_vec()}).unwrap();
    let found: Vec<_> = table.resources.iter().map(|of| (of.name.as_deref(), of.granted.len())).collect();
    assert_eq!(found, [(Some("a.b, c"), 1), (None, 1)]);
}
