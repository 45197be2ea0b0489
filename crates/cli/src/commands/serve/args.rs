//! The arguments of `serve`.

use clap::Args;

use crate::config::sections::{Checks, Collectors, ConfigPath, Log, MongoDb, Poll, Probe, Web};

/// Export metrics of MongoDB deployments.
///
/// Precedence: flag, environment variable, configuration file, default. The flag `--a.b-c` is the variable
/// `TXNSCOPE_A_B_C` and the key `a.b_c` of the file. In a variable, spaces separate the values of a list.
#[derive(Clone, Args)]
#[command(mut_arg("checks.file", |argument| argument.help(
    "File of checks to run on the data of each deployment, each check at its interval; docs/checks.md describes its format"
)))]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigPath,

    /// Validate the configuration and all files that it names, and exit.
    #[arg(long = "check-config")]
    pub(crate) check_config: bool,

    #[command(flatten)]
    pub(crate) mongodb: MongoDb,

    #[command(flatten)]
    pub(crate) web: Web,

    #[command(flatten)]
    pub(crate) poll: Poll,

    #[command(flatten)]
    pub(crate) collectors: Collectors,

    #[command(flatten)]
    pub(crate) probe: Probe,

    #[command(flatten)]
    pub(crate) checks: Checks,

    #[command(flatten)]
    pub(crate) log: Log,
}

impl std::fmt::Debug for ServeArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeArgs").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use txnscope_sidecar::CollectorSettings;

    use super::*;
    use crate::args::duration::duration;
    use crate::config::file::ConfigFile;

    fn command() -> clap::Command {
        ServeArgs::augment_args(clap::Command::new("serve"))
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

    #[test]
    fn each_flag_has_a_key_of_the_same_name() {
        let flags = command();
        let flags = flags.get_arguments().filter_map(clap::Arg::get_long);
        let not_in_the_file = ["config.file", "check-config"];
        for flag in flags.filter(|flag| !not_in_the_file.contains(flag)) {
            let text = format!("{} = {{ a = 1 }}", flag.replace('-', "_"));
            let error = ConfigFile::parse(Path::new("txnscope.toml"), text).expect_err(flag).to_string();
            assert!(!error.contains("unknown key"), "{flag}: {error}");
        }
    }
}
