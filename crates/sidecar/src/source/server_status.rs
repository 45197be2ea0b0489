//! `serverStatus`: the server's own count of transactions, and how long they took.
//!
//! Its poll also says whether the member is up, and whether [`current_op`](super::current_op) has anything to ask.

use std::borrow::Cow;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use txnscope_catalog as catalog;
use txnscope_catalog::{Metric, SERVER_DURATION_BUCKETS};

use super::{Ask, STATUS, Source, server_status_with};
use crate::decode::{Found, documents, number, text};
use crate::error::PollError;
use crate::reading::{Histogram, Reading};

const MICROS: f64 = 1e6;

#[derive(Debug)]
pub(super) struct ServerStatus;

#[async_trait]
impl Source for ServerStatus {
    fn name(&self) -> &'static str {
        STATUS
    }

    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        let mut command = server_status_with(&["storageEngine", "transactions"]);
        command.insert("opLatencies", doc! {"histograms": true});
        Ok(Some(decode(&ask.run(command).await?)))
    }
}

/// Fields that become a number as they are.
const TRANSACTIONS: &[(&Metric, &[&str], &[&str])] = &[
    (&catalog::MONGODB_TRANSACTIONS_STARTED, &[], &["totalStarted"]),
    (&catalog::MONGODB_TRANSACTIONS_COMMITTED, &[], &["totalCommitted"]),
    (&catalog::MONGODB_TRANSACTIONS_ABORTED, &[], &["totalAborted"]),
    (&catalog::MONGODB_TRANSACTIONS_OPEN, &["active"], &["currentActive"]),
    (&catalog::MONGODB_TRANSACTIONS_OPEN, &["inactive"], &["currentInactive"]),
    (&catalog::MONGODB_TRANSACTIONS_PREPARED_TOTAL, &[], &["totalPrepared"]),
    (&catalog::MONGODB_TRANSACTIONS_PREPARED_COMMITTED, &[], &["totalPreparedThenCommitted"]),
    (&catalog::MONGODB_TRANSACTIONS_PREPARED_ABORTED, &[], &["totalPreparedThenAborted"]),
    (&catalog::MONGODB_TRANSACTIONS_PREPARED, &[], &["currentPrepared"]),
    (&catalog::MONGODB_RETRIED_WRITE_COMMANDS, &[], &["retriedCommandsCount"]),
    (&catalog::MONGODB_RETRIED_WRITE_STATEMENTS, &[], &["retriedStatementsCount"]),
    (&catalog::MONGODB_TRANSACTIONS_TABLE_WRITES, &[], &["transactionsCollectionWriteCount"]),
    (
        &catalog::MONGODB_LAST_COMMITTED_TRANSACTION_OPERATIONS,
        &[],
        &["lastCommittedTransaction", "operationCount"],
    ),
    (
        &catalog::MONGODB_LAST_COMMITTED_TRANSACTION_OPLOG_BYTES,
        &[],
        &["lastCommittedTransaction", "oplogOperationBytes"],
    ),
];

fn decode(reply: &Document) -> Reading {
    let mut reading = Reading::default();
    reading.info(&catalog::MONGODB_INFO, info(reply));
    let uptime = number(reply, &["uptimeMillis"]).map(|millis| millis / 1e3);
    reading.number(&catalog::MONGODB_UPTIME, &[], uptime);
    for (metric, labels, path) in TRANSACTIONS {
        let path: Vec<_> = ["transactions"].into_iter().chain(path.iter().copied()).collect();
        reading.number(metric, labels, number(reply, &path));
    }
    reading.histogram(&catalog::MONGODB_TRANSACTION_DURATION, durations(reply));
    reading
}

/// Version, process and storage engine. The process may come with a path or an extension.
fn info(reply: &Document) -> Vec<Cow<'static, str>> {
    let version = text(reply, &["version"]).ok().unwrap_or_default().to_owned();
    let engine = text(reply, &["storageEngine", "name"]).ok().unwrap_or_default().to_owned();
    let path = text(reply, &["process"]).ok().unwrap_or_default();
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let process = match file.split('.').next().unwrap_or_default() {
        "mongod" => "mongod",
        "mongos" => "mongos",
        _ => "unknown",
    };
    vec![version.into(), process.into(), engine.into()]
}

