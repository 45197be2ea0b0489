//! What can be wrong with a URI. No text of it repeats a part of the URI.

use mongodb::error::{Error as DriverError, ErrorKind};

use crate::line::LineError;

/// What is wrong with a URI, or with the credentials that go with it.
///
/// The text names an option or a place. It repeats no value: in a malformed URI, any piece may be one of the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// There is more than one line, or a control character.
    #[error("the URI cannot be used: {0}")]
    Line(LineError),
    /// Scheme, user, password, hosts or the name of the database.
    #[error(
        "the URI is malformed. It should read mongodb://user:password@host:port/?replicaSet=name; in the user and the \
         password, each of : / ? # [ ] @ % must be percent-encoded (more cannot be said without quoting it)"
    )]
    Malformed,
    /// A host is no host name, no address and no path of a socket. The number counts from 1.
    #[error("host {0} of the URI is neither a host name nor an address (its port is from 1 to 65535)")]
    Host(usize),
    /// The value of an option is not one that the driver takes.
    #[error("the URI's option {name} has a value that cannot be used here{why}")]
    Option {
        /// The option, as MongoDB's manual spells it.
        name: &'static str,
        /// What to do, if that can be said: begins with a colon.
        why: &'static str,
    },
    /// An option that would change how the connection is secured or where it leads, and that has no effect here.
    #[error("the URI's option {name} is not supported here: {advice}")]
    Unsupported {
        /// The option's name.
        name: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// An option without `=`, or one in which an unescaped `@` stands. The number counts from 1.
    #[error(
        "option {0} of the URI is malformed: it should read name=value, and each of @ / ? & in a value, a user or a \
         password must be percent-encoded"
    )]
    Pair(usize),
    /// Both the URI and what goes with it say who to be.
    #[error("the URI names a user, and so does what goes with it: say in one place who to be")]
    TwoUsers,
    /// The URI says how to authenticate, and that takes no user and password.
    #[error(
        "the URI authenticates without a password (authMechanism), and a user with a password goes with it: leave one out"
    )]
    NoPassword,
    /// The URI says how to authenticate, and that takes a user.
    #[error(
        "the URI has an authMechanism that needs a user and a password, and names none: give mongodb.username and \
         mongodb.password_file"
    )]
    NoUser,
    /// The user, the password or its database has a second line or a control character.
    #[error("the {what} cannot be used: {error}")]
    Credentials {
        /// Which of them.
        what: &'static str,
        /// What is wrong with it.
        error: LineError,
    },
    /// The name of the replica set is none.
    #[error(
        "replicaSet of the URI is no name of a replica set: at most 128 letters, digits and signs, without white space, \
         / \\ @ and quotes. Leave replicaSet out, and the name is read from the members"
    )]
    SetName,
    /// A file of certificates cannot be read or used.
    #[error("the file of the URI's option {option} cannot be used: {what}")]
    TlsFile {
        /// The option that names it.
        option: &'static str,
        /// Why.
        what: String,
    },
    /// The certificates and the key do not go together.
    #[error(
        "the TLS files of the URI cannot be used together: does the key in tlsCertificateKeyFile belong to the first \
         certificate in it?"
    )]
    Tls,
    /// DNS does not say who belongs to the deployment.
    #[error("DNS does not say which servers belong to the mongodb+srv:// name of the URI")]
    Dns,
    /// The driver refuses the options together.
    #[error("the driver refuses the URI's options (its reason is withheld, since it may quote the URI)")]
    Refused,
}

impl UriError {
    /// Why the driver makes no client, without its words: these quote paths.
    #[must_use]
    pub fn of_client(error: &DriverError) -> Self {
        match error.kind.as_ref() {
            ErrorKind::InvalidTlsConfig { .. } | ErrorKind::Io(_) => Self::Tls,
            ErrorKind::DnsResolve { .. } => Self::Dns,
            _ => Self::Refused,
        }
    }
}
