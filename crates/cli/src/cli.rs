//! The command line as a whole.

use std::ffi::OsString;

use clap::{ArgMatches, FromArgMatches, Parser, Subcommand};

use crate::args::uri_guard::reject_uri_argument;
use crate::args::usage_error::UsageError;
use crate::commands::audit::AuditArgs;
use crate::commands::catalog::CatalogArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::drill::DrillArgs;
use crate::commands::healthcheck::HealthcheckArgs;
use crate::commands::man::ManArgs;
use crate::commands::preflight::PreflightArgs;
use crate::commands::proxy::ProxyArgs;
use crate::commands::repair::RepairArgs;
use crate::commands::role::RoleArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::top::TopArgs;
use crate::commands::verify::VerifyArgs;

/// Observability for MongoDB transactions: export metrics, check data, verify deployments.
#[derive(Debug, Parser)]
#[command(name = "txnscope", version, long_version = env!("TXNSCOPE_LONG_VERSION"))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Parses the arguments of the process, the first of which is the name of the program.
    ///
    /// # Errors
    ///
    /// If an argument is invalid, or asks for help. The error repeats no value.
    pub(crate) fn parse_args(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, ArgMatches), UsageError> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        reject_uri_argument(&command, &matches)?;
        let cli = Self::from_arg_matches(&matches)?;
        Ok((cli, matches))
    }

    /// The clap command. The commands but `serve` and `proxy` take one deployment only, so their help texts leave out that a flag
    /// can be repeated.
    pub(crate) fn command() -> clap::Command {
        const MORE: &str = ". Repeat it for more";
        let one = |argument: clap::Arg| match argument.get_help().map(ToString::to_string) {
            Some(help) if help.contains(MORE) => argument.help(help.replace(MORE, "")),
            _ => argument,
        };
        let command = <Self as clap::CommandFactory>::command();
        let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let others = names.into_iter().filter(|name| !["serve", "proxy"].contains(&name.as_str()));
        others.fold(command, |command, name| command.mut_subcommand(name, |command| command.mut_args(one)))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArgs>),
    /// Count the operations of any HTTP backend with a reverse proxy in front of it.
    Proxy(Box<ProxyArgs>),
    /// See which transactions are open, and which operation waits for which.
    Top(Box<TopArgs>),
    /// Check whether a deployment supports transactions and is monitored.
    Preflight(Box<PreflightArgs>),
    /// Compare metrics before and after a deployment, and decide: go or no-go.
    Verify(Box<VerifyArgs>),
    /// Run the checks on the data once, and print the violations.
    Audit(AuditArgs),
    /// Show how derived fields would be recomputed, repair them, or undo repairs.
    Repair(RepairArgs),
    /// Test a running backend with concurrent requests or with load.
    Drill(Box<DrillArgs>),
    /// Print the MongoDB role and user that txnscope needs, as commands for mongosh.
    Role(RoleArgs),
    /// Print all metrics that txnscope exports, or all settings.
    Catalog(CatalogArgs),
    /// Print the completions for a shell.
    Completions(CompletionsArgs),
    /// Write the man pages, one for each command.
    Man(ManArgs),
    /// Exit with 0 if the sidecar on this machine responds, for the health check of a container.
    Healthcheck(HealthcheckArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_single_deployment_commands_offers_no_repetition() {
        let help = |name: &str| {
            let command = Cli::command();
            command.find_subcommand(name).unwrap().clone().render_long_help().to_string()
        };
        assert!(help("serve").contains("Repeat it for more"));
        for name in ["audit", "repair"] {
            let help = help(name);
            assert!(help.contains("--mongodb.uri-file") && !help.contains("Repeat it"), "{help}");
        }
    }
}
