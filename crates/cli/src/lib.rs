//! The whole of the binary `txnscope` but its `main`. It is a library only so that the fuzzer can call it.
//!
//! | module | contents |
//! | --- | --- |
//! | `cli` | the command line as a whole |
//! | `args` | arguments and parsers that several commands share, and the exit statuses |
//! | `config` | the settings, the configuration file, and the files that it names |
//! | `client` | clients of MongoDB and of HTTP services |
//! | `output` | tables, numbers, errors and logs |
//! | `runtime` | the async runtime and signals |
//! | `commands` | one module for each command; no command uses another one |

mod args;
mod cli;
mod client;
mod commands;
mod config;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod output;
mod runtime;

use std::process::ExitCode;

use clap::ArgMatches;

use crate::args::exit_status::ExitStatus;
use crate::cli::{Cli, Command};
use crate::commands::{
    audit, catalog, completions, drill, healthcheck, man, preflight, proxy, repair, role, serve, top, verify,
};
use crate::config::exposed;

/// Runs the command that the process's arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let (cli, matches) = match Cli::parse_args(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return error.report().into(),
    };
    let status = dispatch(cli, &matches);
    exposed::print_warnings();
    status.into()
}

fn dispatch(cli: Cli, matches: &ArgMatches) -> ExitStatus {
    let matches = matches.subcommand().map(|(_, matches)| matches);
    let matches = matches.expect("clap has matched a subcommand, since it has parsed one");
    match cli.command {
        Command::Serve(args) => serve::run(*args, matches),
        Command::Proxy(args) => proxy::run(&args),
        Command::Top(args) => top::run(&args, matches),
        Command::Preflight(args) => preflight::run(&args, matches),
        Command::Verify(args) => verify::run(&args, matches),
        Command::Audit(args) => audit::run(&args, matches),
        Command::Repair(args) => repair::run(&args, matches),
        Command::Drill(args) => drill::run(*args),
        Command::Role(args) => role::run(&args),
        Command::Catalog(args) => catalog::run(&args, &Cli::command()),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
        Command::Healthcheck(args) => healthcheck::run(&args),
    }
}
