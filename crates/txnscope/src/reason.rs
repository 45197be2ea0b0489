//! The reasons why an operation did not succeed: a closed set, and names that the application declares in its code.

use std::fmt;

/// Why an operation or an attempt did not succeed.
///
/// The constants are the closed set of the catalog. An application adds its own business reasons as constants; a
/// reason is always `&'static`, so that no error text can become a label value.
///
/// ```
/// use txnscope::Reason;
///
/// const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
/// assert_eq!(INSUFFICIENT_BALANCE.as_str(), "insufficient_balance");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason(&'static str);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Self = Self($text);)*

            /// The closed set, in the catalog's order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// Another transaction wrote the same document first (code 112).
    WRITE_CONFLICT = "write_conflict";
    /// The server does not know the transaction, often because it has aborted it (code 251).
    NO_SUCH_TRANSACTION = "no_such_transaction";
    /// A lock was not granted in time (code 24).
    LOCK_TIMEOUT = "lock_timeout";
    /// The snapshot is no longer available (codes 239, 246).
    SNAPSHOT_UNAVAILABLE = "snapshot_unavailable";
    /// The session has already started a later transaction (code 225).
    TRANSACTION_TOO_OLD = "transaction_too_old";
    /// The transaction exceeded `transactionLifetimeLimitSeconds` (code 290).
    TRANSACTION_EXPIRED = "transaction_expired";
    /// The transaction exceeded a size limit.
    TRANSACTION_TOO_LARGE = "transaction_too_large";
    /// `maxTimeMS` ran out (code 50).
    MAX_TIME_EXPIRED = "max_time_expired";
    /// A unique index rejected the write (code 11000).
    DUPLICATE_KEY = "duplicate_key";
    /// A schema validator rejected the write (code 121).
    DOCUMENT_VALIDATION = "document_validation";
    /// The member is not, or no longer, the primary.
    NOT_PRIMARY = "not_primary";
    /// The server interrupted the operation.
    INTERRUPTED = "interrupted";
    /// The connection failed.
    NETWORK = "network";
    /// No suitable server was found in time.
    SERVER_SELECTION = "server_selection";
    /// No connection of the pool became free in time.
    POOL_TIMEOUT = "pool_timeout";
    /// The server is overloaded and rejects requests (code 462, or the label `SystemOverloadedError`).
    OVERLOADED = "overloaded";
    /// The write concern was not satisfied.
    WRITE_CONCERN = "write_concern";
    /// A commit was sent and its result is unknown.
    COMMIT_UNKNOWN = "commit_unknown";
    /// The caller is not authenticated or not authorized.
    UNAUTHORIZED = "unauthorized";
    /// The request is invalid.
    INVALID_REQUEST = "invalid_request";
    /// The application rejected the request without giving a reason.
    APPLICATION = "application";
    /// The caller dropped the request before its end.
    CANCELLED = "cancelled";
    /// The code panicked.
    PANIC = "panic";
    /// A deadline of the application passed.
    TIMEOUT = "timeout";
    /// Too many transactions wait for the same key.
    QUEUE_FULL = "queue_full";
    /// The transaction would wait for a key that can only become free after its own end.
    DEADLOCK = "deadlock";
    /// No other reason applies.
    OTHER = "other";
}

impl Reason {
    /// Declares a reason of the application, in snake case, at most 64 bytes.
    ///
    /// # Panics
    ///
    /// If the name is not snake case. In a `const` this is a compile error:
    ///
    /// ```compile_fail
    /// const BAD: txnscope::Reason = txnscope::Reason::declare("Insufficient balance: 12.50");
    /// ```
    #[must_use]
    pub const fn declare(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 64, "a reason has 1 to 64 bytes");
        assert!(bytes[0].is_ascii_lowercase(), "a reason begins with a lower-case letter");
        let mut i = 0;
        while i < bytes.len() {
            let c = bytes[i];
            assert!(
                c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_',
                "a reason is snake case: a-z, 0-9 and _"
            );
            i += 1;
        }
        Self(name)
    }

    /// A reason of the catalog's closed set.
    #[cfg(feature = "mongodb")]
    pub(crate) const fn from_catalog(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether the reason can only come from the driver or the server, so that it is never a business rejection.
    #[must_use]
    pub fn is_driver_reason(self) -> bool {
        self.is_transient()
            || [
                Self::TRANSACTION_TOO_OLD,
                Self::TRANSACTION_EXPIRED,
                Self::TRANSACTION_TOO_LARGE,
                Self::MAX_TIME_EXPIRED,
                Self::INTERRUPTED,
                Self::POOL_TIMEOUT,
                Self::OVERLOADED,
                Self::WRITE_CONCERN,
                Self::COMMIT_UNKNOWN,
            ]
            .contains(&self)
    }

    /// Whether the server or the driver labels every such error of a transaction's statement
    /// `TransientTransactionError`.
    pub(crate) fn is_transient(self) -> bool {
        [
            Self::WRITE_CONFLICT,
            Self::NO_SUCH_TRANSACTION,
            Self::LOCK_TIMEOUT,
            Self::SNAPSHOT_UNAVAILABLE,
            Self::NOT_PRIMARY,
            Self::NETWORK,
            Self::SERVER_SELECTION,
        ]
        .contains(&self)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_constants_match_catalog() {
        let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names, txnscope_catalog::REASONS);
    }

    #[test]
    #[should_panic(expected = "snake case")]
    fn reason_must_be_snake_case() {
        let _ = Reason::declare("balance is 12");
    }
}
