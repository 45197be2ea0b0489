//! Server metrics: values that MongoDB reports and the sidecar polls. One file for each area.

mod contention;
mod current_op;
mod operations;
mod replication;
mod sharding;
mod slow_operations;
mod transactions;

pub use contention::*;
pub use current_op::*;
pub use operations::*;
pub use replication::*;
pub use sharding::*;
pub use slow_operations::*;
pub use transactions::*;

use crate::{Emitter, Kind, Label, Metric, Stability, Unit, Values};

pub(crate) const RS: Label =
    Label { name: "rs", help: "name of the replica set; empty when unknown", values: Values::Deployment };
pub(crate) const MEMBER: Label =
    Label { name: "member", help: "host and port of the member", values: Values::Deployment };

pub(crate) const STATE: Label = Label {
    name: "state",
    help: "`active`: running a statement; `inactive`: between two statements",
    values: Values::Closed(&["active", "inactive"]),
};

const TYPE_OF_ACCESS: Label =
    Label { name: "type", help: "type of access", values: Values::Closed(&["read", "write"]) };

/// Upper bounds, in seconds, of the histograms in `opLatencies`: a subset of the server's own bounds (powers of
/// two of a microsecond), so that no count is split between two buckets.
pub const SERVER_DURATION_BUCKETS: &[f64] = &[
    0.000_128,
    0.000_256,
    0.000_512,
    0.001_024,
    0.002_048,
    0.004_096,
    0.008_192,
    0.016_384,
    0.032_768,
    0.065_536,
    0.131_072,
    0.262_144,
    0.524_288,
    1.048_576,
    2.097_152,
    4.194_304,
    8.388_608,
    16.777_216,
    33.554_432,
    67.108_864,
    134.217_728,
];

pub(crate) const fn server(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    labels: &'static [Label],
    source: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        labels,
        buckets: &[],
        emitter: Emitter::Sidecar,
        source,
        stability: Stability::Stable,
    }
}

pub(crate) const fn count(name: &'static str, help: &'static str, source: &'static str) -> Metric {
    server(name, Kind::Counter, Unit::Count, help, &[RS, MEMBER], source)
}

pub(crate) const fn seconds(name: &'static str, help: &'static str, source: &'static str) -> Metric {
    server(name, Kind::Counter, Unit::Seconds, help, &[RS, MEMBER], source)
}

pub(crate) const fn gauge(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    source: &'static str,
) -> Metric {
    server(name, Kind::Gauge, unit, help, &[RS, MEMBER], source)
}

/// Sets the labels of a metric.
pub(crate) const fn with_labels(metric: Metric, labels: &'static [Label]) -> Metric {
    Metric { labels, ..metric }
}
