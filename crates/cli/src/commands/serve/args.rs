//! The arguments of `serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::args::connection::ConnectionArgs;
use crate::args::duration::duration;
use crate::collectors::CollectorFlags;
use crate::output::logging::LogArgs;

/// Export metrics of MongoDB deployments.
///
/// Precedence: flag, environment variable, configuration file, default. The flag `--a.b-c` is the variable
/// `TXNSCOPE_A_B_C` and the key `a.b_c` of the file. In a variable, spaces separate the values of a list.
#[derive(Clone, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file, in TOML.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    /// Validate the configuration and all files that it names, and exit.
    #[arg(long = "check-config")]
    pub(crate) check_config: bool,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    /// Address to listen on: host:port, or :port for all addresses. Repeat it for more; port 0 selects a free port.
    /// Default: 127.0.0.1:9917.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_WEB_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(crate) listen_addresses: Vec<String>,

    /// Listen on the sockets that systemd passes (socket activation), and on no address.
    #[arg(
        long = "web.systemd-socket",
        value_name = "BOOL",
        env = "TXNSCOPE_WEB_SYSTEMD_SOCKET",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) systemd_socket: Option<bool>,

    /// Path of the metrics. Default: /metrics.
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        env = "TXNSCOPE_WEB_TELEMETRY_PATH",
        hide_env_values = true
    )]
    pub(crate) telemetry_path: Option<String>,

    /// Web configuration file with TLS and users, in the format of Prometheus's exporter toolkit. It is reloaded when it
    /// changes.
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        env = "TXNSCOPE_WEB_CONFIG_FILE",
        hide_env_values = true
    )]
    pub(crate) web_config_file: Option<PathBuf>,

    /// Maximum number of concurrent requests, and of concurrent probes. Further ones get the status 503. 0: no limit.
    /// Default: 40.
    #[arg(
        long = "web.max-requests",
        value_name = "NUMBER",
        env = "TXNSCOPE_WEB_MAX_REQUESTS",
        hide_env_values = true
    )]
    pub(crate) max_requests: Option<usize>,

    /// Host name that requests may use, without port, in addition to IP addresses and localhost. Repeat it for more.
    /// Default: any name, if an address to listen on can be reached by other machines.
    #[arg(
        long = "web.allowed-hosts",
        value_name = "NAME",
        env = "TXNSCOPE_WEB_ALLOWED_HOSTS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(crate) allowed_hosts: Vec<String>,

    /// Interval between polls of a member: 500ms, 5s, 1m. Default: 5s.
    #[arg(
        long = "poll.interval",
        value_name = "TIME",
        env = "TXNSCOPE_POLL_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(crate) interval: Option<Duration>,

    /// Timeout of a poll of a member. Default: 3s.
    #[arg(
        long = "poll.timeout",
        value_name = "TIME",
        env = "TXNSCOPE_POLL_TIMEOUT",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) collectors: CollectorFlags,

    /// Time without a probe after which a target is no longer polled. Default: 5m.
    #[arg(
        long = "probe.idle-timeout",
        value_name = "TIME",
        env = "TXNSCOPE_PROBE_IDLE_TIMEOUT",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(crate) idle_timeout: Option<Duration>,

    /// File of checks to run on the data of each deployment, each check at its interval; docs/checks.md describes its
    /// format.
    #[arg(long = "checks.file", value_name = "FILE", env = "TXNSCOPE_CHECKS_FILE", hide_env_values = true)]
    pub(crate) checks_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

impl std::fmt::Debug for ServeArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeArgs").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use txnscope_sidecar::CollectorSettings;

    use super::*;

    fn command() -> clap::Command {
        ServeArgs::augment_args(clap::Command::new("serve"))
    }

    /// One row for each flag. `docs/sidecar.md` has the table as this prints it.
    fn table() -> String {
        let mut table = "| flag | variable | in the file | meaning |\n| --- | --- | --- | --- |\n".to_owned();
        let command = command();
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().unwrap();
            let variable = argument.get_env().map(|name| format!("`{}`", name.to_str().unwrap()));
            let in_the_file = !["config.file", "check-config"].contains(&long);
            let key = if in_the_file { format!("`{}`", long.replace('-', "_")) } else { String::new() };
            let help =
                argument.get_long_help().or(argument.get_help()).unwrap().to_string().replace('\n', " ");
            let row = format!("| `--{long}` | {} | {key} | {help} |\n", variable.unwrap_or_default());
            table += &row;
        }
        table
    }

    #[test]
    fn documentation_has_the_table_of_flags() {
        let documentation = include_str!("../../../../../docs/sidecar.md");
        assert!(documentation.contains(&table()), "docs/sidecar.md should have this table:\n{}", table());
    }

    #[test]
    fn help_texts_name_the_defaults() {
        let defaults = txnscope_sidecar::Config::default();
        let help = |id: &str| {
            let command = command();
            let argument = command.get_arguments().find(|argument| argument.get_long() == Some(id)).unwrap();
            argument.get_help().unwrap().to_string()
        };
        let address = defaults.listen_addresses[0].to_string();
        assert!(help("web.listen-address").ends_with(&format!("Default: {address}")));
        assert!(help("web.telemetry-path").ends_with(&format!("Default: {}", defaults.telemetry_path)));
        assert!(help("web.max-requests").ends_with(&format!("Default: {}", defaults.max_requests)));
        let CollectorSettings {
            current_op,
            storage_engine,
            replication,
            parameters,
            profile,
            slow_transactions,
            ..
        } = defaults.collectors;
        for (collector, enabled, interval) in [
            ("current-op", current_op.enabled, None),
            ("storage-engine", storage_engine.enabled, Some(storage_engine.interval)),
            ("replication", replication.enabled, Some(replication.interval)),
            ("parameters", parameters.enabled, Some(parameters.interval)),
            ("profile", profile.enabled, Some(profile.interval)),
            ("slow-transactions", slow_transactions.enabled, Some(slow_transactions.interval)),
        ] {
            let text = help(&format!("collector.{collector}.enabled"));
            assert!(text.ends_with(&format!("Default: {enabled}")), "{text}");
            if let Some(interval) = interval {
                let text = help(&format!("collector.{collector}.interval"));
                let default = text.rsplit_once("Default: ").map(|(_, time)| duration(time));
                assert_eq!(default, Some(Ok(interval)), "{text}");
            }
        }
        for (flag, default) in [
            ("collector.current-op.long-running", current_op.long_running),
            ("poll.interval", defaults.poll_interval),
            ("poll.timeout", defaults.poll_timeout),
            ("probe.idle-timeout", defaults.probe_idle_timeout),
        ] {
            let (_, text) =
                help(flag).rsplit_once("Default: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert_eq!(duration(&text), Ok(default), "{flag}");
        }
    }

    #[test]
    fn each_flag_has_a_variable_of_the_same_name() {
        for argument in command().get_arguments() {
            let Some(variable) = argument.get_env().map(|name| name.to_str().unwrap()) else { continue };
            let expected = argument.get_long().unwrap().to_uppercase().replace(['.', '-'], "_");
            assert_eq!(variable, format!("TXNSCOPE_{expected}"));
            assert!(argument.is_hide_env_values_set(), "{variable}");
        }
    }
}
