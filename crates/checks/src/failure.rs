//! The reasons for which a check fails to determine whether the data is right.

use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use txnscope_catalog::{Line, check_error_reason};
use txnscope_mongo::ErrorClass;

/// The maximum length of a message in bytes: a server may quote whole documents.
const LONGEST: usize = 2_000;

/// The reason of a failure, as exported in the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The server took longer than `max_time`.
    Timeout,
    /// The connection failed.
    Network,
    /// No available member matches the read preference.
    ServerSelection,
    /// The credentials are wrong.
    Authentication,
    /// The user lacks a privilege.
    PermissionDenied,
    /// A collection does not exist.
    CollectionMissing,
    /// The server rejects the query.
    InvalidQuery,
    /// No consistent view of the data is available, or it is no longer available.
    SnapshotUnavailable,
    /// An election, a shutdown or an operator interrupted the query.
    Interrupted,
    /// The server rejected the command for another reason.
    CommandFailed,
    /// The server's reply is malformed.
    MalformedReply,
    /// Any other reason.
    Other,
}

impl Reason {
    /// All reasons, in the order of the catalog.
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

    /// The catalog's word for the reason.
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
        let reason = check_error_reason(code);
        Self::ALL.into_iter().find(|known| known.as_str() == reason).unwrap_or(Self::CommandFailed)
    }
}

/// A check that did not run, or a repair that was not made.
///
/// The message may quote the query and documents, so it is meant for the user's terminal and must not appear in a
/// label or a log; logs use [`Failure::summary`]. The message is one line, escaped and of bounded length, even if the
/// server sends arbitrary bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// A sentence that explains the reason.
    pub message: String,
    /// The sentence for logs, without text of the server or of a document, if it differs from the message.
    summary: Option<String>,
}

impl Failure {
    /// Creates a failure with a reason and a message for the user.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: Line::new(message.into(), LONGEST).to_string(), summary: None }
    }

    /// The explanation for logs: it quotes no document and no text of the server. If the server rejected a command,
    /// it is the error code and its name.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.summary.as_deref().unwrap_or(&self.message)
    }

    /// Sets another sentence for logs, because the message quotes data.
    pub(crate) fn summed_up(self, summary: impl Into<String>) -> Self {
        Self { summary: Some(summary.into()), ..self }
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(
            Reason::Timeout,
            format!(
                "no response within {}: add an index, or raise max_time",
                humantime::format_duration(limit)
            ),
        )
    }

    pub(crate) fn malformed(what: &str) -> Self {
        Self::new(Reason::MalformedReply, format!("the server's reply is malformed: {what}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let class = ErrorClass::of(&error);
        let reason = match class {
            ErrorClass::Authentication => Reason::Authentication,
            ErrorClass::Code(code) => Reason::of_code(code),
            ErrorClass::ServerSelection => Reason::ServerSelection,
            ErrorClass::Timeout => Reason::Timeout,
            ErrorClass::Network | ErrorClass::PoolCleared => Reason::Network,
            ErrorClass::MalformedReply => Reason::MalformedReply,
            _ => Reason::Other,
        };
        let message = match class {
            // The server's message may name the user.
            ErrorClass::Authentication => {
                "the server does not accept the credentials: user, password, authSource or authMechanism is wrong"
                    .to_owned()
            }
            // The driver's message repeats the server's reply to another command.
            ErrorClass::PoolCleared => "the connection pool was cleared: another connection could not be established".to_owned(),
            // Only the kind: the error's own form repeats the server's whole reply.
            _ => error.kind.to_string(),
        };
        let refused = |code: i32, name: &str| {
            let name = Line::new(name, 100);
            format!(
                "the server rejected the query with code {code} {name}; `txnscope audit` shows its message"
            )
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
            _ => Some(format!("{}; `txnscope audit` shows the details", reason.as_str().replace('_', " "))),
        };
        Self { summary, ..Self::new(reason, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_match_catalog() {
        assert_eq!(Reason::ALL.map(Reason::as_str).as_slice(), txnscope_catalog::CHECK_ERROR_REASONS);
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "the order of ALL must be that of the declaration");
        }
    }
}
