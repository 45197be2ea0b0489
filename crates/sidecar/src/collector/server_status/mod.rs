//! `serverStatus`: transaction counters, durations and queues.
//!
//! This poll also determines whether the member is up, and whether [`current_op`](super::current_op) needs a
//! poll.

mod ingress;
mod latencies;
mod locks;
mod sharding;

use std::borrow::Cow;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use txnscope_catalog as catalog;
use txnscope_catalog::Line;

use super::command::{metrics_but_for_operation, server_status_with};
use super::fields::{self, FieldMapping, boolean_field, micros_field, number_field};
use super::{Collector, PollContext, Privilege, STATUS_COLLECTOR};
use crate::decode::{number, text};
use crate::error::PollError;
use crate::live::{LIVE_SECTIONS, LastCounters};
use crate::sample_set::SampleSet;

/// The sections that are read at every poll, a few kB. Larger ones have collectors of their own.
const SECTIONS: &[&str] = &[
    "flowControl",
    "globalLock",
    "locks",
    "network",
    "repl",
    "storageEngine",
    "transactions",
    "twoPhaseCommitCoordinator",
];

#[derive(Debug, Default)]
pub(super) struct ServerStatus {
    limiter: ingress::RateLimiterSupport,
    /// Where the counters of a live view go, which follows this poll, so that the server is asked once.
    counters: Option<LastCounters>,
}

impl ServerStatus {
    pub(super) fn new(counters: Option<LastCounters>) -> Self {
        Self { counters, ..Self::default() }
    }
}

#[async_trait]
impl Collector for ServerStatus {
    fn name(&self) -> &'static str {
        STATUS_COLLECTOR
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("serverStatus")]
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let mut sections: Vec<_> =
            SECTIONS.iter().copied().filter(|section| self.limiter.needs_section(section)).collect();
        sections.extend(self.counters.iter().flat_map(|_| LIVE_SECTIONS));
        let mut command = server_status_with(&sections);
        command.insert("opLatencies", doc! {"histograms": true});
        if self.counters.is_some() {
            command.insert("metrics", metrics_but_for_operation());
        }
        let reply = context.run(command).await;
        if let Some(counters) = &self.counters {
            counters.set(&reply);
        }
        let reply = reply?;
        self.limiter.update(&reply);
        Ok(Some(decode(&reply)))
    }
}

const FIELDS: &[FieldMapping] = &[
    number_field(&catalog::MONGODB_TRANSACTIONS_STARTED, &["transactions", "totalStarted"]),
    number_field(&catalog::MONGODB_TRANSACTIONS_COMMITTED, &["transactions", "totalCommitted"]),
    number_field(&catalog::MONGODB_TRANSACTIONS_ABORTED, &["transactions", "totalAborted"]),
    number_field(&catalog::MONGODB_TRANSACTIONS_OPEN, &["transactions", "currentActive"]).of(&["active"]),
    number_field(&catalog::MONGODB_TRANSACTIONS_OPEN, &["transactions", "currentInactive"]).of(&["inactive"]),
    number_field(&catalog::MONGODB_TRANSACTIONS_PREPARED_TOTAL, &["transactions", "totalPrepared"]),
    number_field(
        &catalog::MONGODB_TRANSACTIONS_PREPARED_COMMITTED,
        &["transactions", "totalPreparedThenCommitted"],
    ),
    number_field(
        &catalog::MONGODB_TRANSACTIONS_PREPARED_ABORTED,
        &["transactions", "totalPreparedThenAborted"],
    ),
    number_field(&catalog::MONGODB_TRANSACTIONS_PREPARED, &["transactions", "currentPrepared"]),
    number_field(&catalog::MONGODB_RETRIED_WRITE_COMMANDS, &["transactions", "retriedCommandsCount"]),
    number_field(&catalog::MONGODB_RETRIED_WRITE_STATEMENTS, &["transactions", "retriedStatementsCount"]),
    number_field(
        &catalog::MONGODB_TRANSACTIONS_TABLE_WRITES,
        &["transactions", "transactionsCollectionWriteCount"],
    ),
    number_field(
        &catalog::MONGODB_LAST_COMMITTED_TRANSACTION_OPERATIONS,
        &["transactions", "lastCommittedTransaction", "operationCount"],
    ),
    number_field(
        &catalog::MONGODB_LAST_COMMITTED_TRANSACTION_OPLOG_BYTES,
        &["transactions", "lastCommittedTransaction", "oplogOperationBytes"],
    ),
    number_field(&catalog::MONGODB_GLOBAL_LOCK_QUEUE, &["globalLock", "currentQueue", "readers"])
        .of(&["read"]),
    number_field(&catalog::MONGODB_GLOBAL_LOCK_QUEUE, &["globalLock", "currentQueue", "writers"])
        .of(&["write"]),
    number_field(&catalog::MONGODB_GLOBAL_LOCK_ACTIVE_CLIENTS, &["globalLock", "activeClients", "readers"])
        .of(&["read"]),
    number_field(&catalog::MONGODB_GLOBAL_LOCK_ACTIVE_CLIENTS, &["globalLock", "activeClients", "writers"])
        .of(&["write"]),
    boolean_field(&catalog::MONGODB_FLOW_CONTROL_LAGGED, &["flowControl", "isLagged"]),
    number_field(&catalog::MONGODB_FLOW_CONTROL_LAGGED_TOTAL, &["flowControl", "isLaggedCount"]),
    micros_field(&catalog::MONGODB_FLOW_CONTROL_LAGGED_SECONDS, &["flowControl", "isLaggedTimeMicros"]),
    micros_field(&catalog::MONGODB_FLOW_CONTROL_WAIT_SECONDS, &["flowControl", "timeAcquiringMicros"]),
];

