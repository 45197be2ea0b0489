//! Slow operations from the profiler, and slow transactions from the log. Both collectors are off by default.

use super::{MEMBER, RS, count, seconds, with_labels};
use crate::{Emitter, Kind, Label, Metric, OVERFLOW, Stability, Unit, Values};

/// The maximum number of namespaces of one member's profiler.
pub const MAX_NAMESPACES: usize = 100;

/// The plan classes.
pub const PLANS: &[&str] = &["ixscan", "collscan", "idhack", "other"];

/// How a transaction ended, from the server's log.
pub const TERMINATION_CAUSES: &[&str] = &["committed", "aborted"];

const NAMESPACE: Label = Label {
    name: "namespace",
    help: "database and collection; a value that is not seen for an hour may be replaced by another",
    values: Values::Bounded { max: MAX_NAMESPACES, overflow: Some(OVERFLOW) },
};

const BY_PLAN: &[Label] = &[
    RS,
    MEMBER,
    NAMESPACE,
    Label {
        name: "plan",
        help: "how the operation found its documents: the most expensive stage of its plan",
        values: Values::Closed(PLANS),
    },
];

const TERMINATION_CAUSE: Label = Label {
    name: "termination_cause",
    help: "how the transaction ended",
    values: Values::Closed(TERMINATION_CAUSES),
};

/// Operations that the profiler recorded.
pub const MONGODB_PROFILED_OPERATIONS: Metric = with_labels(
    count(
        "mongodb_profiled_operations_total",
        "Operations that the profiler recorded since the sidecar began to read it, by namespace and plan. Off by default.",
        "system.profile",
    ),
    BY_PLAN,
);

/// Duration of profiled operations.
pub const MONGODB_PROFILED_OPERATIONS_SECONDS: Metric = with_labels(
    seconds(
        "mongodb_profiled_operations_seconds_total",
        "Time that the profiled operations took, added up, by namespace and plan. Off by default.",
        "system.profile.millis",
    ),
    BY_PLAN,
);

/// Write conflicts that the profiler recorded.
pub const MONGODB_PROFILED_WRITE_CONFLICTS: Metric = with_labels(
    count(
        "mongodb_profiled_write_conflicts_total",
        "Write conflicts of profiled operations, inside transactions and outside, by namespace. Off by default.",
        "system.profile.writeConflicts, .errCode",
    ),
    &[RS, MEMBER, NAMESPACE],
);

/// Gaps in the profiler's entries.
pub const MONGODB_PROFILE_GAPS: Metric = count(
    "mongodb_profile_gaps_total",
    "Number of times that the profiler overwrote entries before they were read, so that they are missing in the counters. Off by default.",
    "system.profile, when its oldest entry is newer than the last that was read",
);

/// Durations of slow transactions.
pub const MONGODB_SLOW_TRANSACTION_DURATION: Metric = Metric {
    name: "mongodb_slow_transaction_duration_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Duration of the transactions that the server logged as slow since the sidecar began to read its log. Off by default.",
    labels: &[RS, MEMBER, TERMINATION_CAUSE],
    // From the server's default `slowms` to twice its default lifetime limit.
    buckets: &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0],
    emitter: Emitter::Sidecar,
    source: "getLog, lines of id 51802",
    stability: Stability::Stable,
};

/// Idle time of slow transactions.
pub const MONGODB_SLOW_TRANSACTION_INACTIVE_SECONDS: Metric = with_labels(
    seconds(
        "mongodb_slow_transaction_inactive_seconds_total",
        "Idle time of slow transactions, in which they ran no statement and waited for their client. Off by default.",
        "getLog, lines of id 51802, timeInactiveMicros",
    ),
    &[RS, MEMBER, TERMINATION_CAUSE],
);

/// Log lines that were lost.
pub const MONGODB_LOG_LINES_LOST: Metric = count(
    "mongodb_log_lines_lost_total",
    "Log lines that the server overwrote before they were read, possibly of slow transactions. Off by default.",
    "getLog.totalLinesWritten",
);
