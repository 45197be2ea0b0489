//! The addresses of the web server, which `serve` listens on and `healthcheck` connects to.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::args::addresses::addresses;
use crate::config::file::ConfigFile;
use crate::config::sections::Web;
use crate::config::settings;

/// The one setting of [`Web`] with which a command finds the sidecar.
#[derive(Debug)]
pub(crate) struct ListenAddress(pub(crate) Option<Vec<String>>);

impl ListenAddress {
    const FLAG: &str = "web.listen-address";
}

impl Args for ListenAddress {
    fn augment_args(command: Command) -> Command {
        let web = Web::augment_args(Command::new("web"));
        let declared = web.get_arguments().find(|argument| argument.get_id() == Self::FLAG).cloned();
        command.args(declared.map(of_the_sidecar))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The declaration, with the help of a command that does not listen itself.
fn of_the_sidecar(declared: Arg) -> Arg {
    let help = declared.get_help().map(ToString::to_string).unwrap_or_default();
    let default = help.rsplit_once(". Default: ").map(|(_, default)| format!(". Default: {default}"));
    declared
        .help(format!("Address that the sidecar listens on, as in `serve`{}", default.unwrap_or_default()))
}

impl FromArgMatches for ListenAddress {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(settings::read(matches, Self::FLAG)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The addresses that the flags or the variable name, or else the file; none if none of them names any.
///
/// # Errors
///
/// If an address is invalid. The error names the flag, or the line of the file.
pub(crate) fn listen_addresses(flags: Option<&[String]>, file: &ConfigFile) -> Result<Vec<SocketAddr>> {
    if let Some(flags) = flags.filter(|flags| !flags.is_empty()) {
        let found = flags.iter().map(|text| addresses(text).context("--web.listen-address"));
        return Ok(found.collect::<Result<Vec<_>>>()?.concat());
    }
    let found = file.web.listen_address.iter().flatten().enumerate().map(|(index, text)| {
        addresses(text).map_err(|error| {
            let at = ["web", "listen_address", &index.to_string()];
            file.error_at(&at, format!("web.listen_address: {error:#}"))
        })
    });
    Ok(found.collect::<Result<Vec<_>, _>>()?.concat())
}
