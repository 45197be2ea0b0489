//! Exporter metrics: the sidecar's own state.

use crate::server::{MEMBER, RS, server};
use crate::{COLLECTORS, FAILED_LOGIN_RESULTS, Kind, Label, Metric, POLL_ERROR_REASONS, Unit, Values};

const COLLECTOR: Label =
    Label { name: "collector", help: "collector of the sidecar", values: Values::Closed(COLLECTORS) };

/// The running build.
pub const TXNSCOPE_BUILD_INFO: Metric = server(
    "txnscope_build_info",
    Kind::Gauge,
    Unit::Info,
    "The running build.",
    &[
        Label { name: "version", help: "version of the crate", values: Values::Deployment },
        Label {
            name: "revision",
            help: "commit that the program was built from; empty if unknown",
            values: Values::Deployment,
        },
    ],
    "the binary",
);

/// Success of the last configuration reload.
pub const TXNSCOPE_CONFIG_RELOAD_SUCCESSFUL: Metric = server(
    "txnscope_config_last_reload_successful",
    Kind::Gauge,
    Unit::Boolean,
    "Whether the last reload of the configuration succeeded. If not, the previous configuration is in force.",
    &[],
    "the sidecar",
);

/// Time of the last successful configuration reload.
pub const TXNSCOPE_CONFIG_RELOAD_TIMESTAMP: Metric = server(
    "txnscope_config_last_reload_success_timestamp_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "When the configuration in force was read, in seconds since 1970.",
    &[],
    "the sidecar",
);

/// Failed logins.
pub const TXNSCOPE_FAILED_LOGINS: Metric = server(
    "txnscope_failed_logins_total",
    Kind::Counter,
    Unit::Count,
    "Requests to the sidecar whose user or password was wrong, or was not checked because too many were waiting.",
    &[Label { name: "result", help: "outcome of the login", values: Values::Closed(FAILED_LOGIN_RESULTS) }],
    "the sidecar",
);

/// Success of the last poll of a collector.
pub const TXNSCOPE_POLL_SUCCESS: Metric = server(
    "txnscope_poll_success",
    Kind::Gauge,
    Unit::Boolean,
    "Whether the last poll of a collector succeeded.",
    &[RS, MEMBER, COLLECTOR],
    "the poll",
);

/// Duration of the last poll of a collector.
pub const TXNSCOPE_POLL_DURATION: Metric = server(
    "txnscope_poll_duration_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Duration of the last poll of a collector, successful or not.",
    &[RS, MEMBER, COLLECTOR],
    "the poll",
);

/// Age of the last samples of a collector.
pub const TXNSCOPE_POLL_AGE: Metric = server(
    "txnscope_poll_age_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Time since the last successful poll of a collector; absent until one succeeded.",
    &[RS, MEMBER, COLLECTOR],
    "the sidecar's clock, at the scrape",
);

/// Failed polls.
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

/// Dropped series.
pub const TXNSCOPE_SERIES_DROPPED: Metric = server(
    "txnscope_series_dropped_total",
    Kind::Counter,
    Unit::Count,
    "Series that a collector read and the sidecar did not export: invalid values, duplicates, or series over a limit.",
    &[RS, MEMBER, COLLECTOR],
    "the sidecar",
);
