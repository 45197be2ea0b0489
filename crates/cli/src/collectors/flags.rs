//! Flags and variables of the collectors, named like the sections of the configuration file.

use std::time::Duration;

use clap::Args;

use crate::args::duration::duration;

/// A setting without a flag is taken from the configuration file, or has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct CollectorFlags {
    /// Collector current_op: age and waits of open transactions. Default: true.
    #[arg(
        long = "collector.current-op.enabled",
        value_name = "BOOL",
        env = "TXNSCOPE_COLLECTOR_CURRENT_OP_ENABLED",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) current_op_enabled: Option<bool>,

    /// Age from which a transaction counts as long-running. Default: 30s.
    #[arg(
        long = "collector.current-op.long-running",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_CURRENT_OP_LONG_RUNNING",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) current_op_long_running: Option<Duration>,

    /// Collector storage_engine: write conflicts and tickets. Default: true.
    #[arg(
        long = "collector.storage-engine.enabled",
        value_name = "BOOL",
        env = "TXNSCOPE_COLLECTOR_STORAGE_ENGINE_ENABLED",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) storage_engine_enabled: Option<bool>,

    /// Interval of the collector storage_engine (write conflicts, tickets). Below --poll.interval: every poll. Default: 15s.
    #[arg(
        long = "collector.storage-engine.interval",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_STORAGE_ENGINE_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) storage_engine_interval: Option<Duration>,

    /// Collector replication: lag, states, elections and the oplog window. Default: true.
    #[arg(
        long = "collector.replication.enabled",
        value_name = "BOOL",
        env = "TXNSCOPE_COLLECTOR_REPLICATION_ENABLED",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) replication_enabled: Option<bool>,

    /// Interval of the collector replication (lag, states, elections). Below --poll.interval: every poll. Default: 5s.
    #[arg(
        long = "collector.replication.interval",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_REPLICATION_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) replication_interval: Option<Duration>,

    /// Collector parameters: the server's lifetime limit of transactions. Default: true.
    #[arg(
        long = "collector.parameters.enabled",
        value_name = "BOOL",
        env = "TXNSCOPE_COLLECTOR_PARAMETERS_ENABLED",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) parameters_enabled: Option<bool>,

    /// Interval of the collector parameters (the server's limits). Below --poll.interval: every poll. Default: 60s.
    #[arg(
        long = "collector.parameters.interval",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_PARAMETERS_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) parameters_interval: Option<Duration>,

    /// Collector profile: slow operations from the profiler, which the DBA turns on: see `txnscope role`.
    /// Default: false.
    #[arg(
        long = "collector.profile.enabled",
        value_name = "BOOL",
        env = "TXNSCOPE_COLLECTOR_PROFILE_ENABLED",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) profile_enabled: Option<bool>,

    /// Interval of the collector profile (slow operations). Below --poll.interval: every poll. Default: 10s.
    #[arg(
        long = "collector.profile.interval",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_PROFILE_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) profile_interval: Option<Duration>,

    /// A database whose system.profile is read. Repeat it for more.
    #[arg(
        long = "collector.profile.databases",
        value_name = "NAME",
        env = "TXNSCOPE_COLLECTOR_PROFILE_DATABASES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(super) profile_databases: Option<Vec<String>>,

    /// Collector slow_transactions: slow transactions from the server's log. Default: false.
    #[arg(
        long = "collector.slow-transactions.enabled",
        value_name = "BOOL",
        env = "TXNSCOPE_COLLECTOR_SLOW_TRANSACTIONS_ENABLED",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) slow_transactions_enabled: Option<bool>,

    /// Interval of the collector slow_transactions. Below --poll.interval: every poll. Default: 30s.
    #[arg(
        long = "collector.slow-transactions.interval",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_SLOW_TRANSACTIONS_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) slow_transactions_interval: Option<Duration>,

    /// URL of a backend's table of open transactions, for the metrics by operation, such as
    /// http://127.0.0.1:3000/-/transactions. Repeat it for more.
    #[arg(
        long = "collector.open-by-operation.backends",
        value_name = "URL",
        env = "TXNSCOPE_COLLECTOR_OPEN_BY_OPERATION_BACKENDS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(super) open_by_operation_backends: Option<Vec<String>>,
}
