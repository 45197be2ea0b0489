//! Rates, from the counters of two polls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mongodb::bson::{Bson, Document};
use serde::Serialize;
use txnscope_catalog as catalog;

use crate::decode::{Field, field, number};
use crate::error::PollError;
use crate::sample_set::SampleSet;

/// The counters of one poll. A missing counter costs its own rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters {
    /// Milliseconds since the server was started.
    uptime: Option<f64>,
    started: Option<f64>,
    committed: Option<f64>,
    aborted: Option<f64>,
    write_conflicts: Option<f64>,
    lock_waits: Option<f64>,
    /// The number of open transactions, which is no counter.
    pub(super) open: Option<f64>,
}

/// Events per second, between two polls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Transactions that began.
    #[serde(rename = "starts_per_second")]
    pub starts: Option<f64>,
    /// Transactions that were committed.
    #[serde(rename = "commits_per_second")]
    pub commits: Option<f64>,
    /// Transactions that were aborted. The server does not count why.
    #[serde(rename = "aborts_per_second")]
    pub aborts: Option<f64>,
    /// Updates that met a write conflict, inside and outside of transactions.
    #[serde(rename = "write_conflicts_per_second")]
    pub write_conflicts: Option<f64>,
    /// Requests for a lock that had to wait.
    #[serde(rename = "lock_waits_per_second")]
    pub lock_waits: Option<f64>,
}

/// The sections of `serverStatus` that are read besides those of every status poll.
pub(crate) const LIVE_SECTIONS: [&str; 2] = ["metrics", "wiredTiger"];

/// The counters of the last status poll of a member, or why there are none, until the live collector takes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastCounters(Arc<Mutex<Option<Result<Counters, PollError>>>>);

impl LastCounters {
    /// Sets the counters from a reply to `serverStatus`.
    pub(crate) fn set(&self, reply: &Result<Document, PollError>) {
        *self.lock() = Some(reply.as_ref().map(decode).map_err(Clone::clone));
    }

    /// The counters of the last poll, once.
    pub(super) fn take(&self) -> Option<Result<Counters, PollError>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Counters, PollError>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decodes `serverStatus`.
pub(super) fn decode(status: &Document) -> Counters {
    let of = |path: &[&str]| number(status, path).ok();
    Counters {
        uptime: of(&["uptimeMillis"]),
        started: of(&["transactions", "totalStarted"]),
        committed: of(&["transactions", "totalCommitted"]),
        aborted: of(&["transactions", "totalAborted"]),
        // The server's other counter, `metrics.operation.writeConflicts`, leaves out transactions.
        write_conflicts: of(&["wiredTiger", "transaction", "update conflicts"])
            .or_else(|| of(&["metrics", "operation", "writeConflicts"])),
        lock_waits: lock_waits(status),
        open: of(&["transactions", "currentOpen"]),
    }
}

/// The same counters from the samples of a regular poll.
pub(super) fn of_samples(samples: &SampleSet) -> Counters {
    Counters {
        uptime: samples.total(&catalog::MONGODB_UPTIME).map(|seconds| seconds * 1e3),
        started: samples.total(&catalog::MONGODB_TRANSACTIONS_STARTED),
        committed: samples.total(&catalog::MONGODB_TRANSACTIONS_COMMITTED),
        aborted: samples.total(&catalog::MONGODB_TRANSACTIONS_ABORTED),
        // The storage engine's counter is in the samples of another collector.
        write_conflicts: None,
        lock_waits: samples.total(&catalog::MONGODB_LOCK_WAITS),
        open: samples.total(&catalog::MONGODB_TRANSACTIONS_OPEN),
    }
}

fn lock_waits(status: &Document) -> Option<f64> {
    let mut sum = None;
    for resource in ["Global", "Database", "Collection"] {
        // The server sends a count once it is above zero.
        let Field::Value(Bson::Document(of)) = field(status, &["locks", resource]) else { continue };
        let waits = match field(of, &["acquireWaitCount"]) {
            Field::Value(Bson::Document(modes)) => {
                modes.keys().filter_map(|mode| number(modes, &[mode]).ok()).sum()
            }
            _ => 0.0,
        };
        sum = Some(sum.unwrap_or(0.0) + waits);
    }
    sum
}

/// The rates between two polls. `None` if the server was restarted in between, or the polls are the same.
pub(super) fn rates(before: &Counters, now: &Counters) -> Option<Rates> {
    let seconds = (now.uptime? - before.uptime?) / 1e3;
    if seconds <= 0.0 {
        return None;
    }
    let rate = |of: fn(&Counters) -> Option<f64>| {
        let (before, now) = (of(before)?, of(now)?);
        (now >= before).then(|| ((now - before) / seconds * 1e3).round() / 1e3)
    };
    Some(Rates {
        starts: rate(|counters| counters.started),
        commits: rate(|counters| counters.committed),
        aborts: rate(|counters| counters.aborted),
        write_conflicts: rate(|counters| counters.write_conflicts),
        lock_waits: rate(|counters| counters.lock_waits),
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn status(uptime: i64, committed: i64, conflicts: i64, waits: i64) -> Counters {
        decode(&doc! {
            "uptimeMillis": uptime,
            "transactions": {"totalStarted": committed, "totalCommitted": committed, "currentOpen": 2_i64},
            "wiredTiger": {"transaction": {"update conflicts": conflicts}},
            "metrics": {"operation": {"writeConflicts": 1_i64}},
            "locks": {"Global": {"acquireCount": {"w": 7}}, "Collection": {"acquireWaitCount": {"w": waits, "W": 1}}},
        })
    }

    #[test]
    fn rates_are_differences_per_second_of_the_server() {
        let found = rates(&status(1_000, 10, 5, 3), &status(3_000, 40, 6, 3)).unwrap();
        assert_eq!((found.commits, found.starts), (Some(15.0), Some(15.0)));
        assert_eq!((found.write_conflicts, found.lock_waits), (Some(0.5), Some(0.0)));
        assert_eq!(found.aborts, None, "the server does not send this counter");
    }

    #[test]
    fn restart_and_reset_counters_have_no_rate() {
        assert_eq!(rates(&status(9_000, 10, 5, 3), &status(1_000, 0, 0, 0)), None);
        assert_eq!(rates(&status(9_000, 10, 5, 3), &status(9_000, 10, 5, 3)), None);
        let reset = rates(&status(1_000, 10, 5, 3), &status(2_000, 1, 6, 3)).unwrap();
        assert_eq!((reset.commits, reset.write_conflicts), (None, Some(1.0)));
        assert_eq!(rates(&Counters::default(), &status(1, 1, 1, 1)), None);
    }

    #[test]
    fn conflicts_without_a_storage_engine_section_are_those_outside_of_transactions() {
        let found = decode(&doc! {"metrics": {"operation": {"writeConflicts": 4}}});
        assert_eq!((found.write_conflicts, found.lock_waits), (Some(4.0), None));
    }
}
