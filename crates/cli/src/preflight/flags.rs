//! The command line of `preflight`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::collectors::CollectorFlags;
use crate::deployment::DeploymentFlags;
use crate::services::prometheus::PrometheusFlags;
use crate::span::span;

#[derive(Args)]
#[command(
    after_help = "Exit status: 0 ready (there may be warnings), 1 something failed, 2 it could not be looked at all: \
                  the command line or a file is wrong."
)]
pub(crate) struct PreflightFlags {
    /// The configuration file of `txnscope serve`: which deployment, and which collectors are on.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) deployment: DeploymentFlags,

    #[command(flatten)]
    pub(crate) collectors: CollectorFlags,

    #[command(flatten)]
    pub(crate) prometheus: PrometheusFlags,

    /// Where Alertmanager is: http://host:9093.
    #[arg(
        id = "alertmanager-url",
        long = "alertmanager.url",
        value_name = "URL",
        env = "TXNSCOPE_ALERTMANAGER_URL",
        hide_env_values = true
    )]
    pub(crate) alertmanager_url: Option<String>,

    /// A file with the bearer token that Alertmanager wants. TXNSCOPE_ALERTMANAGER_TOKEN is the token itself.
    #[arg(
        id = "alertmanager-token-file",
        long = "alertmanager.token-file",
        value_name = "FILE",
        env = "TXNSCOPE_ALERTMANAGER_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) alertmanager_token_file: Option<PathBuf>,

    /// Where Grafana is: http://host:3000.
    #[arg(
        id = "grafana-url",
        long = "grafana.url",
        value_name = "URL",
        env = "TXNSCOPE_GRAFANA_URL",
        hide_env_values = true
    )]
    pub(crate) grafana_url: Option<String>,

    /// A file with the token of a service account that may read dashboards. TXNSCOPE_GRAFANA_TOKEN is the token
    /// itself.
    #[arg(
        id = "grafana-token-file",
        long = "grafana.token-file",
        value_name = "FILE",
        env = "TXNSCOPE_GRAFANA_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) grafana_token_file: Option<PathBuf>,

    /// How many transactions one process of the backend is to run at once. Its pool, the server's connections and
    /// tickets are held against that.
    #[arg(long = "expect-concurrency", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,

    /// How many processes the backend is to have.
    #[arg(long = "expect-processes", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) processes: u32,

    /// For how long the oplog should reach back: for a member that was away, and for change streams.
    #[arg(long = "expect-oplog-window", value_name = "TIME", default_value = "24h", value_parser = span)]
    pub(crate) oplog_window: Duration,

    /// Run a transaction in that database. It makes a collection of its own, txnscope_preflight_ and an id, writes two
    /// documents into it and drops it.
    #[arg(id = "scratch-transaction", long = "scratch-transaction", value_name = "DATABASE", value_parser = database)]
    pub(crate) scratch: Option<String>,

    /// How long each question may take.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    pub(crate) timeout: Duration,

    /// How to print what was found.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl std::fmt::Debug for PreflightFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreflightFlags").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// The server's own rules for a name, and not one of its own databases.
fn database(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 63 || text.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        return Err("that cannot be the name of a database".to_owned());
    }
    if ["admin", "local", "config"].contains(&text) {
        return Err(
            "that one belongs to the server, and runs no transactions: name one of your own".to_owned()
        );
    }
    Ok(text.to_owned())
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = span(text)?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(300);
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("100ms to 5m".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_database_is_none_of_the_server_s() {
        assert_eq!(database("shop"), Ok("shop".to_owned()));
        for bad in ["admin", "local", "config", "", "a.b", "a b", "$x"] {
            assert!(database(bad).is_err(), "{bad}");
        }
    }
}
