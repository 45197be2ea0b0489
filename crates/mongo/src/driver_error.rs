//! The class of a driver's error, for all who report one.
//!
//! The texts of the driver are not safe to repeat in each class: that of a rejected login names the user, and that of a
//! cleared pool repeats the server's reply to another command.

use std::io;

use mongodb::error::{Error, ErrorKind, WriteFailure};

/// The class of a driver's error.
///
/// ```
/// use std::io;
///
/// use txnscope_mongo::ErrorClass;
///
/// let reset = mongodb::error::Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
/// assert_eq!(ErrorClass::of(&reset), ErrorClass::Network);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The server, or the driver on its behalf, rejected the credentials.
    Authentication,
    /// The server replied with this error code.
    Code(i32),
    /// No suitable server was found in time.
    ServerSelection,
    /// The connection timed out.
    Timeout,
    /// The connection failed, or could not be made.
    Network,
    /// The driver closed the connection because of an error on another one.
    PoolCleared,
    /// The server's reply could not be decoded.
    MalformedReply,
    /// Any other error of the driver.
    Other,
}

impl ErrorClass {
    /// The class of an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        /// The code for rejected credentials, where the driver does not recognize it.
        const AUTHENTICATION_FAILED: i32 = 18;
        match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => Self::Authentication,
            ErrorKind::ServerSelection { .. } => Self::ServerSelection,
            ErrorKind::Io(io) if io.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            ErrorKind::Io(_) | ErrorKind::DnsResolve { .. } => Self::Network,
            ErrorKind::ConnectionPoolCleared { .. } => Self::PoolCleared,
            ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => {
                Self::MalformedReply
            }
            _ => match server_code(error) {
                Some(AUTHENTICATION_FAILED) => Self::Authentication,
                Some(code) => Self::Code(code),
                None => Self::Other,
            },
        }
    }
}

/// The code of the error with which the server rejected a command or a single write.
#[must_use]
pub fn server_code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{deserialize_from_document, doc};

    use super::*;

    fn refused(code: i32) -> Error {
        let reply = doc! {"code": code, "codeName": "", "errmsg": "no"};
        Error::from(ErrorKind::Command(deserialize_from_document(reply).unwrap()))
    }

    #[test]
    fn code_for_rejected_credentials_is_authentication() {
        assert_eq!(ErrorClass::of(&refused(18)), ErrorClass::Authentication);
        assert_eq!(ErrorClass::of(&refused(13)), ErrorClass::Code(13));
        assert_eq!(server_code(&refused(18)), Some(18));
    }

    #[test]
    fn connection_that_timed_out_is_no_failed_connection() {
        let of = |kind| ErrorClass::of(&Error::from(io::Error::from(kind)));
        assert_eq!(of(io::ErrorKind::TimedOut), ErrorClass::Timeout);
        assert_eq!(of(io::ErrorKind::ConnectionRefused), ErrorClass::Network);
        assert_eq!(ErrorClass::of(&Error::custom("ours")), ErrorClass::Other);
    }
}
