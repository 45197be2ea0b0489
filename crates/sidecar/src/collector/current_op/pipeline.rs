//! The aggregations on `$currentOp`. They run on the server, so the replies are small however many transactions
//! are open.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use txnscope_catalog::AGE_BUCKETS;

/// The maximum number of applications for each state, those with the oldest transactions. The others are still
/// part of the sums.
const APPLICATIONS: i32 = 100;

const OPEN_MICROS: &str = "$transaction.timeOpenMicros";

/// Only transactions have `autocommit: false` (a retryable write has no `autocommit`), so the sidecar's own
/// operations are not included. A commit that waits for a majority is no transaction to the server any more,
/// only a command; and an operation that is blocked by a prepared transaction need not be in one.
fn match_relevant() -> Document {
    doc! {"$match": {"$or": [
        {"transaction.parameters.autocommit": false},
        {"command.commitTransaction": {"$exists": true}},
        {"command.abortTransaction": {"$exists": true}},
        {"prepareReadConflicts": {"$gt": 0}},
    ]}}
}

fn current_op_stage() -> Document {
    doc! {"$currentOp": {"allUsers": true, "idleSessions": true, "localOps": true}}
}

fn count_if(condition: impl Into<Bson>) -> Document {
    doc! {"$sum": {"$cond": [condition.into(), 1, 0]}}
}

/// The lower bounds of the age buckets, without the first, which has all transactions.
fn age_thresholds() -> impl Iterator<Item = (String, f64)> {
    AGE_BUCKETS.iter().skip(1).map(|(from, name)| ((*name).to_owned(), f64::from(*from) * 1e6))
}

/// `appName` of the client. Many clients have none, such as Mongoose as it connects by default: then it is the name of the
/// driver, `nodejs|Mongoose`.
fn application() -> Document {
    doc! {"$cond": [{"$gt": ["$appName", ""]}, "$appName", "$clientMetadata.driver.name"]}
}

/// One document for each state that has transactions, with sums and the applications.
pub(super) fn summary(long_running: Duration) -> Document {
    let open = doc! {"$eq": ["$transaction.parameters.autocommit", false]};
    let ending = |command: &str| doc! {"$ne": [{"$type": format!("$command.{command}")}, "missing"]};
    let running =
        |command: &str| doc! {"$max": {"$cond": [ending(command), "$microsecs_running", Bson::Null]}};
    let waiting = doc! {"$and": [&open, {"$eq": ["$waitingForLock", true]}]};
    let mut each = doc! {
        "_id": {"active": {"$eq": ["$active", true]}, "application": application()},
        "open": count_if(open),
        "oldest": {"$max": OPEN_MICROS},
        "oldest_prepared": {"$max": "$transaction.timePreparedMicros"},
        "waiting": count_if(waiting),
        "blocked": count_if(doc! {"$gt": ["$prepareReadConflicts", 0]}),
        "long_running": count_if(doc! {"$gt": [OPEN_MICROS, micros(long_running)]}),
        "commit": count_if(ending("commitTransaction")),
        "abort": count_if(ending("abortTransaction")),
        "oldest_commit": running("commitTransaction"),
        "oldest_abort": running("abortTransaction"),
    };
    let mut all = doc! {
        "_id": "$_id.active",
        "applications": {"$push": {"name": "$_id.application", "open": "$open", "oldest": "$oldest"}},
    };
    for (name, from) in age_thresholds() {
        each.insert(&name, count_if(doc! {"$gte": [OPEN_MICROS, from]}));
    }
    let fields: Vec<_> = each.keys().filter(|name| *name != "_id").cloned().collect();
    for name in fields {
        let sum = if name.starts_with("oldest") { "$max" } else { "$sum" };
        all.insert(&name, doc! {sum: format!("${name}")});
    }
    let pipeline = vec![
        current_op_stage(),
        match_relevant(),
        doc! {"$group": each},
        doc! {"$sort": {"oldest": -1}},
        doc! {"$group": all},
        doc! {"$addFields": {"applications": {"$slice": ["$applications", APPLICATIONS]}}},
    ];
    doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}}
}

/// The oldest open transactions, if they are older than `older_than`.
pub(super) fn oldest(older_than: Duration, most: u16) -> Document {
    let pipeline = vec![
        current_op_stage(),
        doc! {"$match": {
            "transaction.parameters.autocommit": false,
            "transaction.timeOpenMicros": {"$gt": micros(older_than)},
        }},
        doc! {"$sort": {"transaction.timeOpenMicros": -1}},
        doc! {"$limit": i32::from(most)},
        doc! {"$project": {
            "_id": 0,
            "lsid.id": 1,
            "transaction.parameters.txnNumber": 1,
            "transaction.timeOpenMicros": 1,
            "active": 1,
            "application": application(),
            "client": 1,
        }},
    ];
    // Only the first batch is read, which has 101 documents by default. With one more than there can be, the server closes
    // the cursor by itself.
    doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": i32::from(most) + 1}}
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
