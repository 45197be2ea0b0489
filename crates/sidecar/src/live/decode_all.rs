//! One reply through all decoders of the model, for property tests and fuzzing.

use mongodb::bson::{Document, doc};

use super::model::LiveModel;
use super::names::OperationNames;
use super::report::LiveReport;
use super::tracker::Tracker;
use super::tree::blocker_tree;
use super::{locks, operation, rates, transactions};
use crate::decode::documents;

/// Decodes a reply as that of `$currentOp`, `lockInfo` and `serverStatus`; or the fields `operations` and `locks` of
/// a recorded situation. Builds the model and the tree.
pub(crate) fn decode_all(reply: &Document) -> LiveModel {
    let listed = documents(reply, &["operations"]).ok();
    let listed = listed.or_else(|| documents(reply, &["cursor", "firstBatch"]).ok()).unwrap_or_default();
    let operations: Vec<_> = listed.into_iter().map(operation::decode).collect();
    let locks = match reply.get("locks") {
        Some(locks) => locks::decode(&doc! {"lockInfo": locks}),
        None => locks::decode(reply),
    };
    let mut tracker = Tracker::default();
    tracker.observe(&operations);
    rates::decode(reply);
    let (locks, names) = (locks.unwrap_or_default(), OperationNames::default());
    let model = transactions::model("db1:27017", &operations, &locks, &names, &tracker);
    let mut report = LiveReport::default();
    report.append(&model);
    let entries: usize = blocker_tree(&report).iter().map(|row| row.entries.len()).sum();
    let all = model.transactions.len() + model.waiting.len() + model.running.len();
    assert!(entries <= all, "no entry is twice in the tree");
    model
}
