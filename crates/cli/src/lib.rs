//! All of the binary `txnscope` but its `main`. It is a library for the sake of the fuzzer alone.

mod checks;
mod collectors;
mod complaint;
mod deployment;
mod drill;
mod exposed;
mod file;
mod flags;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod logging;
mod preflight;
mod proxy;
mod role;
mod serve;
mod services;
mod settings;
mod span;
mod verify;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use txnscope_catalog::escape_text;

use crate::complaint::Unread;
use crate::flags::{Command, Flags};

/// Something failed while it ran.
const FAILURE: u8 = 1;
/// What the command line, the environment or a file that they name got wrong.
const MISUSE: u8 = 2;

/// Does what the command line asks for.
#[must_use]
pub fn run() -> ExitCode {
    let (flags, matches) = match Flags::read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => return explain(&error),
    };
    let code = done(flags, &matches);
    exposed::print();
    code
}

fn done(flags: Flags, matches: &ArgMatches) -> ExitCode {
    match (flags.command, matches.subcommand()) {
        (Command::Serve(flags), Some((_, matches))) => serve::run(*flags, matches),
        (Command::Audit(flags), Some((_, matches))) => checks::audit::audit(&flags, matches),
        (Command::Repair(flags), Some((_, matches))) => checks::repair::repair(&flags, matches),
        (Command::Drill(flags), _) => drill::run(*flags),
        (Command::Proxy(flags), _) => proxy::run(&flags),
        (Command::Preflight(flags), Some((_, matches))) => preflight::run(&flags, matches),
        (Command::Verify(flags), Some((_, matches))) => verify::run(&flags, matches),
        (
            Command::Serve(_)
            | Command::Preflight(_)
            | Command::Verify(_)
            | Command::Audit(_)
            | Command::Repair(_),
            None,
        ) => {
            unreachable!("clap has parsed the subcommand that it has matched")
        }
        (Command::Role(flags), _) => match role::run(&flags) {
            Ok(text) => printed(&text),
            Err(error) => complain(&error, MISUSE),
        },
        (Command::Catalog(flags), _) => printed(&flags.format.render()),
    }
}

fn printed(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILURE),
    }
}

/// Help and version, or what is wrong with the command line.
fn explain(unread: &Unread) -> ExitCode {
    match unread {
        Unread::Help(text) => {
            let _ = print(text);
            ExitCode::SUCCESS
        }
        Unread::Wrong(text) => {
            let _ = write!(io::stderr().lock(), "{}", escape_text(text));
            ExitCode::from(MISUSE)
        }
    }
}

/// Prints it with its lines and nothing else that steers a terminal: whatever was not escaped where it came in is escaped
/// here, in a form that JSON, CSV and JavaScript read as the same text.
///
/// Whoever reads may stop reading: that is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(escape_text(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to the output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says why, to whoever has called it.
fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "txnscope: {}", escape_text(&format!("{error:#}")));
    ExitCode::from(code)
}

/// Logs why, on one line, with what is behind it.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::from(code)
}
