//! What the sidecar says about itself.

use crate::server::{MEMBER, RS, server};
use crate::{COLLECTORS, FAILED_LOGIN_RESULTS, Kind, Label, Metric, POLL_ERROR_REASONS, Unit, Values};

const COLLECTOR: Label = Label {
    name: "collector",
    help: "the module that reads one part of the member's state",
    values: Values::Closed(COLLECTORS),
};

/// The build.
pub const TXNSCOPE_BUILD_INFO: Metric = server(
    "txnscope_build_info",
    Kind::Gauge,
    Unit::Info,
    "The running build.",
    &[Label { name: "version", help: "version of the crate", values: Values::Deployment }],
    "the binary",
);

/// Whether the configuration in force is the one in the files.
pub const TXNSCOPE_CONFIG_RELOAD_SUCCESSFUL: Metric = server(
    "txnscope_config_last_reload_successful",
    Kind::Gauge,
    Unit::Boolean,
    "Whether the configuration was accepted when it was read last, or re-read. If not, the one before is in force.",
    &[],
    "the sidecar",
);

/// When the configuration in force was read.
pub const TXNSCOPE_CONFIG_RELOAD_TIMESTAMP: Metric = server(
    "txnscope_config_last_reload_success_timestamp_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "When the configuration in force was read, in seconds since 1970.",
    &[],
    "the sidecar",
);

/// Logins that failed.
pub const TXNSCOPE_FAILED_LOGINS: Metric = server(
    "txnscope_failed_logins_total",
    Kind::Counter,
    Unit::Count,
    "Requests to the sidecar whose user or password was wrong, or was not checked because too many were waiting.",
    &[Label { name: "result", help: "what came of the login", values: Values::Closed(FAILED_LOGIN_RESULTS) }],
    "the sidecar",
);

/// Whether the last poll of a collector succeeded.
pub const TXNSCOPE_POLL_SUCCESS: Metric = server(
    "txnscope_poll_success",
    Kind::Gauge,
    Unit::Boolean,
    "Whether the last poll of a collector succeeded.",
    &[RS, MEMBER, COLLECTOR],
    "the poll",
);

/// How long the last poll of a collector took.
pub const TXNSCOPE_POLL_DURATION: Metric = server(
    "txnscope_poll_duration_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "How long the last poll of a collector took, whether it succeeded or not.",
    &[RS, MEMBER, COLLECTOR],
    "the poll",
);

/// Age of the data of a collector.
pub const TXNSCOPE_POLL_AGE: Metric = server(
    "txnscope_poll_age_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Time since the last successful poll of a collector; absent until one succeeded.",
    &[RS, MEMBER, COLLECTOR],
    "the sidecar's clock, at the scrape",
);

/// Polls that failed.
pub const TXNSCOPE_POLL_ERRORS: Metric = server(
    "txnscope_poll_errors_total",
    Kind::Counter,
    Unit::Count,
    "Polls that failed, by reason.",
    &[
        RS,
        MEMBER,
        COLLECTOR,
        Label { name: "reason", help: "why", values: Values::Closed(POLL_ERROR_REASONS) },
    ],
    "the poll",
);

/// Series that were not exported.
pub const TXNSCOPE_SERIES_DROPPED: Metric = server(
    "txnscope_series_dropped_total",
    Kind::Counter,
    Unit::Count,
    "Series that a collector offered and the sidecar did not export: a value of the wrong type, a duplicate, or one over the limit.",
    &[RS, MEMBER, COLLECTOR],
    "the sidecar",
);
