//! Errors at startup and of polls.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mongodb::bson::RawDocument;
use mongodb::error::Error as DriverError;
use txnscope_catalog::{FileError, Refusal, poll_error_reason, refusal};
use txnscope_mongo::{ErrorClass, UriError, server_code};

use crate::decode::{Field, boolean, decode_lossy, number, text};

/// An error that keeps the sidecar from starting.
///
/// An unreachable database is no such error: the sidecar starts, reports the database as down, and retries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The URI is malformed or has unsupported options.
    #[error("{0}")]
    Uri(#[from] UriError),
    /// No deployment is configured.
    #[error("no deployment configured: set mongodb.uri, or define targets to probe")]
    NoTarget,
    /// Checks are configured, and no deployment to run them on.
    #[error(
        "checks are configured, but no deployment to run them on: set mongodb.uri, since checks do not run on probed targets"
    )]
    NothingToCheck,
    /// No listen address is configured.
    #[error("no listen address configured: set web.listen_address")]
    NoAddress,
    /// The name of a target or an auth module is invalid.
    #[error("invalid name of a target or an auth module: use letters, digits, _ . and -")]
    Name,
    /// One of several deployments has an error.
    #[error("{which}: {error}")]
    Target {
        /// The deployment: its position in the list, or its name.
        which: String,
        /// The error.
        #[source]
        error: Box<StartError>,
    },
    /// The web configuration file is missing, malformed, or uses unsupported options.
    #[error("{0}")]
    Web(#[from] FileError),
    /// The path of the metrics page is invalid.
    #[error(
        "invalid path of the metrics page: begin with / and use letters, digits, _ . and -, as in /metrics; /, /probe and /-/ are reserved"
    )]
    TelemetryPath,
    /// An allowed host is no host name.
    #[error("invalid allowed host: use a host name without scheme and port, as in txnscope.example")]
    AllowedHost,
    /// An interval or a timeout is out of bounds.
    #[error("a {name} of {duration:?} is out of bounds: {least:?} to {most:?}")]
    Duration {
        /// The name of the setting.
        name: &'static str,
        /// Its value.
        duration: Duration,
        /// The smallest accepted value.
        least: Duration,
        /// The largest accepted value.
        most: Duration,
    },
    /// A setting of the collectors is invalid.
    #[error("{0}")]
    Settings(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another process there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The sockets that systemd should have passed are missing or unusable.
    #[error("{0}")]
    Socket(String),
}

impl StartError {
    /// Whether the configuration is at fault, and not the machine.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        match self {
            Self::Uri(_)
            | Self::NoTarget
            | Self::NothingToCheck
            | Self::NoAddress
            | Self::Name
            | Self::Web(_)
            | Self::TelemetryPath
            | Self::AllowedHost
            | Self::Duration { .. }
            | Self::Settings(_) => true,
            Self::Target { error, .. } => error.is_misuse(),
            Self::Listen { .. } | Self::Socket(_) => false,
        }
    }
}

/// Why a poll failed: one of the catalog's `POLL_ERROR_REASONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollErrorReason {
    Timeout,
    Network,
    ServerSelection,
    Authentication,
    PermissionDenied,
    CommandFailed,
    MalformedReply,
    /// Another server answers than the expected one.
    IdentityMismatch,
    Other,
}

impl PollErrorReason {
    pub(crate) const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Network,
        Self::ServerSelection,
        Self::Authentication,
        Self::PermissionDenied,
        Self::CommandFailed,
        Self::MalformedReply,
        Self::IdentityMismatch,
        Self::Other,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::ServerSelection => "server_selection",
            Self::Authentication => "authentication",
            Self::PermissionDenied => "permission_denied",
            Self::CommandFailed => "command_failed",
            Self::MalformedReply => "malformed_reply",
            Self::IdentityMismatch => "identity_mismatch",
            Self::Other => "other",
        }
    }

    /// Whether the member itself sent a reply, even if the reply was an error.
    pub(crate) const fn is_server_response(self) -> bool {
        match self {
            Self::PermissionDenied | Self::CommandFailed | Self::MalformedReply => true,
            Self::Timeout
            | Self::Network
            | Self::ServerSelection
            | Self::Authentication
            | Self::IdentityMismatch
            | Self::Other => false,
        }
    }
}

/// A failed poll. The message is for the log: it is no label and on no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct PollError {
    pub(crate) reason: PollErrorReason,
    /// The meaning of the server's error, if the server returned one.
    refusal: Option<Refusal>,
    /// The code of the server's error, if it has one.
    code: Option<i32>,
    message: String,
    /// The driver has cleared the pool because of another error.
    cleared: bool,
}

impl PollError {
    pub(crate) fn new(reason: PollErrorReason, message: impl Into<String>) -> Self {
        Self { reason, refusal: None, code: None, message: message.into(), cleared: false }
    }

    /// An error that the server returned.
    fn refused(code: Option<i32>, message: String) -> Self {
        let word = code.map_or("command_failed", poll_error_reason);
        let known = PollErrorReason::ALL.into_iter().find(|reason| reason.as_str() == word);
        let reason = known.unwrap_or(PollErrorReason::CommandFailed);
        // The server's message may contain the user name.
        let message =
            if reason == PollErrorReason::Authentication { CREDENTIALS_REJECTED.to_owned() } else { message };
        Self { reason, refusal: Some(refusal(code)), code, message, cleared: false }
    }

