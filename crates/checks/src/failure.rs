//! Why a check could not say whether the data is right.

use std::io;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use txnscope_catalog::Line;

/// The longest message, in bytes: a server may quote whole documents.
const LONGEST: usize = 2_000;

/// One of the catalogue's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It took longer than `max_time`.
    Timeout,
    /// The connection broke.
    Network,
    /// No member was found that the read preference allows.
    ServerSelection,
    /// The credentials are wrong.
    Authentication,
    /// The user may not read there.
    PermissionDenied,
    /// A collection does not exist.
    CollectionMissing,
    /// The server does not accept the query.
    InvalidQuery,
    /// There is no consistent view of the data, or not any more.
    SnapshotUnavailable,
    /// An election, a shutdown or an operator came between.
    Interrupted,
    /// The server refused for another reason.
    CommandFailed,
    /// The server's reply is not what it should be.
    MalformedReply,
    /// Anything else.
    Other,
}

impl Reason {
    /// All of them, in the order of the catalogue.
    pub const ALL: [Self; 12] = [
        Self::Timeout,
        Self::Network,
        Self::ServerSelection,
        Self::Authentication,
        Self::PermissionDenied,
        Self::CollectionMissing,
        Self::InvalidQuery,
        Self::SnapshotUnavailable,
        Self::Interrupted,
        Self::CommandFailed,
        Self::MalformedReply,
        Self::Other,
    ];

    /// The catalogue's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::ServerSelection => "server_selection",
            Self::Authentication => "authentication",
            Self::PermissionDenied => "permission_denied",
            Self::CollectionMissing => "collection_missing",
            Self::InvalidQuery => "invalid_query",
            Self::SnapshotUnavailable => "snapshot_unavailable",
            Self::Interrupted => "interrupted",
            Self::CommandFailed => "command_failed",
            Self::MalformedReply => "malformed_reply",
            Self::Other => "other",
        }
    }

    fn of_code(code: i32) -> Self {
        match code {
            13 => Self::PermissionDenied,
            18 => Self::Authentication,
            26 => Self::CollectionMissing,
            50 => Self::Timeout,
            // NotAReplicaSet, ReadConcernMajorityNotAvailableYet, SnapshotTooOld, SnapshotUnavailable
            123 | 134 | 239 | 246 => Self::SnapshotUnavailable,
            // CursorNotFound, PrimarySteppedDown, QueryPlanKilled, CursorKilled, NotWritablePrimary and its kin
            43 | 91 | 175 | 189 | 237 | 10107 | 11600 | 11601 | 11602 | 13435 | 13436 => Self::Interrupted,
            // BadValue, FailedToParse, TypeMismatch, Overflow, InvalidLength, IllegalOperation, InvalidOptions,
            // InvalidNamespace, InvalidPipelineOperator, ConversionFailure
            2 | 9 | 14 | 15 | 16 | 20 | 72 | 73 | 168 | 241 => Self::InvalidQuery,
            // The numbered places of the server's source: the parsers' complaints are among them.
            15_000.. => Self::InvalidQuery,
            _ => Self::CommandFailed,
        }
    }
}

/// A check that did not run, or a repair that was not made.
///
/// The message is for people: it may quote the query and documents, and so belongs to no label and no log. It is one line,
/// escaped and of bounded length, whatever the server has put into it. [`Failure::summary`] is what a log may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Failure {
    /// Why, in one of the catalogue's words.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
    /// The same without what a server or a document may have put into it, where that is another sentence.
    summary: Option<String>,
}

impl Failure {
    /// A failure for that reason, with a sentence for people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: Line::new(message.into(), LONGEST).to_string(), summary: None }
    }

    /// Why, in a sentence that quotes no document and repeats no words of a server: what a log may have. Of a server that
    /// refused, it is its code and the code's name.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.summary.as_deref().unwrap_or(&self.message)
    }

    /// With another sentence for the log, since the message quotes what was found.
    pub(crate) fn summed_up(self, summary: impl Into<String>) -> Self {
        Self { summary: Some(summary.into()), ..self }
    }

    pub(crate) fn late(limit: Duration) -> Self {
        Self::new(
            Reason::Timeout,
            format!(
                "no answer within {}: give it an index, or a longer max_time",
                humantime::format_duration(limit)
            ),
        )
    }

    pub(crate) fn malformed(what: &str) -> Self {
        Self::new(Reason::MalformedReply, format!("the server's reply is not understood: {what}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => Reason::Authentication,
            ErrorKind::Command(command) => Reason::of_code(command.code),
            ErrorKind::Write(WriteFailure::WriteError(error)) => Reason::of_code(error.code),
            ErrorKind::ServerSelection { .. } => Reason::ServerSelection,
            ErrorKind::Io(io) if io.kind() == io::ErrorKind::TimedOut => Reason::Timeout,
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } => {
                Reason::Network
            }
            ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => {
                Reason::MalformedReply
            }
            _ => Reason::Other,
        };
        let message = match error.kind.as_ref() {
            // A server's words can name the user.
            _ if reason == Reason::Authentication => {
                "the server does not accept the credentials: user, password, authSource or authMechanism is wrong"
                    .to_owned()
            }
            // The driver's words repeat the server's reply to somebody else's command.
            ErrorKind::ConnectionPoolCleared { .. } => "another connection could not be made".to_owned(),
            // The kind alone: the error's own form repeats the server's whole reply.
            kind => kind.to_string(),
        };
        let refused = |code: i32, name: &str| {
            let name = Line::new(name, 100);
            format!("the server refuses, with the code {code} {name}; `txnscope audit` shows what it says")
        };
        let summary = match error.kind.as_ref() {
            _ if reason == Reason::Authentication => None,
            ErrorKind::Command(command) => Some(refused(command.code, &command.code_name)),
            ErrorKind::Write(WriteFailure::WriteError(error)) => {
                Some(refused(error.code, error.code_name.as_deref().unwrap_or_default()))
            }
            ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::ServerSelection { .. } => None,
            _ => Some(format!("{}; `txnscope audit` shows more", reason.as_str().replace('_', " "))),
        };
        Self { summary, ..Self::new(reason, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_error_reasons_match_the_catalog() {
        assert_eq!(Reason::ALL.map(Reason::as_str).as_slice(), txnscope_catalog::CHECK_ERROR_REASONS);
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "the order is that of the declaration");
        }
    }
}
