//! What the checks on the data say: whether the money is right, and whether that was looked at lately.
//!
//! A check reads the deployment through whichever member the driver chooses, so its series name the replica set and
//! no member: an election must not make a second series of them.

use crate::server::{RS, server};
use crate::{CHECK_ERROR_REASONS, Kind, Label, MAX_CHECKS, Metric, SEVERITIES, Unit, Values};

const CHECK: Label = Label {
    name: "check",
    help: "name of a check, from the file of checks",
    values: Values::Bounded { most: MAX_CHECKS, overflow: None },
};

const SEVERITY: Label =
    Label { name: "severity", help: "how bad a violation is", values: Values::Closed(SEVERITIES) };

const REASON: Label =
    Label { name: "reason", help: "why a check did not run", values: Values::Closed(CHECK_ERROR_REASONS) };

/// What a check found.
pub const MONGODB_CONSISTENCY_VIOLATIONS: Metric = server(
    "mongodb_consistency_violations",
    Kind::Gauge,
    Unit::Count,
    "What the last successful run of a check found wrong; absent until one succeeded, and when none has for three intervals. Never 0 because a check could not run.",
    &[RS, CHECK, SEVERITY],
    "the check, at read concern snapshot (majority before MongoDB 5.0)",
);

/// When a check last ran to its end.
pub const MONGODB_CONSISTENCY_LAST_SUCCESS: Metric = server(
    "mongodb_consistency_last_success_timestamp_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "When a check last ran to its end, whatever it found, as a Unix time; 0 until it did.",
    &[RS, CHECK],
    "the sidecar's clock",
);

/// How often a check is to run.
pub const MONGODB_CONSISTENCY_INTERVAL: Metric = server(
    "mongodb_consistency_interval_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "How often a check is to run.",
    &[RS, CHECK],
    "the file of checks",
);

/// How long a check took.
pub const MONGODB_CONSISTENCY_CHECK_DURATION: Metric = server(
    "mongodb_consistency_check_duration_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "How long the last run of a check took, whether it succeeded or not.",
    &[RS, CHECK],
    "the check",
);

/// How much a check looked at.
pub const MONGODB_CONSISTENCY_DOCUMENTS_EXAMINED: Metric = server(
    "mongodb_consistency_documents_examined",
    Kind::Gauge,
    Unit::Count,
    "Documents in the collection of a check when it last succeeded. A check of an empty collection proves nothing.",
    &[RS, CHECK],
    "the collection's metadata",
);

/// Runs that failed.
pub const MONGODB_CONSISTENCY_CHECK_ERRORS: Metric = server(
    "mongodb_consistency_check_errors_total",
    Kind::Counter,
    Unit::Count,
    "Runs of a check that could not say whether the data is right, by reason.",
    &[RS, CHECK, REASON],
    "the check",
);
