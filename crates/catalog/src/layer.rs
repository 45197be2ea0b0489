//! Layer metrics: operations as the client of a request sees them, measured by the tower layer.

use crate::{
    Emitter, FAILURE_OUTCOMES, Kind, Label, MAX_OPERATIONS, Metric, OUTCOMES, OVERFLOW, REASONS, Stability,
    Unit, Values,
};

pub(crate) const OPERATION: Label = Label {
    name: "operation",
    help: "method and route template, a name given by the application, or a constant (`unmatched`, `not_ready`, `unscoped`, `overflow`)",
    values: Values::Bounded { max: MAX_OPERATIONS, overflow: Some(OVERFLOW) },
};

/// Seconds from 1 ms to 60 s. A transaction on an idle replica set takes 2 to 5 ms; the server ends one after
/// 60 s. 0.1, 0.25, 0.5 and 1 are the boundaries that latency objectives are stated in, so they are exact.
pub const DURATION_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Operations admitted.
pub const TRANSACTION_ATTEMPTS: Metric = Metric {
    name: "transaction_attempts_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    help: "Operations admitted, with any outcome.",
    labels: &[OPERATION],
    buckets: &[],
    emitter: Emitter::Library,
    source: "tower layer, when the request enters",
    stability: Stability::Stable,
};

/// Operations with another outcome than `succeeded`.
pub const TRANSACTION_FAILURES: Metric = Metric {
    name: "transaction_failures_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    help: "Operations that did not succeed, by outcome and reason.",
    labels: &[
        OPERATION,
        Label {
            name: "outcome",
            help: "outcome of the operation; `failed` and `panicked` are faults, `rejected` and `cancelled` are not",
            values: Values::Closed(FAILURE_OUTCOMES),
        },
        Label { name: "reason", help: "why", values: Values::Declared(REASONS) },
    ],
    buckets: &[],
    emitter: Emitter::Library,
    source: "tower layer, when the response is ready or the request is dropped",
    stability: Stability::Stable,
};

/// Time from admission to the response head.
pub const TRANSACTION_DURATION: Metric = Metric {
    name: "transaction_duration_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time from admission of an operation to its response, its failure or its cancellation.",
    labels: &[
        OPERATION,
        Label { name: "outcome", help: "outcome of the operation", values: Values::Closed(OUTCOMES) },
    ],
    buckets: DURATION_BUCKETS,
    emitter: Emitter::Library,
    source: "tower layer, one clock read at each end",
    stability: Stability::Stable,
};

/// Operations in flight.
pub const CONCURRENT_OPERATIONS: Metric = Metric {
    name: "concurrent_operations",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Operations in flight.",
    labels: &[OPERATION],
    buckets: &[],
    emitter: Emitter::Library,
    source: "tower layer",
    stability: Stability::Stable,
};