pub(super) fn decode(reply: &Document) -> SampleSet {
    let mut samples = SampleSet::default();
    samples.info(&catalog::MONGODB_INFO, info(reply));
    let uptime = number(reply, &["uptimeMillis"]).map(|millis| millis / 1e3);
    samples.number(&catalog::MONGODB_UPTIME, &[], uptime);
    fields::read(&mut samples, reply, FIELDS);
    ingress::read(&mut samples, reply);
    latencies::read(&mut samples, reply);
    locks::read(&mut samples, reply);
    sharding::read(&mut samples, reply);
    samples
}

/// The longest server text that becomes a label, in bytes.
const MAX_LABEL_BYTES: usize = 255;

/// Version, process and storage engine. The process may come with a path or an extension.
fn info(reply: &Document) -> Vec<Cow<'static, str>> {
    let label =
        |path: &[&str]| Line::new(text(reply, path).ok().unwrap_or_default(), MAX_LABEL_BYTES).to_string();
    let (version, engine) = (label(&["version"]), label(&["storageEngine", "name"]));
    let path = text(reply, &["process"]).ok().unwrap_or_default();
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let process = match file.split('.').next().unwrap_or_default() {
        "mongod" => "mongod",
        "mongos" => "mongos",
        _ => "unknown",
    };
    vec![version.into(), process.into(), engine.into()]
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;

    use txnscope_catalog::Metric;

    use super::*;
    use crate::sample_set::Value;

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

    fn value(samples: &SampleSet, metric: &Metric, labels: &[&str]) -> Option<f64> {
        samples.as_slice().iter().find_map(|sample| match sample.value {
            Value::Number(number) if sample.metric == metric && sample.labels == labels => Some(number),
            _ => None,
        })
    }

    #[test]
    fn server_status_reply_is_decoded() {
        let samples = decode(&reply());
        assert_eq!(samples.dropped(), 0);
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_STARTED, &[]), Some(10.0));
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_COMMITTED, &[]), Some(5.0));
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_OPEN, &["inactive"]), Some(2.0));
        assert_eq!(value(&samples, &catalog::MONGODB_UPTIME, &[]), Some(61.5));
        assert_eq!(value(&samples, &catalog::MONGODB_INFO, &["6.0.5", "mongod", "wiredTiger"]), Some(1.0));
        assert_eq!(value(&samples, &catalog::MONGODB_LAST_COMMITTED_TRANSACTION_OPERATIONS, &[]), None);
        assert_eq!(samples.total(&catalog::MONGODB_TRANSACTIONS_OPEN), Some(3.0));
    }

    #[test]
    fn invalid_field_is_dropped() {
        let mut invalid = reply();
        invalid.get_document_mut("transactions").unwrap().insert("totalStarted", "ten");
        invalid.insert("uptimeMillis", doc! {"floor": 1});
        invalid.insert("opLatencies", Bson::Array(vec![]));
        let samples = decode(&invalid);
        // Uptime, info, and one histogram for each of four kinds.
        assert_eq!(samples.dropped(), 6);
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_STARTED, &[]), None);
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_ABORTED, &[]), Some(2.0));
    }

    #[test]
    fn empty_reply_is_accepted() {
        let samples = decode(&Document::new());
        assert_eq!(value(&samples, &catalog::MONGODB_INFO, &["", "unknown", ""]), Some(1.0));
        assert_eq!((samples.as_slice().len(), samples.dropped()), (1, 0));
        assert_eq!(samples.total(&catalog::MONGODB_TRANSACTIONS_OPEN), None);
    }
}