/// The server names each bucket by its lower bound and leaves out the empty ones. Each bound of ours is one of its
/// bounds, so what begins below a bound lies below it whole.
fn durations(reply: &Document) -> Found<Histogram> {
    let section = ["opLatencies", "transactions"];
    let at = |field| [section[0], section[1], field];
    let buckets = match documents(reply, &at("histogram")) {
        Found::Value(buckets) => buckets,
        Found::Missing => return Found::Missing,
        Found::Odd => return Found::Odd,
    };
    let mut cumulative = vec![0_u64; SERVER_DURATION_BUCKETS.len()];
    let mut all = 0;
    for bucket in buckets {
        let (Found::Value(micros), Found::Value(count)) =
            (number(bucket, &["micros"]), number(bucket, &["count"]))
        else {
            return Found::Odd;
        };
        let count = whole(count);
        all += count;
        let begins_below = SERVER_DURATION_BUCKETS.partition_point(|bound| *bound <= micros / MICROS);
        for of_bound in &mut cumulative[begins_below..] {
            *of_bound += count;
        }
    }
    number(reply, &at("latency")).map(|micros| Histogram { cumulative, count: all, sum: micros / MICROS })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, not negative")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;

    use super::*;
    use crate::reading::Value;

    fn reply() -> Document {
        doc! {
            "version": "6.0.5", "process": "/usr/bin/mongod", "uptimeMillis": 61_500_i64,
            "storageEngine": {"name": "wiredTiger"},
            "opLatencies": {"transactions": {
                "histogram": [{"micros": 64_i64, "count": 1_i64}, {"micros": 128, "count": 2}, {"micros": 3072, "count": 4.0}],
                "latency": 2_500_000_i64, "ops": 7_i64,
            }},
            "transactions": {
                "totalStarted": 10_i64, "totalCommitted": 5.0, "totalAborted": 2, "currentActive": 1_i64,
                "currentInactive": 2_i64,
            },
        }
    }

    fn value(reading: &Reading, metric: &Metric, labels: &[&str]) -> Option<f64> {
        reading.samples().iter().find_map(|sample| match sample.value {
            Value::Number(number) if sample.metric == metric && sample.labels == labels => Some(number),
            _ => None,
        })
    }

    #[test]
    fn a_reply_is_read() {
        let reading = decode(&reply());
        assert_eq!(reading.dropped(), 0);
        assert_eq!(value(&reading, &catalog::MONGODB_TRANSACTIONS_STARTED, &[]), Some(10.0));
        assert_eq!(value(&reading, &catalog::MONGODB_TRANSACTIONS_COMMITTED, &[]), Some(5.0));
        assert_eq!(value(&reading, &catalog::MONGODB_TRANSACTIONS_OPEN, &["inactive"]), Some(2.0));
        assert_eq!(value(&reading, &catalog::MONGODB_UPTIME, &[]), Some(61.5));
        assert_eq!(value(&reading, &catalog::MONGODB_INFO, &["6.0.5", "mongod", "wiredTiger"]), Some(1.0));
        assert_eq!(value(&reading, &catalog::MONGODB_LAST_COMMITTED_TRANSACTION_OPERATIONS, &[]), None);
        assert_eq!(reading.total(&catalog::MONGODB_TRANSACTIONS_OPEN), Some(3.0));
    }

    #[test]
    fn the_server_s_buckets_are_added_up_below_each_bound() {
        let Found::Value(histogram) = durations(&reply()) else { panic!("no histogram") };
        // 64 µs lies below 128 µs; what begins at 128 µs lies below 256 µs; 3072 µs below 4096 µs.
        assert_eq!(histogram.cumulative[..6], [1, 3, 3, 3, 3, 7]);
        assert_eq!((histogram.count, histogram.sum), (7, 2.5));
    }

    #[test]
    fn an_odd_field_costs_itself_only() {
        let mut odd = reply();
        odd.get_document_mut("transactions").unwrap().insert("totalStarted", "ten");
        odd.insert("uptimeMillis", doc! {"floor": 1});
        odd.insert("opLatencies", Bson::Array(vec![]));
        let reading = decode(&odd);
        assert_eq!(reading.dropped(), 3);
        assert_eq!(value(&reading, &catalog::MONGODB_TRANSACTIONS_STARTED, &[]), None);
        assert_eq!(value(&reading, &catalog::MONGODB_TRANSACTIONS_ABORTED, &[]), Some(2.0));
    }

    #[test]
    fn an_empty_reply_is_no_failure() {
        let reading = decode(&Document::new());
        assert_eq!(value(&reading, &catalog::MONGODB_INFO, &["", "unknown", ""]), Some(1.0));
        assert_eq!((reading.samples().len(), reading.dropped()), (1, 0));
        assert_eq!(reading.total(&catalog::MONGODB_TRANSACTIONS_OPEN), None);
    }
}
