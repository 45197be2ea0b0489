//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;
use txnscope_catalog as catalog;
use txnscope_mongo::Uri;

use crate::checks::{AuditFlags, RepairFlags};
use crate::collectors::CollectorFlags;
use crate::complaint::Unread;
use crate::deployment::DeploymentFlags;
use crate::drill::DrillFlags;
use crate::preflight::PreflightFlags;
use crate::proxy::ProxyFlags;
use crate::verify::VerifyFlags;

/// MongoDB's transactions, made visible to Prometheus.
#[derive(Debug, Parser)]
#[command(name = "txnscope", version)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Flags {
    /// What these words say, the first of which is our name.
    ///
    /// # Errors
    ///
    /// If they make no sense, or ask for help. What is said repeats no value.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<(Self, ArgMatches), Unread> {
        let mut grammar = Self::grammar();
        let matches = grammar.try_get_matches_from_mut(words)?;
        if let Some(flag) = misplaced_uri(&grammar, &matches) {
            let what = format!(
                "--{flag} is given a URI of MongoDB, and anything said of it would show who is named there. A URI with a \
                 password belongs in the file of --mongodb.uri-file, or in the variable MONGODB_URI"
            );
            return Err(Unread::wrong(&what));
        }
        let flags = Self::from_arg_matches(&matches)?;
        Ok((flags, matches))
    }

    /// The command line as it is parsed. One deployment is all that any command but `serve` takes, and the same flags
    /// say so there.
    pub(crate) fn grammar() -> clap::Command {
        const MORE: &str = ". Repeat it for more";
        let one = |argument: clap::Arg| match argument.get_help().map(ToString::to_string) {
            Some(help) if help.contains(MORE) => argument.help(help.replace(MORE, "")),
            _ => argument,
        };
        let command = <Self as clap::CommandFactory>::command();
        let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let others = names.into_iter().filter(|name| name != "serve");
        others.fold(command, |command, name| command.mut_subcommand(name, |command| command.mut_args(one)))
    }
}

/// The flag that was given a URI though it takes none: a file's name, an id. What takes a URI knows how to
/// be silent about it, and nothing else does.
fn misplaced_uri(grammar: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let holds_one = |value: &OsStr| Uri::stands_in(&value.to_string_lossy());
    let others = grammar.get_arguments().filter(|argument| argument.get_id() != "uri");
    for argument in others {
        let given = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
        if given.into_iter().flatten().any(holds_one) {
            return Some(argument.get_long().unwrap_or(argument.get_id().as_str()).to_owned());
        }
    }
    let (name, matches) = matches.subcommand()?;
    misplaced_uri(grammar.find_subcommand(name)?, matches)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Poll a deployment and serve what it says.
    Serve(Box<ServeFlags>),
    /// Count the operations of any HTTP backend, from in front of it.
    Proxy(Box<ProxyFlags>),
    /// Check whether a deployment can run transactions, and whether it is observed.
    Preflight(Box<PreflightFlags>),
    /// Judge a deployment by what came after it: go or no-go.
    Verify(Box<VerifyFlags>),
    /// Check the data now, and print what is wrong with it.
    Audit(AuditFlags),
    /// Show how derived fields would be set right, do it, or undo it.
    Repair(RepairFlags),
    /// Send real requests to a backend, and see what becomes of them.
    Drill(Box<DrillFlags>),
    /// Print the role and the user that txnscope needs, for mongosh.
    Role(RoleFlags),
    /// Print every metric that txnscope emits.
    Catalog(CatalogFlags),
}

/// What is not given here or by a variable is in the configuration file, or has a default. Values of variables are
/// in no help text and no error: one may be a password.
///
/// The flag `--a.b-c` is the variable `TXNSCOPE_A_B_C` and the file's key `a.b_c`. Lists in variables are separated
/// by spaces.
#[derive(Clone, Args)]
pub(crate) struct ServeFlags {
    /// The configuration file, in TOML.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    /// Check the configuration and all files that it names, say what is wrong, and end.
    #[arg(long = "check-config")]
    pub(crate) check_config: bool,

    #[command(flatten)]
    pub(crate) deployment: DeploymentFlags,

    /// Where to listen: host:port, or :port for every address. Repeat it for more; port 0 takes any free one.
    /// Default: 127.0.0.1:9917.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_WEB_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(crate) listen_addresses: Vec<String>,

    /// Listen on the sockets that systemd hands over, and on no address.
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

    /// The path of the metrics. Default: /metrics.
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        env = "TXNSCOPE_WEB_TELEMETRY_PATH",
        hide_env_values = true
    )]
    pub(crate) telemetry_path: Option<String>,

    /// TLS and users, in the format of Prometheus's exporter toolkit. Re-read when it changes.
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        env = "TXNSCOPE_WEB_CONFIG_FILE",
        hide_env_values = true
    )]
    pub(crate) web_config_file: Option<PathBuf>,

    /// Requests that are served at once, and probes that are; more get 503. 0: no limit. Default: 40.
    #[arg(
        long = "web.max-requests",
        value_name = "NUMBER",
        env = "TXNSCOPE_WEB_MAX_REQUESTS",
        hide_env_values = true
    )]
    pub(crate) max_requests: Option<usize>,

    /// A name by which the web side may be called, without port, besides addresses and localhost. Repeat it for more.
    /// Default: every name, where it listens on an address that other machines reach.
    #[arg(
        long = "web.allowed-hosts",
        value_name = "NAME",
        env = "TXNSCOPE_WEB_ALLOWED_HOSTS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(crate) allowed_hosts: Vec<String>,

    /// How often to ask each member: 500ms, 5s, 1m. Default: 5s.
    #[arg(
        long = "poll.interval",
        value_name = "TIME",
        env = "TXNSCOPE_POLL_INTERVAL",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(crate) interval: Option<Duration>,

    /// How long a member may take to answer. Default: 3s.
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

    /// After how long without a probe a target is no longer watched. Default: 5m.
    #[arg(
        long = "probe.idle-timeout",
        value_name = "TIME",
        env = "TXNSCOPE_PROBE_IDLE_TIMEOUT",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(crate) idle_timeout: Option<Duration>,

    /// A file of checks to run on the data of each deployment, each at its interval; docs/checks.md says how to write
    /// one.
    #[arg(long = "checks.file", value_name = "FILE", env = "TXNSCOPE_CHECKS_FILE", hide_env_values = true)]
    pub(crate) checks_file: Option<PathBuf>,

    /// The least important messages to log. Default: info.
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        env = "TXNSCOPE_LOG_LEVEL",
        hide_env_values = true,
        value_enum
    )]
    pub(crate) level: Option<Level>,

    /// How to log. Default: logfmt.
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "TXNSCOPE_LOG_FORMAT",
        hide_env_values = true,
        value_enum
    )]
    pub(crate) format: Option<LogFormat>,
}

