//! Latency metrics of all operations, for comparison with transactions.

use super::{MEMBER, RS, SERVER_DURATION_BUCKETS};
use crate::{Emitter, Kind, Label, Metric, Stability, Unit, Values};

/// Latency of operations. Transactions have `mongodb_transaction_duration_seconds`.
pub const MONGODB_OPERATION_LATENCY: Metric = Metric {
    name: "mongodb_operation_latency_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time that the server took for operations, by kind. A commit is a command; whole transactions are in mongodb_transaction_duration_seconds.",
    labels: &[
        RS,
        MEMBER,
        Label {
            name: "type",
            help: "kind of the operations",
            values: Values::Closed(&["reads", "writes", "commands"]),
        },
    ],
    buckets: SERVER_DURATION_BUCKETS,
    emitter: Emitter::Sidecar,
    source: "serverStatus.opLatencies.<type> with histograms on",
    stability: Stability::Stable,
};
