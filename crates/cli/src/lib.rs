//! All of the binary `txnscope` but its `main`. It is a library for the sake of the fuzzer alone.

mod checks;
mod deployment;
mod drill;
mod file;
mod flags;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod logging;
mod preflight;
mod role;
mod serve;
mod services;
mod settings;
mod sources;
mod span;
mod verify;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context;

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
    match (flags.command, matches.subcommand()) {
        (Command::Serve(flags), Some((_, matches))) => serve::run(*flags, matches),
        (Command::Audit(flags), Some((_, matches))) => checks::audit::audit(&flags, matches),
        (Command::Repair(flags), Some((_, matches))) => checks::repair::repair(&flags, matches),
        (Command::Drill(flags), _) => drill::run(*flags),
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

/// Help and version, or what is wrong with the command line. What clap quotes of it may be a URI.
fn explain(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if !error.use_stderr() {
        let _ = print(&text);
        return ExitCode::SUCCESS;
    }
    let arguments = std::env::args_os().filter_map(|argument| argument.into_string().ok());
    let _ = write!(io::stderr().lock(), "{}", without_uris(text, arguments));
    ExitCode::from(MISUSE)
}

/// The text, without any URI that names a user among what was typed. Where more than the value of a flag is quoted, or
/// less, nothing of it can be said.
fn without_uris(mut text: String, arguments: impl Iterator<Item = String>) -> String {
    let mut named = false;
    for argument in arguments.filter(|argument| argument.contains("://") && argument.contains('@')) {
        named = true;
        let value = argument.split_once('=').filter(|_| argument.starts_with('-'));
        let value = value.map_or(argument.as_str(), |(_, value)| value);
        if value.contains("://") && value.contains('@') {
            text = text.replace(value, "URI");
        }
    }
    if named && (text.contains("://") || text.contains('@')) {
        return "error: the command line is wrong at a URI, and what is wrong cannot be said without quoting it. A URI is the \
                value of a flag: --mongodb.uri-file=FILE, for example\n\nFor more information, try '--help'.\n"
            .to_owned();
    }
    text
}

/// Whoever reads may stop reading: that is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to the output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says why, to whoever has called it.
fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "txnscope: {error:#}");
    ExitCode::from(code)
}

/// Logs why, on one line, with what is behind it.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `=` of an option of the URI is taken for that of a flag, and what stands before it is quoted.
    #[test]
    fn a_uri_in_the_place_of_a_flag_is_not_quoted() {
        for word in [
            "--mongodb://user:hunter2@host/?replicaSet=rs0",
            "--mongodb.ur=mongodb://user:hunter2@host/",
            "mongodb://user:hunter2@host/",
        ] {
            let typed = || ["txnscope", "serve", word].map(str::to_owned).into_iter();
            let error = Flags::grammar().try_get_matches_from(typed()).unwrap_err();
            let said = without_uris(error.render().to_string(), typed());
            assert!(said.starts_with("error: ") && !said.contains("hunter2"), "{said}");
        }
    }

    /// Whoever cannot read such a file, or finds no such document, would quote it.
    #[test]
    fn a_uri_in_the_place_of_a_file_or_an_id_is_not_quoted() {
        for (words, flag) in [
            (&["audit", "--checks=mongodb://user:hunter2@host/"][..], "--checks"),
            (&["repair", "--checks=a.toml", "--id", "mongodb+srv://user:hunter2@host/"], "--id"),
            (&["repair", "--checks=a.toml", "--id=a", "--id=b MongoDB://user:hunter2/@host/"], "--id"),
            (&["serve", "--mongodb.uri-file=mongodb://user:hunter2@host/"], "--mongodb.uri-file"),
            (&["drill", "race", "--url=mongodb://user:hunter2@host/"], "--url"),
        ] {
            let typed = || std::iter::once("txnscope").chain(words.iter().copied());
            let error = Flags::read(typed().map(Into::into)).unwrap_err();
            let said = without_uris(error.render().to_string(), typed().map(str::to_owned));
            assert!(said.starts_with(&format!("error: {flag} is given a URI")), "{said}");
            assert!(said.contains("MONGODB_URI") && !said.contains("hunter2"), "{said}");
        }
        for uri in ["--mongodb.uri=mongodb://user@host/", "--checks.file=mongodb.toml"] {
            Flags::read(["txnscope", "serve", uri].map(Into::into)).unwrap();
        }
    }
}
