//! Storage engine statistics in `serverStatus`: write conflicts and tickets.
//!
//! The section has 25 kB, costs the server more than all others, and cannot be filtered, so it has a longer
//! interval. Both conflict counters come from one reply, so that their difference is exact.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::Document;
use txnscope_catalog as catalog;
use txnscope_catalog::Metric;

use super::command::{metrics_but_for_operation, server_status_with};
use super::{Collector, PollContext, Privilege, Schedule};
use crate::decode::{Field, document, number};
use crate::error::PollError;
use crate::sample_set::SampleSet;

#[derive(Debug)]
pub(super) struct StorageEngine {
    pub(super) interval: Duration,
}

#[async_trait]
impl Collector for StorageEngine {
    fn name(&self) -> &'static str {
        "storage_engine"
    }

    fn schedule(&self) -> Schedule {
        Schedule::Interval(self.interval)
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("serverStatus")]
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let mut command = server_status_with(&["queues", "repl", "wiredTiger"]);
        command.insert("metrics", metrics_but_for_operation());
        Ok(Some(decode(&context.run(command).await?)))
    }
}

pub(super) fn decode(reply: &Document) -> SampleSet {
    let mut samples = SampleSet::default();
    let retried = number(reply, &["metrics", "operation", "writeConflicts"]);
    samples.number(&catalog::MONGODB_OPERATION_WRITE_CONFLICTS, &[], retried);
    let detected = number(reply, &["wiredTiger", "transaction", "update conflicts"]);
    samples.number(&catalog::MONGODB_WIREDTIGER_UPDATE_CONFLICTS, &[], detected);
    tickets(&mut samples, reply);
    samples
}

/// Ticket metrics, the field below `read` or `write`, and the divisor to the metric's unit.
const TICKETS: [(&Metric, &[&str], f64); 5] = [
    (&catalog::MONGODB_TICKETS_IN_USE, &["out"], 1.0),
    (&catalog::MONGODB_TICKETS_AVAILABLE, &["available"], 1.0),
    (&catalog::MONGODB_TICKETS_LIMIT, &["totalTickets"], 1.0),
    (&catalog::MONGODB_TICKET_QUEUE, &["normalPriority", "queueLength"], 1.0),
    (&catalog::MONGODB_TICKET_WAIT_SECONDS, &["normalPriority", "totalTimeQueuedMicros"], 1e6),
];

/// Up to 7.0 the tickets belong to the storage engine, later to the server's queues; the fields within are the
/// same.
fn tickets(samples: &mut SampleSet, reply: &Document) {
    let places: [&[&str]; 2] = [&["queues", "execution"], &["wiredTiger", "concurrentTransactions"]];
    let found = places.into_iter().map(|place| document(reply, place)).find(|found| *found != Field::Missing);
    let tickets = match found {
        Some(Field::Value(tickets)) => tickets,
        Some(Field::Invalid) => return samples.count_dropped(),
        Some(Field::Missing) | None => return,
    };
    for kind in ["read", "write"] {
        for (metric, field, scale) in TICKETS {
            let path: Vec<_> = [kind].into_iter().chain(field.iter().copied()).collect();
            samples.number(metric, &[kind], number(tickets, &path).map(|number| number / scale));
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn numbers(samples: &SampleSet, metric: &Metric) -> Vec<f64> {
        samples.numbers().filter(|(of, _, _)| of.name == metric.name).map(|found| found.2).collect()
    }

    #[test]
    fn server_without_wiredtiger_has_no_update_conflicts() {
        let operation = doc! {"operation": {"writeConflicts": 3_i64}};
        let both = doc! {"metrics": &operation, "wiredTiger": {"transaction": {"update conflicts": 5}}};
        assert_eq!(decode(&both).as_slice().len(), 2);
        assert_eq!(decode(&doc! {"metrics": operation}).as_slice().len(), 1);
    }

    #[test]
    fn tickets_of_old_and_new_servers_have_one_metric() {
        let old = doc! {"read": {"out": 1, "available": 127, "totalTickets": 128},
        "write": {"out": 2, "available": 126, "totalTickets": 128}};
        let mut new = old.clone();
        new.get_document_mut("write")
            .unwrap()
            .insert("normalPriority", doc! {"queueLength": 7_i64, "totalTimeQueuedMicros": 2_500_000_i64});
        let old = decode(&doc! {"wiredTiger": {"concurrentTransactions": old}});
        let new = decode(&doc! {"queues": {"execution": new}, "wiredTiger": {"cache": {}}});
        for samples in [&old, &new] {
            assert_eq!(numbers(samples, &catalog::MONGODB_TICKETS_IN_USE), [1.0, 2.0]);
            assert_eq!(numbers(samples, &catalog::MONGODB_TICKETS_LIMIT), [128.0, 128.0]);
            assert_eq!(samples.dropped(), 0);
        }
        assert_eq!(numbers(&old, &catalog::MONGODB_TICKET_QUEUE), [0.0; 0]);
        assert_eq!(numbers(&new, &catalog::MONGODB_TICKET_QUEUE), [7.0]);
        assert_eq!(numbers(&new, &catalog::MONGODB_TICKET_WAIT_SECONDS), [2.5]);
    }
}