impl std::fmt::Debug for ServeFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeFlags").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Logfmt,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct RoleFlags {
    /// The configuration file, which says which collectors are on and names the file of checks.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) collectors: CollectorFlags,

    /// The file of checks, whose collections the user is to read.
    #[arg(long = "checks.file", value_name = "FILE", env = "TXNSCOPE_CHECKS_FILE", hide_env_values = true)]
    pub(crate) checks_file: Option<PathBuf>,

    /// The name of the user.
    #[arg(long, value_name = "NAME", default_value = "txnscope")]
    pub(crate) user: String,

    /// The name of the role.
    #[arg(long, value_name = "NAME", default_value = "txnscope")]
    pub(crate) role: String,
}

#[derive(Debug, Args)]
pub(crate) struct CatalogFlags {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = CatalogFormat::Markdown)]
    pub(crate) format: CatalogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CatalogFormat {
    /// As in the documentation.
    Markdown,
    /// One name on each line.
    Names,
}

impl CatalogFormat {
    pub(crate) fn render(self) -> String {
        match self {
            Self::Markdown => catalog::markdown(),
            Self::Names => catalog::METRICS.iter().flat_map(|metric| [metric.name, "\n"]).collect(),
        }
    }
}

/// A whole number with a unit. What the sidecar does with it has bounds, which it tells.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "a whole number with ms, s or m, such as 5s".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("the unit must be ms, s or m, such as in 5s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use txnscope_sidecar::CollectorSettings;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Flags::grammar().debug_assert();
    }

    #[test]
    fn who_takes_one_deployment_does_not_ask_for_more() {
        let help = |name: &str| {
            let grammar = Flags::grammar();
            grammar.find_subcommand(name).unwrap().clone().render_long_help().to_string()
        };
        assert!(help("serve").contains("Repeat it for more"));
        for name in ["audit", "repair"] {
            let help = help(name);
            assert!(help.contains("--mongodb.uri-file") && !help.contains("Repeat it"), "{help}");
        }
    }

    /// One row for each flag. `docs/sidecar.md` has the table as this prints it.
    fn table() -> String {
        let mut table = "| flag | variable | in the file | meaning |\n| --- | --- | --- | --- |\n".to_owned();
        let command = Flags::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments().filter(|argument| argument.get_id() != "help") {
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
    fn the_documentation_has_every_flag_as_it_is() {
        let documentation = include_str!("../../../docs/sidecar.md");
        assert!(documentation.contains(&table()), "docs/sidecar.md should have this table:\n{}", table());
    }

    #[test]
    fn the_defaults_are_those_that_help_names() {
        let defaults = txnscope_sidecar::Config::default();
        let help = |id: &str| {
            let command = Flags::command();
            let arguments = command.find_subcommand("serve").unwrap().get_arguments();
            let argument = arguments.into_iter().find(|argument| argument.get_long() == Some(id)).unwrap();
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
        for (collector, enabled, every) in [
            ("current-op", current_op.enabled, None),
            ("storage-engine", storage_engine.enabled, Some(storage_engine.every)),
            ("replication", replication.enabled, Some(replication.every)),
            ("parameters", parameters.enabled, Some(parameters.every)),
            ("profile", profile.enabled, Some(profile.every)),
            ("slow-transactions", slow_transactions.enabled, Some(slow_transactions.every)),
        ] {
            let told = help(&format!("collector.{collector}.enabled"));
            assert!(told.ends_with(&format!("Default: {enabled}")), "{told}");
            if let Some(every) = every {
                let told = help(&format!("collector.{collector}.every"));
                assert!(told.ends_with(&format!("Default: {every}")), "{told}");
            }
        }
        for (flag, default) in [
            ("collector.current-op.long-running", current_op.long_running),
            ("poll.interval", defaults.poll_interval),
            ("poll.timeout", defaults.poll_timeout),
            ("probe.idle-timeout", defaults.probe_idle_timeout),
        ] {
            let (_, told) =
                help(flag).rsplit_once("Default: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert_eq!(duration(&told), Ok(default), "{flag}");
        }
    }

    #[test]
    fn each_flag_is_a_variable_of_the_same_name() {
        let command = Flags::command();
        for argument in command.find_subcommand("serve").unwrap().get_arguments() {
            let Some(variable) = argument.get_env().map(|name| name.to_str().unwrap()) else { continue };
            let expected = argument.get_long().unwrap().to_uppercase().replace(['.', '-'], "_");
            assert_eq!(variable, format!("TXNSCOPE_{expected}"));
            assert!(argument.is_hide_env_values_set(), "{variable}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "-1s", "1.5s", "5 s", "5h", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
