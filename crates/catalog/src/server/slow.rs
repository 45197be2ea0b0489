//! Slow operations from the profiler, slow transactions from the log. Both are read only when asked for.

use super::{MEMBER, RS, by, count, seconds};
use crate::{Emitter, Kind, Label, Metric, OVERFLOW, Stability, Unit, Values};

/// The most namespaces that one member's profiler tells apart.
pub const MAX_NAMESPACES: usize = 100;

/// The plans that are told apart.
pub const PLANS: &[&str] = &["ixscan", "collscan", "idhack", "other"];

/// How a transaction ended, by the server's log.
pub const TERMINATION_CAUSES: &[&str] = &["committed", "aborted"];

const NAMESPACE: Label = Label {
    name: "namespace",
    help: "database and collection; one that is not seen for an hour makes place for another",
    values: Values::Bounded { most: MAX_NAMESPACES, overflow: Some(OVERFLOW) },
};

const BY_PLAN: &[Label] = &[
    RS,
    MEMBER,
    NAMESPACE,
    Label {
        name: "plan",
        help: "how the operation found its documents: the worst part of its plan",
        values: Values::Closed(PLANS),
    },
];

const TERMINATION_CAUSE: Label = Label {
    name: "termination_cause",
    help: "how the transaction ended",
    values: Values::Closed(TERMINATION_CAUSES),
};

/// Operations that the profiler recorded.
pub const MONGODB_PROFILED_OPERATIONS: Metric = by(
    count(
        "mongodb_profiled_operations_total",
        "Operations that the profiler recorded since the sidecar began to read it, by namespace and plan. Off until asked for.",
        "system.profile",
    ),
    BY_PLAN,
);

/// Time that those operations took.
pub const MONGODB_PROFILED_OPERATIONS_SECONDS: Metric = by(
    seconds(
        "mongodb_profiled_operations_seconds_total",
        "Time that the profiled operations took, added up, by namespace and plan. Off until asked for.",
        "system.profile.millis",
    ),
    BY_PLAN,
);

/// Write conflicts that the profiler recorded.
pub const MONGODB_PROFILED_WRITE_CONFLICTS: Metric = by(
    count(
        "mongodb_profiled_write_conflicts_total",
        "Write conflicts of profiled operations, inside transactions and outside, by namespace: which collection is hot. Off until asked for.",
        "system.profile.writeConflicts, .errCode",
    ),
    &[RS, MEMBER, NAMESPACE],
);

/// Gaps in what was read of the profiler.
pub const MONGODB_PROFILE_GAPS: Metric = count(
    "mongodb_profile_gaps_total",
    "How often the profiler had overwritten entries before they were read: what it recorded is more than was counted. Off until asked for.",
    "system.profile, when its oldest entry is newer than the last that was read",
);

/// Durations of slow transactions.
pub const MONGODB_SLOW_TRANSACTION_DURATION: Metric = Metric {
    name: "mongodb_slow_transaction_duration_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Duration of the transactions that the server logged as slow since the sidecar began to read its log. Off until asked for.",
    labels: &[RS, MEMBER, TERMINATION_CAUSE],
    // From the server's default of what is slow to twice its default limit on a transaction.
    buckets: &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0],
    emitter: Emitter::Sidecar,
    source: "getLog, lines of id 51802",
    stability: Stability::Stable,
};

/// Time during which slow transactions ran no statement.
pub const MONGODB_SLOW_TRANSACTION_INACTIVE_SECONDS: Metric = by(
    seconds(
        "mongodb_slow_transaction_inactive_seconds_total",
        "The part of the duration of slow transactions in which they ran no statement, and waited for their client. Off until asked for.",
        "getLog, lines of id 51802, timeInactiveMicros",
    ),
    &[RS, MEMBER, TERMINATION_CAUSE],
);

/// Lines of the log that were lost.
pub const MONGODB_LOG_LINES_LOST: Metric = count(
    "mongodb_log_lines_lost_total",
    "Lines that the server's log had dropped before they were read: slow transactions may be among them. Off until asked for.",
    "getLog.totalLinesWritten",
);
