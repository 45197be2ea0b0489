//! Classification of driver errors by reason.

use std::fmt;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use txnscope_catalog::{Line, attempt_reason};

use super::first_statement::is_overload;
use crate::Reason;

impl Reason {
    /// Returns the reason of a driver error: from the code in the server's reply, or from the kind of network or
    /// driver error. An error that only reports an exceeded deadline takes the reason of its source.
    ///
    /// ```
    /// use mongodb::error::Error;
    /// use txnscope::Reason;
    ///
    /// let reset = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    /// assert_eq!(Reason::from_error(&reset), Reason::NETWORK);
    /// ```
    #[must_use]
    pub fn from_error(error: &Error) -> Self {
        if is_write_concern_error(error) {
            return Self::WRITE_CONCERN;
        }
        if is_overload(error) {
            return Self::OVERLOADED;
        }
        match error.kind.as_ref() {
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } => {
                Self::NETWORK
            }
            ErrorKind::ServerSelection { .. } => Self::SERVER_SELECTION,
            ErrorKind::Authentication { .. } => Self::UNAUTHORIZED,
            ErrorKind::InvalidArgument { .. } => Self::INVALID_REQUEST,
            ErrorKind::Custom(_) => Self::APPLICATION,
            // The driver's deadline passed, and the last real error is the source. Without a source, the driver was
            // misused.
            ErrorKind::Transaction { .. } => source(error).map_or(Self::INVALID_REQUEST, Self::from_error),
            _ => code(error).map_or(Self::OTHER, Self::of_code),
        }
    }

    /// Returns the reason of a server's error code.
    pub(super) fn of_code(code: i32) -> Self {
        Self::from_catalog(attempt_reason(code))
    }
}

/// `maxTimeMS` ran out, reported by the server: only with this code a commit is not retried.
pub(super) const MAX_TIME_MS_EXPIRED: i32 = 50;

/// The transaction never started, or has ended.
pub(super) const NO_SUCH_TRANSACTION: i32 = 251;

/// Returns the source of an error.
fn source(error: &Error) -> Option<&Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Returns the server's error code, from any position in the reply.
pub(super) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => {
            let write_error = error.write_errors.iter().flatten().next().map(|error| error.code);
            write_error.or_else(|| error.write_concern_error.as_ref().map(|error| error.code))
        }
        ErrorKind::BulkWrite(failure) => {
            let write_error = failure.write_errors.values().next().map(|error| error.code);
            let concern = || failure.write_concern_errors.first().map(|error| error.code);
            write_error.or_else(concern).or_else(|| source(error).and_then(code))
        }
        ErrorKind::Transaction { .. } => source(error).and_then(code),
        _ => None,
    }
}

/// Returns the server's name of the error code.
pub(super) fn code_name(error: &Error) -> Option<&str> {
    let name = match error.kind.as_ref() {
        ErrorKind::Command(error) => error.code_name.as_str(),
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code_name.as_deref()?,
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => error.code_name.as_str(),
        ErrorKind::Transaction { .. } => source(error).and_then(code_name)?,
        _ => return None,
    };
    (!name.is_empty()).then_some(name)
}

/// Whether a commit with this error was applied, but its write concern was not satisfied.
pub(super) fn is_write_concern_error(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Write(WriteFailure::WriteConcernError(_)))
}

/// Whether the driver refused to send a commit because the callback has ended the transaction itself.
pub(super) fn ended_by_callback(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Transaction { .. })
}

/// Whether the driver reports that the callback has aborted the transaction. The driver exposes this only in the
/// error message; any other message means unknown.
pub(super) fn aborted_by_callback(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Transaction { message, .. } => message.contains("abortTransaction"),
        _ => false,
    }
}

/// Whether the driver refused to send an abort because the callback has aborted the transaction.
pub(super) fn already_aborted(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Transaction { message, .. } => message.contains("abortTransaction twice"),
        _ => false,
    }
}

/// How far a statement with an error has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The statement was not sent.
    NotSent,
    /// The statement may have been sent; there was no reply.
    Unknown,
    /// The server replied.
    Answered,
}

