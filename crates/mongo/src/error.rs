//! Errors in URIs. No message repeats a part of the URI.

use mongodb::error::{Error as DriverError, ErrorKind};

use crate::secret_line::LineError;

/// An error in a URI, or in its credentials.
///
/// The message names an option or a position. It repeats no value: in a malformed URI, any part may be one of
/// the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// More than one line, or a control character.
    #[error("the URI cannot be used: {0}")]
    Line(LineError),
    /// Scheme, user, password, hosts or database name.
    #[error(
        "the URI is malformed. It should read mongodb://user:password@host:port/?replicaSet=name; in the user and the \
         password, each of : / ? # [ ] @ % must be percent-encoded (more cannot be said without quoting it)"
    )]
    Malformed,
    /// A host is no host name, no address and no socket path. The position counts from 1.
    #[error("host {0} of the URI is neither a host name nor an address (its port is from 1 to 65535)")]
    Host(usize),
    /// The driver does not accept the value of an option.
    #[error("the URI's option {name} has a value that cannot be used here{advice}")]
    Option {
        /// The option, as MongoDB's manual spells it.
        name: &'static str,
        /// What to do, if known: begins with a colon.
        advice: &'static str,
    },
    /// An option that would change how the connection is secured or where it leads, and that is not supported.
    #[error("the URI's option {name} is not supported here: {advice}")]
    Unsupported {
        /// The option's name.
        name: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// An option without `=`, or with an unescaped `@`. The position counts from 1.
    #[error(
        "option {0} of the URI is malformed: it should read name=value, and each of @ / ? & in a value, a user or a \
         password must be percent-encoded"
    )]
    Pair(usize),
    /// Both the URI and separate credentials name a user.
    #[error("the URI names a user, and separate credentials are given: use one of them")]
    TwoUsers,
    /// The URI's mechanism takes no user and password.
    #[error(
        "the URI's authMechanism takes no password, and separate credentials are given: remove one of them"
    )]
    NoPassword,
    /// The URI's mechanism needs a user.
    #[error(
        "the URI has an authMechanism that needs a user and a password, and names none: give mongodb.username and \
         mongodb.password_file"
    )]
    NoUser,
    /// User, password or authentication database contain a second line or a control character.
    #[error("the {what} cannot be used: {error}")]
    Credentials {
        /// The invalid part.
        what: &'static str,
        /// The error.
        error: LineError,
    },
    /// The name of the replica set is invalid.
    #[error(
        "replicaSet of the URI is no name of a replica set: at most 128 letters, digits and signs, without white space, \
         / \\ @ and quotes. Leave replicaSet out, and the name is read from the members"
    )]
    SetName,
    /// A TLS file cannot be read or used.
    #[error("the file of the URI's option {option} cannot be used: {what}")]
    TlsFile {
        /// The option with the file's name.
        option: &'static str,
        /// The cause.
        what: String,
    },
    /// Certificate and key do not match.
    #[error(
        "the TLS files of the URI cannot be used together: does the key in tlsCertificateKeyFile belong to the first \
         certificate in it?"
    )]
    Tls,
    /// DNS does not resolve the SRV name.
    #[error("DNS does not resolve the mongodb+srv:// name of the URI")]
    Dns,
    /// The driver rejects the combination of options.
    #[error("the driver refuses the URI's options (its reason is withheld, since it may quote the URI)")]
    Refused,
}

impl UriError {
    /// Converts the driver's error, without its message, which quotes paths.
    #[must_use]
    pub fn from_client_error(error: &DriverError) -> Self {
        match error.kind.as_ref() {
            ErrorKind::InvalidTlsConfig { .. } | ErrorKind::Io(_) => Self::Tls,
            ErrorKind::DnsResolve { .. } => Self::Dns,
            _ => Self::Refused,
        }
    }
}
