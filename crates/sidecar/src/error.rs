//! What can go wrong: at the start, and at a poll.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mongodb::bson::RawDocument;
use mongodb::error::{Error as DriverError, ErrorKind};
use txnscope_catalog::{Refusal, refusal};
use txnscope_mongo::UriError;

use crate::decode::{Field, boolean, decode_lossy, number, text};
use crate::web::WebConfigError;

/// Why a sidecar did not start.
///
/// A database that is away is not among them: the sidecar starts, says so on its page, and waits for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The URI is malformed, or asks for what cannot be had.
    #[error("{0}")]
    Uri(#[from] UriError),
    /// Nothing is to be watched.
    #[error("there is no deployment to watch: name one at least")]
    NoTarget,
    /// There are checks, and no deployment that is watched always.
    #[error(
        "there are checks, and no deployment to run them on: name one that is watched always, since none runs on what is only probed"
    )]
    NothingToCheck,
    /// Nowhere is to be listened.
    #[error("there is no address to listen on: name one at least")]
    NoAddress,
    /// A target or an auth module has a name that no query can carry.
    #[error("a target or an auth module has a name that no query can carry: use letters, digits, _ . and -")]
    Name,
    /// Of the deployments, this one is at fault.
    #[error("{which}: {error}")]
    Target {
        /// Which: its place in the list, or its name.
        which: String,
        /// What is wrong with it.
        #[source]
        error: Box<StartError>,
    },
    /// The file for TLS and users is missing, malformed, or asks for what cannot be had.
    #[error("{0}")]
    Web(#[from] WebConfigError),
    /// The path of the metrics cannot be served.
    #[error(
        "the path of the metrics cannot be served: begin with / and use letters, digits, _ . and -, as in /metrics; /, /probe and /-/ are taken"
    )]
    TelemetryPath,
    /// A name by which the web side may be called is none.
    #[error("an allowed host is no name: give it without scheme and port, as in txnscope.example")]
    AllowedHost,
    /// An interval or a timeout is out of bounds.
    #[error("a {name} of {duration:?} is out of bounds: {least:?} to {most:?}")]
    Duration {
        /// Which one.
        name: &'static str,
        /// What it was.
        duration: Duration,
        /// The least that is accepted.
        least: Duration,
        /// The most that is accepted.
        most: Duration,
    },
    /// A setting of the collectors is wrong.
    #[error("{0}")]
    Settings(String),
    /// The catalogue has an entry that Prometheus does not accept.
    #[error("the metrics cannot be registered; this is a bug of txnscope")]
    Metrics(#[from] prometheus::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another process there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The sockets that systemd should have handed over are not there, or cannot be used.
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
            Self::Metrics(_) | Self::Listen { .. } | Self::Socket(_) => false,
        }
    }
}

/// Why a poll failed: one of the catalogue's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollErrorReason {
    Timeout,
    Network,
    ServerSelection,
    Authentication,
    PermissionDenied,
    CommandFailed,
    MalformedReply,
    /// Another server answers than the one that was asked.
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

    /// Whether the member itself answered, if only to say no.
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

/// A poll that failed. The message is for the log: it goes to no label and no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct PollError {
    pub(crate) reason: PollErrorReason,
    /// What the server means by it, if it said no.
    refusal: Option<Refusal>,
    /// The server's code, if it said no and gave one.
    code: Option<i32>,
    message: String,
    /// The driver has cleared the pool because of another error.
    cleared: bool,
}

impl PollError {
    pub(crate) fn new(reason: PollErrorReason, message: impl Into<String>) -> Self {
        Self { reason, refusal: None, code: None, message: message.into(), cleared: false }
    }

    /// A server that said no.
    fn refused(code: Option<i32>, message: String) -> Self {
        let reason = match code {
            Some(UNAUTHORIZED) => PollErrorReason::PermissionDenied,
            Some(AUTHENTICATION_FAILED) => PollErrorReason::Authentication,
            Some(MAX_TIME_MS_EXPIRED) => PollErrorReason::Timeout,
            Some(_) | None => PollErrorReason::CommandFailed,
        };
        // A server's words can name the user.
        let message =
            if reason == PollErrorReason::Authentication { CREDENTIALS_REJECTED.to_owned() } else { message };
        Self { reason, refusal: Some(refusal(code)), code, message, cleared: false }
    }

