//! The aggregation of `$currentOp`. The server removes what is not shown: of a command, its name is left.

use mongodb::bson::{Bson, Document, doc};

/// The maximum number of operations that are read of one member: a few megabytes.
pub(super) const MAX_OPERATIONS: usize = 5_000;

/// The kinds of locks whose waits are counted.
pub(super) const LOCK_RESOURCES: [&str; 6] = [
    "ParallelBatchWriterMode",
    "FeatureCompatibilityVersion",
    "ReplicationStateTransition",
    "Global",
    "Database",
    "Collection",
];

const FIELDS: [&str; 22] = [
    "active",
    "op",
    "opid",
    "ns",
    "client",
    "appName",
    "clientMetadata.driver.name",
    "clientMetadata.driver.version",
    "lsid.id",
    "microsecs_running",
    "waitingForLock",
    "writeConflicts",
    "prepareReadConflicts",
    "transaction.parameters.txnNumber",
    "transaction.parameters.autocommit",
    "transaction.parameters.readConcern.level",
    "transaction.startWallClockTime",
    "transaction.timeOpenMicros",
    "transaction.timeActiveMicros",
    "transaction.timeInactiveMicros",
    "transaction.timePreparedMicros",
    "transaction.expiryTime",
];

/// The command: open transactions, waiting operations, and operations that hold locks. Without `all_users`, the
/// server lists only those of the own user, which needs no privilege.
pub(super) fn current_op(all_users: bool) -> Document {
    let mut stage = doc! {"allUsers": all_users, "idleSessions": true};
    if all_users {
        stage.insert("localOps", true);
    }
    // One more than is read shows whether there are more.
    let limit = i32::try_from(MAX_OPERATIONS + 1).unwrap_or(i32::MAX);
    let pipeline = vec![
        doc! {"$currentOp": stage},
        doc! {"$match": {"$or": [
            // Retryable writes have a `transaction` as well, without `autocommit`.
            {"transaction.parameters.autocommit": false},
            {"waitingForLock": true},
            {"writeConflicts": {"$gt": 0}},
            {"prepareReadConflicts": {"$gt": 0}},
            {"active": true, "locks": {"$exists": true, "$ne": {}}},
        ]}},
        doc! {"$sort": {"waitingForLock": -1, "transaction.timeOpenMicros": -1, "microsecs_running": -1}},
        doc! {"$limit": limit},
        doc! {"$project": projection()},
    ];
    doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": limit}}
}

fn projection() -> Document {
    let mut fields = doc! {"_id": 0};
    fields.extend(FIELDS.iter().map(|field| ((*field).to_owned(), Bson::Int32(1))));
    let waits = LOCK_RESOURCES.iter().map(|resource| format!("lockStats.{resource}.timeAcquiringMicros"));
    fields.extend(waits.map(|field| (field, Bson::Int32(1))));
    // The first key of a command is its name. The values never leave the server.
    let keys = doc! {"$map": {"input": {"$objectToArray": "$command"}, "in": "$$this.k"}};
    let is_document = doc! {"$eq": [{"$type": "$command"}, "object"]};
    fields.insert("command", doc! {"$cond": [is_document, {"$arrayElemAt": [keys, 0]}, Bson::Null]});
    fields
}
