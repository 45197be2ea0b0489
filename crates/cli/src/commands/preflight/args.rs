//! The arguments of `preflight`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::args::duration::positive_duration;
use crate::client::services::prometheus::PrometheusArgs;
use crate::config::sections::{Collectors, ConfigPath, MongoDb};
use crate::config::settings::{Nothing, settings};

#[derive(Args)]
#[command(
    mut_arg("config.file", |argument| argument.help(
        "The configuration file of `serve`, in TOML. It may name the deployment and enable collectors"
    )),
    after_help = "Exit status: 0 ready (possibly with warnings), 1 at least one finding is a failure, 2 an argument, a \
                  variable or a file is invalid."
)]
pub(crate) struct PreflightArgs {
    #[command(flatten)]
    pub(crate) config: ConfigPath,

    #[command(flatten)]
    pub(crate) mongodb: MongoDb,

    #[command(flatten)]
    pub(crate) collectors: Collectors,

    #[command(flatten)]
    pub(crate) backend: BackendArgs,

    #[command(flatten)]
    pub(crate) prometheus: PrometheusArgs,

    #[command(flatten)]
    pub(crate) alertmanager: AlertmanagerArgs,

    #[command(flatten)]
    pub(crate) grafana: GrafanaArgs,

    /// Expected number of concurrent transactions in one process of the backend. Its connection pool, and the server's
    /// connections and tickets, are compared with this number.
    #[arg(long = "expect-concurrency", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,

    /// Expected number of processes of the backend.
    #[arg(long = "expect-processes", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) processes: u32,

    /// Expected window of the oplog: how long a member can be down, or a change stream can wait, and still resume.
    #[arg(long = "expect-oplog-window", value_name = "TIME", default_value = "24h", value_parser = positive_duration)]
    pub(crate) oplog_window: Duration,

    /// Run a test transaction in this database. It creates a collection txnscope_preflight_ID, writes two documents to it,
    /// and drops it.
    #[arg(id = "scratch-transaction", long = "scratch-transaction", value_name = "DATABASE", value_parser = database)]
    pub(crate) scratch: Option<String>,

    /// Timeout of each command to the deployment and of each request to a service.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    pub(crate) timeout: Duration,

    /// Output format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

settings! {
    pub(crate) struct BackendArgs in "backend" for Nothing = Nothing;
    /// URL of a backend's own metrics page, whose metrics are compared with docs/metrics.md: http://host:3000/metrics. A URL
    /// with a user and a password belongs in the variable, since ps shows flags.
    metrics_url: String [URL];
    /// File that contains only the bearer token for that page. TXNSCOPE_BACKEND_TOKEN holds the token itself.
    token_file: PathBuf [FILE];
}

settings! {
    pub(crate) struct AlertmanagerArgs in "alertmanager" for Nothing = Nothing;
    /// URL of Alertmanager: http://host:9093.
    url: String [URL];
    /// File that contains only the bearer token for Alertmanager. TXNSCOPE_ALERTMANAGER_TOKEN holds the token itself.
    token_file: PathBuf [FILE];
}

settings! {
    pub(crate) struct GrafanaArgs in "grafana" for Nothing = Nothing;
    /// URL of Grafana: http://host:3000.
    url: String [URL];
    /// File that contains only the token of a Grafana service account that may read dashboards. TXNSCOPE_GRAFANA_TOKEN
    /// holds the token itself.
    token_file: PathBuf [FILE];
}

impl std::fmt::Debug for PreflightArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreflightArgs").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Validates the name of a database by the rules of the server. Its system databases are rejected.
fn database(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 63 || text.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        return Err("this is no valid name of a database".to_owned());
    }
    if ["admin", "local", "config"].contains(&text) {
        return Err(
            "this is a system database, which cannot run transactions: name a database of the application"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = positive_duration(text)?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(300);
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("it must be between 100ms and 5m".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_database_is_rejected_for_the_scratch_transaction() {
        assert_eq!(database("shop"), Ok("shop".to_owned()));
        for bad in ["admin", "local", "config", "", "a.b", "a b", "$x"] {
            assert!(database(bad).is_err(), "{bad}");
        }
    }
}
