//! The settings of the sidecar, by their sections. The other commands use some of these sections.

use std::path::PathBuf;

use txnscope_sidecar::{CollectorSettings, Config};

use crate::config::settings::{Nothing, Time, Uri, settings};
use crate::output::logging::{Level, LogFormat, LogSettings};

settings! {
    /// The path of the configuration file itself.
    #[derive(Debug)]
    pub(crate) struct ConfigPath in "config" for Nothing = Nothing;
    /// Configuration file, in TOML.
    file: PathBuf [FILE];
}

settings! {
    /// The deployments, and the credentials for URIs without any. `args::connection` reads them, since each source has its
    /// own rules.
    pub(crate) struct MongoDb in "mongodb" for Nothing = Nothing;
    /// URI of a deployment: mongodb://host:port/?replicaSet=name. All its members are discovered, unless the URI has
    /// directConnection=true. Repeat it for more. It must hold no password, since ps shows flags. MONGODB_URI is read as
    /// well.
    uri: Vec<Uri> [URI];
    /// File that contains only a URI. Repeat it for more.
    uri_file: Vec<PathBuf> [FILE];
    /// User name, if the URI has none.
    username: String [NAME];
    /// File that contains only the password of that user. TXNSCOPE_MONGODB_PASSWORD holds the password itself.
    password_file: PathBuf [FILE];
    without flag password: String;
}

/// Leaves out URIs and passwords.
impl std::fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoDb").finish_non_exhaustive()
    }
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Web in "web" for Config = Config::default();
    /// Address to listen on: host:port, or :port for all addresses. Repeat it for more; port 0 selects a free port.
    listen_address: Vec<String> [ADDRESS] = listen_addresses;
    /// Listen on the sockets that systemd passes (socket activation), and on no address.
    systemd_socket: bool [BOOL] => systemd_socket;
    /// Path of the metrics.
    telemetry_path: String [PATH] => telemetry_path;
    /// Maximum number of concurrent requests, and of concurrent probes. Further ones get the status 503. 0: no limit.
    max_requests: usize [NUMBER] => max_requests;
    /// Host name that requests may use, without port, in addition to IP addresses and localhost. Repeat it for more.
    /// Default: any name, if an address to listen on can be reached by other machines.
    allowed_hosts: Vec<String> [NAME] => allowed_hosts;
    section config: WebConfig;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct WebConfig in "web.config" for Config = Config::default();
    /// Web configuration file with TLS and users, in the format of Prometheus's exporter toolkit. It is reloaded when it
    /// changes.
    file: PathBuf [FILE] => web_config_file;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Poll in "poll" for Config = Config::default();
    /// Interval between polls of a member: 500ms, 5s, 1m.
    interval: Time [TIME] => poll_interval;
    /// Timeout of a poll of a member.
    timeout: Time [TIME] => poll_timeout;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Collectors in "collector" for CollectorSettings = CollectorSettings::default();
    section current_op: CurrentOp;
    section storage_engine: StorageEngine;
    section replication: Replication;
    section parameters: Parameters;
    section profile: Profile;
    section slow_transactions: SlowTransactions;
    section open_by_operation: OpenByOperation;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct CurrentOp in "collector.current_op" for CollectorSettings = CollectorSettings::default();
    /// Collector current_op: age and waits of open transactions.
    enabled: bool [BOOL] => current_op.enabled;
    /// Age from which a transaction counts as long-running.
    long_running: Time [TIME] => current_op.long_running;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct StorageEngine in "collector.storage_engine" for CollectorSettings = CollectorSettings::default();
    /// Collector storage_engine: write conflicts and tickets.
    enabled: bool [BOOL] => storage_engine.enabled;
    /// Interval of the collector storage_engine (write conflicts, tickets). Below --poll.interval: every poll.
    interval: Time [TIME] => storage_engine.interval;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Replication in "collector.replication" for CollectorSettings = CollectorSettings::default();
    /// Collector replication: lag, states, elections and the oplog window.
    enabled: bool [BOOL] => replication.enabled;
    /// Interval of the collector replication (lag, states, elections). Below --poll.interval: every poll.
    interval: Time [TIME] => replication.interval;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Parameters in "collector.parameters" for CollectorSettings = CollectorSettings::default();
    /// Collector parameters: the server's lifetime limit of transactions.
    enabled: bool [BOOL] => parameters.enabled;
    /// Interval of the collector parameters (the server's limits). Below --poll.interval: every poll.
    interval: Time [TIME] => parameters.interval;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Profile in "collector.profile" for CollectorSettings = CollectorSettings::default();
    /// Collector profile: slow operations from the profiler, which the DBA turns on: see `txnscope role`.
    enabled: bool [BOOL] => profile.enabled;
    /// Interval of the collector profile (slow operations). Below --poll.interval: every poll.
    interval: Time [TIME] => profile.interval;
    /// A database whose system.profile is read. Repeat it for more.
    databases: Vec<String> [NAME] => profile.databases;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct SlowTransactions in "collector.slow_transactions" for CollectorSettings = CollectorSettings::default();
    /// Collector slow_transactions: slow transactions from the server's log.
    enabled: bool [BOOL] => slow_transactions.enabled;
    /// Interval of the collector slow_transactions. Below --poll.interval: every poll.
    interval: Time [TIME] => slow_transactions.interval;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct OpenByOperation in "collector.open_by_operation" for CollectorSettings = CollectorSettings::default();
    /// URL of a backend's table of open transactions, for the metrics by operation, such as
    /// http://127.0.0.1:3000/-/transactions. Repeat it for more.
    backends: Vec<String> [URL] => open_by_operation.backends;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Probe in "probe" for Config = Config::default();
    /// Time without a probe after which a target is no longer polled.
    idle_timeout: Time [TIME] => probe_idle_timeout;
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Checks in "checks" for Nothing = Nothing;
    /// The file of checks; docs/checks.md describes its format.
    file: PathBuf [FILE];
}

settings! {
    #[derive(Debug)]
    pub(crate) struct Log in "log" for LogSettings = LogSettings::default();
    /// Minimum log level.
    level: Level [LEVEL] => level;
    /// Log format.
    format: LogFormat [FORMAT] => format;
}