    /// The same, and where it was met.
    pub(crate) fn with_context(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// Whether another error came before, and is the cause of this one.
    pub(crate) fn is_consequence(&self) -> bool {
        self.cleared || self.reason == PollErrorReason::ServerSelection
    }

    /// The same, where what came is no message of MongoDB's, or where nothing was asked but who the server is: whoever has
    /// no readable answer to that is no member that answers.
    pub(crate) fn for_handshake(self) -> Self {
        if self.reason != PollErrorReason::MalformedReply {
            return self;
        }
        let message = format!("what listens there does not speak MongoDB's wire protocol: {}", self.message);
        Self { reason: PollErrorReason::Network, message, ..self }
    }

    /// The same, with what came before.
    pub(crate) fn caused_by(self, cause: &Self) -> Self {
        Self { message: format!("{}: {}", self.message, cause.message), ..self }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(PollErrorReason::MalformedReply, message)
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(PollErrorReason::Timeout, format!("no answer within {limit:?}"))
    }

    /// What the server means by it, if it said no.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Whether the server said no, and will say so again: it does not have what was asked for, or not in its present
    /// state. This is no failure; there is nothing to be had.
    pub(crate) fn is_permanent(&self) -> bool {
        self.refusal.is_some_and(Refusal::is_permanent)
    }

    /// The server's code, if it said no and gave one.
    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }
}

/// What is said of a refusal to let us in.
const CREDENTIALS_REJECTED: &str = "the server does not accept the credentials";

const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const MAX_TIME_MS_EXPIRED: i32 = 50;

/// The member was removed from its set.
pub(crate) const INVALID_REPLICA_SET_CONFIG: i32 = 93;
/// The member knows of no set.
pub(crate) const NOT_YET_INITIALIZED: i32 = 94;

impl From<DriverError> for PollError {
    fn from(error: DriverError) -> Self {
        // The kind alone: the error's own form repeats the server's whole reply.
        let message = one_line(&error.kind);
        let reason = match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => PollErrorReason::Authentication,
            ErrorKind::Command(command) => return Self::refused(Some(command.code), message),
            ErrorKind::ServerSelection { .. } => PollErrorReason::ServerSelection,
            ErrorKind::Io(io) if io.kind() == io::ErrorKind::TimedOut => PollErrorReason::Timeout,
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } => {
                PollErrorReason::Network
            }
            ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => {
                // The driver reads no refusal that lacks a code, or has one of another type.
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
        let cleared = matches!(error.kind.as_ref(), ErrorKind::ConnectionPoolCleared { .. });
        let message = match error.kind.as_ref() {
            // A server's words can name the user.
            _ if reason == PollErrorReason::Authentication => CREDENTIALS_REJECTED.to_owned(),
            // The driver's words repeat what it was last told by the server, whatever that was.
            ErrorKind::ConnectionPoolCleared { .. } => "another connection could not be made".to_owned(),
            ErrorKind::ServerSelection { .. } => "no server can be selected in time".to_owned(),
            _ => message,
        };
        Self { cleared, ..Self::new(reason, message) }
    }
}

/// A reply that says no, in whatever form.
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

/// The server's words, on one line, escaped and not too long.
fn one_line(words: &impl std::fmt::Display) -> String {
    txnscope_catalog::Line::new(words, 500).to_string()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;
    use txnscope_catalog::POLL_ERROR_REASONS;

    use super::*;

    #[test]
    fn the_reasons_are_the_catalogue_s() {
        assert_eq!(PollErrorReason::ALL.map(PollErrorReason::as_str).as_slice(), POLL_ERROR_REASONS);
        for (index, reason) in PollErrorReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "the order is that of the declaration");
        }
    }

    #[test]
    fn a_refusal_without_a_code_or_with_an_odd_one_is_read() {
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
