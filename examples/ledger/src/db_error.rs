//! Database errors, with a text for the log and a reason for the metrics. Neither is sent to a client.

use std::fmt;
use std::time::Duration;

use mongodb::error::Error;
use txnscope::transaction::{Cause, Failure};
use txnscope::{Reason, TransactionError};

use crate::stored::Unreadable;
use crate::transaction::WorkError;

/// A database error.
#[derive(Debug)]
pub(crate) struct DbError {
    pub(crate) reason: Reason,
    away: bool,
    text: String,
    /// The document that cannot be read, and the field.
    unreadable: Option<(String, String)>,
}

impl DbError {
    /// The deadline was exceeded.
    pub(crate) fn deadline(waited: Duration) -> Self {
        let text = format!("no response from the database within {waited:?}");
        Self { reason: Reason::TIMEOUT, away: true, text, unreadable: None }
    }

    /// An outcome of the transaction runner that this version does not know.
    pub(crate) fn unexpected(error: &TransactionError<WorkError>) -> Self {
        Self { reason: error.reason(), away: false, text: error.to_string(), unreadable: None }
    }

    /// The same error with another reason.
    pub(crate) fn counted_as(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// A document that cannot be deserialized.
    pub(crate) fn unreadable(&self) -> Option<(&str, &str)> {
        self.unreadable.as_ref().map(|(document, field)| (document.as_str(), field.as_str()))
    }

    /// Whether the database is unavailable, so that a retry may succeed.
    pub(crate) fn is_away(&self) -> bool {
        self.away
    }
}

impl From<Error> for DbError {
    fn from(error: Error) -> Self {
        let reason = Reason::from_error(&error);
        let away = [
            Reason::NETWORK,
            Reason::SERVER_SELECTION,
            Reason::NOT_PRIMARY,
            Reason::INTERRUPTED,
            Reason::MAX_TIME_EXPIRED,
            Reason::OVERLOADED,
        ];
        // Only the kind: the driver's own form adds the bytes of the server's reply, which are of no use in a log.
        Self { reason, away: away.contains(&reason), text: error.kind.to_string(), unreadable: None }
    }
}

impl From<Unreadable> for DbError {
    fn from(unreadable: Unreadable) -> Self {
        let text = unreadable.to_string();
        let unreadable = Some((unreadable.document, unreadable.field));
        Self { reason: Reason::APPLICATION, away: false, text, unreadable }
    }
}

impl From<Failure<WorkError>> for DbError {
    fn from(failure: Failure<WorkError>) -> Self {
        let text = match failure.cause() {
            Cause::Application(WorkError::Unreadable(unreadable)) => return Self::from(unreadable.clone()),
            Cause::Application(WorkError::Inconsistent(what)) => (*what).to_owned(),
            _ => failure.to_string(),
        };
        Self { reason: failure.reason(), away: failure.is_transient(), text, unreadable: None }
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DbError {}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn lost_connection_is_a_network_error() {
        let fault = DbError::from(Error::from(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert_eq!(fault.reason, Reason::NETWORK);
        assert!(fault.is_away());
    }

    #[test]
    fn own_error_is_not_database_unavailable() {
        assert!(!DbError::from(Error::custom("ours")).is_away());
    }
}
