//! What went wrong in the database: a driver's error, classified.

use std::fmt;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use txnscope::Reason;

/// A database fault with its reason, for the log and the metrics; its text never goes to a client.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Driver(Box<Error>),
    Deadline(Duration),
    /// What cannot be, unless somebody else writes to the database.
    Inconsistent(&'static str),
}

impl Fault {
    /// Nothing came back in that time.
    pub(crate) fn deadline(waited: Duration) -> Self {
        Self { reason: Reason::TIMEOUT, cause: Cause::Deadline(waited) }
    }

    pub(crate) fn inconsistent(what: &'static str) -> Self {
        Self { reason: Reason::APPLICATION, cause: Cause::Inconsistent(what) }
    }

    /// The same, under another reason.
    pub(crate) fn counted_as(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// Whether the database is away rather than unwilling: another try may find it back.
    pub(crate) fn is_away(&self) -> bool {
        match &self.cause {
            Cause::Driver(error) => is_away(error),
            Cause::Deadline(_) => true,
            Cause::Inconsistent(_) => false,
        }
    }

    pub(crate) fn is_duplicate_key(&self) -> bool {
        self.reason == Reason::DUPLICATE_KEY
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { reason: reason_of(&error), cause: Cause::Driver(Box::new(error)) }
    }
}

impl fmt::Display for Fault {
    /// The driver's own `Display` adds the server's reply as bytes, which helps nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Driver(error) => {
                write!(f, "{}", error.kind)?;
                let mut labels: Vec<_> = error.labels().iter().map(String::as_str).collect();
                labels.sort_unstable();
                if labels.is_empty() { Ok(()) } else { write!(f, " (labels: {})", labels.join(", ")) }
            }
            Cause::Deadline(waited) => write!(f, "no answer from the database within {waited:?}"),
            Cause::Inconsistent(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

/// The code of a server's error, from whichever place of the reply it came.
pub(crate) fn code_of(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => {
            let write_error = error.write_errors.iter().flatten().next().map(|error| error.code);
            write_error.or_else(|| error.write_concern_error.as_ref().map(|error| error.code))
        }
        _ => None,
    }
}

/// Whether a commit with this error was applied, though not as widely as was asked.
pub(crate) fn is_write_concern_error(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Write(WriteFailure::WriteConcernError(_)))
}

/// Whether no server was found in the time that the driver waits for one.
pub(crate) fn is_server_selection(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::ServerSelection { .. })
}

/// Whether the server was lost or cannot serve now, so that it did not judge the statement.
pub(crate) fn is_away(error: &Error) -> bool {
    matches!(
        reason_of(error),
        Reason::NETWORK
            | Reason::SERVER_SELECTION
            | Reason::NOT_PRIMARY
            | Reason::INTERRUPTED
            | Reason::MAX_TIME_EXPIRED
    )
}

/// Why: from the code of a server's error, or from what happened on the way to it.
pub(crate) fn reason_of(error: &Error) -> Reason {
    if is_write_concern_error(error) {
        return Reason::WRITE_CONCERN;
    }
    match error.kind.as_ref() {
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } => {
            Reason::NETWORK
        }
        ErrorKind::ServerSelection { .. } => Reason::SERVER_SELECTION,
        ErrorKind::Authentication { .. } => Reason::UNAUTHORIZED,
        _ => code_of(error).map_or(Reason::OTHER, reason_of_code),
    }
}

fn reason_of_code(code: i32) -> Reason {
    match code {
        112 => Reason::WRITE_CONFLICT,
        251 => Reason::NO_SUCH_TRANSACTION,
        24 | 46 => Reason::LOCK_TIMEOUT,
        239 | 246 => Reason::SNAPSHOT_UNAVAILABLE,
        225 => Reason::TRANSACTION_TOO_OLD,
        290 => Reason::TRANSACTION_EXPIRED,
        257 | 388 => Reason::TRANSACTION_TOO_LARGE,
        50 | 262 => Reason::MAX_TIME_EXPIRED,
        11000 | 11001 => Reason::DUPLICATE_KEY,
        121 => Reason::DOCUMENT_VALIDATION,
        91 | 189 | 10058 | 10107 | 13435 | 13436 => Reason::NOT_PRIMARY,
        11600..=11602 => Reason::INTERRUPTED,
        6 | 7 | 89 | 9001 => Reason::NETWORK,
        64 | 79 | 100 => Reason::WRITE_CONCERN,
        13 | 18 => Reason::UNAUTHORIZED,
        _ => Reason::OTHER,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_lost_connection_is_the_network() {
        let fault = Fault::from(Error::from(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert_eq!(fault.reason, Reason::NETWORK);
        assert!(fault.is_away());
    }

    #[test]
    fn an_error_of_our_own_making_is_not_the_database_being_away() {
        let fault = Fault::from(Error::custom("ours"));
        assert_eq!(fault.reason, Reason::OTHER);
        assert!(!fault.is_away());
        assert!(!Fault::inconsistent("a transfer without its accounts").is_away());
    }
}
