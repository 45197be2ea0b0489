//! Every metric that txnscope emits: name, kind, unit, help, labels with their closed values, buckets.
//!
//! This crate is the only place where a metric name is spelled. The library registers from it, the sidecar
//! exports from it, `docs/metrics.md` is printed from it, and tests compare a live scrape with it both ways.
//!
//! ```
//! let metric = txnscope_catalog::find("transaction_attempts_total").expect("in the catalogue");
//! assert_eq!(metric.labels[0].name, "operation");
//! ```

mod caller;
mod itself;
mod markdown;
mod metric;
mod server;
mod words;

pub use caller::*;
pub use itself::*;
pub use markdown::markdown;
pub use metric::{Emitter, Kind, Label, Metric, Stability, Unit, Values};
pub use server::*;
pub use words::*;

/// Every metric, in the order in which the documentation lists them.
pub const METRICS: &[&Metric] = &[
    &TRANSACTION_ATTEMPTS,
    &TRANSACTION_FAILURES,
    &TRANSACTION_DURATION,
    &CONCURRENT_OPERATIONS,
    &MONGODB_UP,
    &MONGODB_INFO,
    &MONGODB_UPTIME,
    &MONGODB_TRANSACTIONS_STARTED,
    &MONGODB_TRANSACTIONS_COMMITTED,
    &MONGODB_TRANSACTIONS_ABORTED,
    &MONGODB_TRANSACTIONS_OPEN,
    &MONGODB_TRANSACTIONS_PREPARED_TOTAL,
    &MONGODB_TRANSACTIONS_PREPARED_COMMITTED,
    &MONGODB_TRANSACTIONS_PREPARED_ABORTED,
    &MONGODB_TRANSACTIONS_PREPARED,
    &MONGODB_TRANSACTION_DURATION,
    &MONGODB_LAST_COMMITTED_TRANSACTION_OPERATIONS,
    &MONGODB_LAST_COMMITTED_TRANSACTION_OPLOG_BYTES,
    &MONGODB_RETRIED_WRITE_COMMANDS,
    &MONGODB_RETRIED_WRITE_STATEMENTS,
    &MONGODB_TRANSACTIONS_TABLE_WRITES,
    &MONGODB_OPERATION_WRITE_CONFLICTS,
    &MONGODB_WIREDTIGER_UPDATE_CONFLICTS,
    &MONGODB_TRANSACTIONS_OLDEST_OPEN,
    &MONGODB_TRANSACTIONS_WAITING_FOR_LOCK,
    &TXNSCOPE_BUILD_INFO,
    &TXNSCOPE_POLL_SUCCESS,
    &TXNSCOPE_POLL_DURATION,
    &TXNSCOPE_POLL_AGE,
    &TXNSCOPE_POLL_ERRORS,
    &TXNSCOPE_SERIES_DROPPED,
];

/// The metric of that exact name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().copied().find(|metric| metric.name == name)
}

/// The metrics that one emitter exposes.
pub fn emitted_by(emitter: Emitter) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().copied().filter(move |metric| metric.emitter == emitter)
}

#[cfg(test)]
mod tests;
