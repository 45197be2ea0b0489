//! Check metrics: violations found in the data, and the freshness of the checks.
//!
//! A check reads the deployment through the member that the driver selects, so its series have the replica set
//! and no member as label: an election must not create new series.

use crate::server::{RS, server};
use crate::{CHECK_ERROR_REASONS, Kind, Label, MAX_CHECKS, Metric, SEVERITIES, Unit, Values};

const CHECK: Label = Label {
    name: "check",
    help: "name of a check, from the file of checks",
    values: Values::Bounded { max: MAX_CHECKS, overflow: None },
};

const SEVERITY: Label =
    Label { name: "severity", help: "severity of a violation", values: Values::Closed(SEVERITIES) };

const REASON: Label =
    Label { name: "reason", help: "reason of the failure", values: Values::Closed(CHECK_ERROR_REASONS) };

/// Violations found by a check.
pub const MONGODB_CONSISTENCY_VIOLATIONS: Metric = server(
    "mongodb_consistency_violations",
    Kind::Gauge,
    Unit::Count,
    "Violations found by the last successful run of a check; absent until a run has succeeded, and if none has for three intervals. A check that cannot run is never exported as 0.",
    &[RS, CHECK, SEVERITY],
    "the check, at read concern snapshot (majority before MongoDB 5.0)",
);

/// Time of the last successful run of a check.
pub const MONGODB_CONSISTENCY_LAST_SUCCESS: Metric = server(
    "mongodb_consistency_last_success_timestamp_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Time of the last successful run of a check, with or without violations, as a Unix time; 0 before the first.",
    &[RS, CHECK],
    "the sidecar's clock",
);

/// Interval of a check.
pub const MONGODB_CONSISTENCY_INTERVAL: Metric = server(
    "mongodb_consistency_interval_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Configured interval of a check.",
    &[RS, CHECK],
    "the file of checks",
);

/// Duration of a check.
pub const MONGODB_CONSISTENCY_CHECK_DURATION: Metric = server(
    "mongodb_consistency_check_duration_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Duration of the last run of a check, successful or not.",
    &[RS, CHECK],
    "the check",
);

/// Documents examined by a check.
pub const MONGODB_CONSISTENCY_DOCUMENTS_EXAMINED: Metric = server(
    "mongodb_consistency_documents_examined",
    Kind::Gauge,
    Unit::Count,
    "Documents in the collection of a check at its last successful run. A check of an empty collection proves nothing.",
    &[RS, CHECK],
    "the collection's metadata",
);

/// Failed runs of a check.
pub const MONGODB_CONSISTENCY_CHECK_ERRORS: Metric = server(
    "mongodb_consistency_check_errors_total",
    Kind::Counter,
    Unit::Count,
    "Runs of a check that failed, without a result, by reason.",
    &[RS, CHECK, REASON],
    "the check",
);
