//! The flags of the collectors, and their variables. They are named as the sections of the configuration file are.

use std::time::Duration;

use clap::Args;

use crate::args::duration::duration;

/// What is not given here is as the file says, or has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct CollectorFlags {
    /// Ask what is open, since when, and what it waits for. Default: true.
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

    /// From which age on a transaction is long-running. Default: 30s.
    #[arg(
        long = "collector.current-op.long-running",
        value_name = "TIME",
        env = "TXNSCOPE_COLLECTOR_CURRENT_OP_LONG_RUNNING",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) current_op_long_running: Option<Duration>,

    /// Ask for write conflicts and tickets. Default: true.
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

    /// After how many poll intervals to ask for them again. Default: 3.
    #[arg(
        long = "collector.storage-engine.every",
        value_name = "NUMBER",
        env = "TXNSCOPE_COLLECTOR_STORAGE_ENGINE_EVERY",
        hide_env_values = true
    )]
    pub(super) storage_engine_every: Option<u32>,

    /// Ask for lag, states, elections and the window of the oplog. Default: true.
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

    /// After how many poll intervals to ask for them again. Default: 1.
    #[arg(
        long = "collector.replication.every",
        value_name = "NUMBER",
        env = "TXNSCOPE_COLLECTOR_REPLICATION_EVERY",
        hide_env_values = true
    )]
    pub(super) replication_every: Option<u32>,

    /// Ask for the server's limit on the life of a transaction. Default: true.
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

    /// After how many poll intervals to ask for it again. Default: 12.
    #[arg(
        long = "collector.parameters.every",
        value_name = "NUMBER",
        env = "TXNSCOPE_COLLECTOR_PARAMETERS_EVERY",
        hide_env_values = true
    )]
    pub(super) parameters_every: Option<u32>,

    /// Read slow operations from the profiler, which is turned on by hand: `txnscope role` says how. Default: false.
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

    /// After how many poll intervals to read them again. Default: 2.
    #[arg(
        long = "collector.profile.every",
        value_name = "NUMBER",
        env = "TXNSCOPE_COLLECTOR_PROFILE_EVERY",
        hide_env_values = true
    )]
    pub(super) profile_every: Option<u32>,

    /// A database whose system.profile is read. Repeat it for more.
    #[arg(
        long = "collector.profile.databases",
        value_name = "NAME",
        env = "TXNSCOPE_COLLECTOR_PROFILE_DATABASES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(super) profile_databases: Option<Vec<String>>,

    /// Read slow transactions from the server's log. Default: false.
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

    /// After how many poll intervals to read them again. Default: 6.
    #[arg(
        long = "collector.slow-transactions.every",
        value_name = "NUMBER",
        env = "TXNSCOPE_COLLECTOR_SLOW_TRANSACTIONS_EVERY",
        hide_env_values = true
    )]
    pub(super) slow_transactions_every: Option<u32>,

    /// Where a backend serves its table of open transactions: http://127.0.0.1:3000/-/transactions. Repeat it for
    /// more. Its operations are on the page then.
    #[arg(
        long = "collector.open-by-operation.backends",
        value_name = "URL",
        env = "TXNSCOPE_COLLECTOR_OPEN_BY_OPERATION_BACKENDS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(super) open_by_operation_backends: Option<Vec<String>>,
}
