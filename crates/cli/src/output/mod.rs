//! What commands print and log.

mod confirm;
pub(crate) mod logging;
mod number;
mod table;

use std::io::{self, Write as _};

use anyhow::Context;
use txnscope_catalog::escape_text;

pub(crate) use self::confirm::confirm;
pub(crate) use self::number::grouped;
pub(crate) use self::table::table;
use crate::args::exit_status::ExitStatus;

/// Prints a text to the standard output. Line ends stay; every other character that could control a terminal and was not
/// escaped before is escaped here, in a form that JSON, CSV and JavaScript read as the same text.
///
/// # Errors
///
/// If the text cannot be written. A reader that closes the pipe early is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(escape_text(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to the standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a text as the whole result of a command.
pub(crate) fn print_result(text: &str) -> ExitStatus {
    match print(text) {
        Ok(()) => ExitStatus::Success,
        Err(error) => report_error(&error, ExitStatus::Failure),
    }
}

/// The status of a command; an error is printed to the standard error, and its status is [`ExitStatus::Error`].
pub(crate) fn report_result(result: anyhow::Result<ExitStatus>) -> ExitStatus {
    result.unwrap_or_else(|error| report_error(&error, ExitStatus::Error))
}

/// Prints an error with its causes to the standard error.
pub(crate) fn report_error(error: &anyhow::Error, status: ExitStatus) -> ExitStatus {
    print_warning(&format!("{error:#}"));
    status
}

/// Prints a message to the standard error, with the name of the program before it.
pub(crate) fn print_warning(message: &str) {
    let _ = writeln!(io::stderr().lock(), "txnscope: {}", escape_text(message));
}

/// Logs an error with its causes, on one line.
pub(crate) fn log_error(error: &anyhow::Error, status: ExitStatus) -> ExitStatus {
    tracing::error!("{error:#}");
    status
}