pub(super) fn delivery(error: &Error) -> Delivery {
    match error.kind.as_ref() {
        ErrorKind::InvalidArgument { .. }
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Transaction { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::Shutdown => Delivery::NotSent,
        ErrorKind::Io(_) => Delivery::Unknown,
        _ if error.server_response().is_some() || code(error).is_some() => Delivery::Answered,
        // A document that cannot be encoded as BSON, or an error of the application.
        _ => Delivery::NotSent,
    }
}

/// Displays an error without the server's whole reply, which the driver's own `Display` appends as bytes. A server's
/// message may quote a client's input: it is written on one line, escaped and truncated.
#[derive(Debug)]
pub(super) struct ErrorSummary<'a>(pub(super) &'a Error);

/// The maximum length of a displayed error, in bytes.
const MAX_ERROR_BYTES: usize = 1_000;

impl fmt::Display for ErrorSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Line::new(&self.0.kind, MAX_ERROR_BYTES))?;
        if let Some(source) = source(self.0) {
            write!(f, ": {}", ErrorSummary(source))?;
        }
        Ok(())
    }
}

/// Returns the error's labels, sorted.
pub(super) fn labels(error: &Error) -> String {
    let mut labels: Vec<_> = error.labels().iter().map(String::as_str).collect();
    labels.sort_unstable();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use std::io;

    use txnscope_catalog::REASONS;

    use super::*;

    /// A duplicate key error contains the value, which a client has sent.
    #[test]
    fn error_summary_is_one_line_escaped_and_bounded() {
        let words =
            format!("E11000 \"a\nlevel=ERROR forged \u{1b}[2J\u{202e}\u{2028}\"{}", "x".repeat(1 << 20));
        let summary = ErrorSummary(&Error::from(io::Error::other(words))).to_string();
        assert!(summary.contains(r#""a\nlevel=ERROR forged \u001b[2J\u202e\u2028""#), "{summary}");
        assert!(
            summary.chars().all(txnscope_catalog::is_printable) && summary.len() < MAX_ERROR_BYTES + 10,
            "{}",
            summary.len()
        );
    }

    /// Every code for which the server or the driver has a label, codes without a label that end a transaction, and
    /// their reasons.
    const TABLE: &[(&[i32], Reason)] = &[
        (&[112], Reason::WRITE_CONFLICT),
        (&[251], Reason::NO_SUCH_TRANSACTION),
        (&[24], Reason::LOCK_TIMEOUT),
        (&[246, 239], Reason::SNAPSHOT_UNAVAILABLE),
        (&[267, 263, 20], Reason::INVALID_REQUEST),
        (&[262, 50], Reason::MAX_TIME_EXPIRED),
        (&[10107, 13435, 13436, 189, 91], Reason::NOT_PRIMARY),
        (&[11600, 11601, 11602], Reason::INTERRUPTED),
        (&[6, 7, 89, 9001], Reason::NETWORK),
        (&[64, 100], Reason::WRITE_CONCERN),
        (&[225], Reason::TRANSACTION_TOO_OLD),
        (&[257, 388], Reason::TRANSACTION_TOO_LARGE),
        (&[290], Reason::TRANSACTION_EXPIRED),
        (&[133, 134], Reason::SERVER_SELECTION),
        (&[462], Reason::OVERLOADED),
        (&[11000], Reason::DUPLICATE_KEY),
        (&[121], Reason::DOCUMENT_VALIDATION),
        (&[13, 18], Reason::UNAUTHORIZED),
        (&[63, 279, 8000], Reason::OTHER),
    ];

    #[test]
    fn every_code_maps_to_reason() {
        for (codes, reason) in TABLE {
            for code in *codes {
                assert_eq!(Reason::of_code(*code), *reason, "{code}");
            }
        }
    }

    #[test]
    fn every_reason_is_in_catalog() {
        for (_, reason) in TABLE {
            assert!(REASONS.contains(&reason.as_str()), "{reason:?}");
        }
    }

    #[test]
    fn network_and_custom_errors_have_reasons() {
        let reset = Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!((Reason::from_error(&reset), delivery(&reset)), (Reason::NETWORK, Delivery::Unknown));
        let custom = Error::custom("ours");
        assert_eq!(
            (Reason::from_error(&custom), delivery(&custom)),
            (Reason::APPLICATION, Delivery::NotSent)
        );
        assert_eq!(code(&custom), None);
    }

    #[test]
    fn error_summary_is_short() {
        let reset = Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(ErrorSummary(&reset).to_string(), "I/O error: connection reset");
        assert_eq!(labels(&reset), "");
    }
}
