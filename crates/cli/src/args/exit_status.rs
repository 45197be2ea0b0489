//! The exit statuses of all commands. `docs/exit-codes.md` lists what each of them means for which command.

use std::process::ExitCode;

/// The exit status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    /// The command succeeded, and found nothing wrong.
    Success = 0,
    /// The command failed while it ran, or its result is negative: violations, a failed finding, no-go.
    Failure = 1,
    /// An argument, a variable or a file is invalid, or the command could not get a result.
    Error = 2,
    /// `verify` could not decide. A pipeline may treat this differently from no-go.
    Inconclusive = 3,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
