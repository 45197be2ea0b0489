//! Why an operation did not succeed: a closed set, and names that the application declares in its code.

use std::fmt;

/// Why an operation or an attempt did not succeed.
///
/// The constants are the closed set of the catalogue. An application adds its own business reasons as constants;
/// a reason is always `&'static`, so that no error text can become a label value.
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

            /// The closed set, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// Another transaction wrote the same document first (code 112).
    WRITE_CONFLICT = "write_conflict";
    /// The server knows no such transaction, often because it aborted it (code 251).
    NO_SUCH_TRANSACTION = "no_such_transaction";
    /// A lock was not granted in time (code 24).
    LOCK_TIMEOUT = "lock_timeout";
    /// The snapshot is gone or was never there (codes 239, 246).
    SNAPSHOT_UNAVAILABLE = "snapshot_unavailable";
    /// The session has moved on to a later transaction (code 225).
    TRANSACTION_TOO_OLD = "transaction_too_old";
    /// It outlived `transactionLifetimeLimitSeconds` (code 290).
    TRANSACTION_EXPIRED = "transaction_expired";
    /// It wrote more than one transaction may.
    TRANSACTION_TOO_LARGE = "transaction_too_large";
    /// `maxTimeMS` ran out (code 50).
    MAX_TIME_EXPIRED = "max_time_expired";
    /// A unique index refused the write (code 11000).
    DUPLICATE_KEY = "duplicate_key";
    /// A schema validator refused the write (code 121).
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
    /// The server takes no more requests for now (code 462, or the label `SystemOverloadedError`).
    OVERLOADED = "overloaded";
    /// The write concern was not satisfied.
    WRITE_CONCERN = "write_concern";
    /// A commit was sent and its result is not known.
    COMMIT_UNKNOWN = "commit_unknown";
    /// Who asks is not known or may not.
    UNAUTHORIZED = "unauthorized";
    /// The request makes no sense.
    INVALID_REQUEST = "invalid_request";
    /// The application said no without saying why.
    APPLICATION = "application";
    /// The caller left before the end.
    CANCELLED = "cancelled";
    /// The code panicked.
    PANIC = "panic";
    /// A deadline of ours passed.
    TIMEOUT = "timeout";
    /// Too many transactions wait for the same key.
    QUEUE_FULL = "queue_full";
    /// It would wait for a key that can only become free after itself.
    DEADLOCK = "deadlock";
    /// None of the others.
    OTHER = "other";
}

impl Reason {
    /// A reason of the application's own, in snake case, at most 64 bytes.
    ///
    /// # Panics
    ///
    /// If the name is not snake case. In a `const` that is a compile error:
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

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether only the driver or the server can mean it, so that no rule of the application's has said no.
    pub(crate) fn is_driver_reason(self) -> bool {
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

    /// Whether the server or the driver puts the label `TransientTransactionError` on every such error of a
    /// transaction's statement.
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