    /// Adds where the error occurred.
    pub(crate) fn with_context(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// Whether this error is the consequence of an earlier one.
    pub(crate) fn is_consequence(&self) -> bool {
        self.cleared || self.reason == PollErrorReason::ServerSelection
    }

    /// Adapts an error from `hello`: a server that does not send a readable reply to it does not count as a
    /// member that answers.
    pub(crate) fn for_handshake(self) -> Self {
        if self.reason != PollErrorReason::MalformedReply {
            return self;
        }
        let message = format!("the server does not speak MongoDB's wire protocol: {}", self.message);
        Self { reason: PollErrorReason::Network, message, ..self }
    }

    /// Appends the message of the cause.
    pub(crate) fn caused_by(self, cause: &Self) -> Self {
        Self { message: format!("{}: {}", self.message, cause.message), ..self }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(PollErrorReason::MalformedReply, message)
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(PollErrorReason::Timeout, format!("no answer within {limit:?}"))
    }

    /// The meaning of the server's error, if the server returned one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Whether the server will return the same error again, since it does not support the command, or not in its
    /// present state. The poll then counts as successful, without samples.
    pub(crate) fn is_permanent(&self) -> bool {
        self.refusal.is_some_and(Refusal::is_permanent)
    }

    /// The code of the server's error, if it has one.
    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }
}

/// The message for rejected credentials.
const CREDENTIALS_REJECTED: &str = "the server does not accept the credentials";

/// Server error: the member was removed from its set.
pub(crate) const INVALID_REPLICA_SET_CONFIG: i32 = 93;
/// Server error: the member belongs to no set yet.
pub(crate) const NOT_YET_INITIALIZED: i32 = 94;

impl From<DriverError> for PollError {
    fn from(error: DriverError) -> Self {
        // Only the kind: the error's own text repeats the server's whole reply.
        let message = one_line(&error.kind);
        if let Some(code) = server_code(&error) {
            return Self::refused(Some(code), message);
        }
        let class = ErrorClass::of(&error);
        let reason = match class {
            ErrorClass::Authentication => PollErrorReason::Authentication,
            ErrorClass::ServerSelection => PollErrorReason::ServerSelection,
            ErrorClass::Timeout => PollErrorReason::Timeout,
            ErrorClass::Network | ErrorClass::PoolCleared => PollErrorReason::Network,
            ErrorClass::MalformedReply => {
                // The driver does not parse error replies without a code, or with a code of another type.
                let Some(reply) = error.server_response() else {
                    return Self::new(PollErrorReason::MalformedReply, message).for_handshake();
                };
                if let Some(error_reply) = ErrorReply::read(reply) {
                    return Self::refused(error_reply.code, error_reply.message.unwrap_or(message));
                }
                PollErrorReason::MalformedReply
            }
            _ => PollErrorReason::Other,
        };
        let message = match class {
            // The server's message may contain the user name.
            ErrorClass::Authentication => CREDENTIALS_REJECTED.to_owned(),
            // The driver's message repeats the last error of the server verbatim.
            ErrorClass::PoolCleared => "another connection could not be made".to_owned(),
            ErrorClass::ServerSelection => "no server can be selected in time".to_owned(),
            _ => message,
        };
        Self { cleared: class == ErrorClass::PoolCleared, ..Self::new(reason, message) }
    }
}

/// An error reply, parsed leniently.
struct ErrorReply {
    code: Option<i32>,
    message: Option<String>,
}

impl ErrorReply {
    fn read(reply: &RawDocument) -> Option<Self> {
        let reply = decode_lossy(reply);
        if boolean(&reply, &["ok"]) != Field::Value(false) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "a number beyond is no code")]
        let code = number(&reply, &["code"]).ok().map(|code| code as i32);
        let message = text(&reply, &["errmsg"]).ok().map(|text| one_line(&text));
        Some(Self { code, message })
    }
}

/// The server's message on one line, escaped and truncated.
fn one_line(words: &impl std::fmt::Display) -> String {
    txnscope_catalog::Line::new(words, 500).to_string()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;
    use txnscope_catalog::POLL_ERROR_REASONS;

    use super::*;

    #[test]
    fn poll_error_reasons_match_the_catalog() {
        assert_eq!(PollErrorReason::ALL.map(PollErrorReason::as_str).as_slice(), POLL_ERROR_REASONS);
        for (index, reason) in PollErrorReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "the order is that of the declaration");
        }
    }

    #[test]
    fn error_reply_without_or_with_unusual_code_is_parsed() {
        let read = |reply: mongodb::bson::RawDocumentBuf| {
            ErrorReply::read(&reply).map(|error_reply| (error_reply.code, error_reply.message))
        };
        let words = Some("not supported through mongos".to_owned());
        assert_eq!(read(rawdoc! {"ok": 0.0, "errmsg": "not supported through mongos"}), Some((None, words)));
        assert_eq!(read(rawdoc! {"ok": 0, "code": 8000.0}), Some((Some(8000), None)));
        assert_eq!(read(rawdoc! {"ok": false, "code": 303_i64}), Some((Some(303), None)));
        assert_eq!(read(rawdoc! {"ok": 1, "code": 303}), None);
        assert_eq!(read(rawdoc! {"code": 303}), None);
    }
}
