//! MongoDB's error codes in one table: what a code means for a retry, and the label value that each view gives it.
//!
//! A permanent refusal is not retried, and does not count as a failure: the server does not have what was
//! requested. Every module that reads the code of an error uses this table, so that no two disagree.

/// The meaning of a refused command for a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The user lacks a privilege. The command may succeed once it is granted.
    Denied,
    /// The server has no such command, stage or option, or its host does not allow it: the command fails as long
    /// as the server stays the same.
    Unsupported,
    /// The member cannot answer in its present state, for example as an arbiter, in recovery or initial sync, or
    /// without a replica set. The command may succeed in another state.
    NotInThisState,
    /// Any other error: a retry may succeed.
    Temporary,
}

impl Refusal {
    /// Whether a retry is useless as long as the server and its state stay the same.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::Unsupported | Self::NotInThisState)
    }
}

/// An error code of the server, and its meaning for each view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ErrorCode {
    code: i32,
    /// The server's name of the code.
    name: &'static str,
    refusal: Refusal,
    /// The reason of an attempt, one of [`REASONS`](crate::REASONS).
    attempt: &'static str,
    /// The reason of a failed check, one of [`CHECK_ERROR_REASONS`](crate::CHECK_ERROR_REASONS).
    check: &'static str,
}

fn find(code: i32) -> Option<&'static ErrorCode> {
    CODES.binary_search_by_key(&code, |known| known.code).ok().map(|index| &CODES[index])
}

/// The meaning of an error reply (`ok: 0`) with this code. Errors without a code come from servers that emulate
/// MongoDB, and from mongos for commands of replica set members: they are permanent.
///
/// ```
/// use txnscope_catalog::{Refusal, refusal};
///
/// assert_eq!(refusal(Some(8000)), Refusal::Unsupported);
/// assert_eq!(refusal(Some(112)), Refusal::Temporary);
/// assert!(refusal(None).is_permanent());
/// ```
#[must_use]
pub fn refusal(code: Option<i32>) -> Refusal {
    let Some(code) = code else { return Refusal::Unsupported };
    find(code).map_or(Refusal::Temporary, |known| known.refusal)
}

/// The reason of an attempt whose statement, commit or abort the server answered with this code, one of
/// [`REASONS`](crate::REASONS).
///
/// ```
/// assert_eq!(txnscope_catalog::attempt_reason(112), "write_conflict");
/// ```
#[must_use]
pub fn attempt_reason(code: i32) -> &'static str {
    find(code).map_or("other", |known| known.attempt)
}

/// The reason of a check whose query the server answered with this code, one of
/// [`CHECK_ERROR_REASONS`](crate::CHECK_ERROR_REASONS).
///
/// ```
/// assert_eq!(txnscope_catalog::check_error_reason(13), "permission_denied");
/// ```
#[must_use]
pub fn check_error_reason(code: i32) -> &'static str {
    match find(code) {
        Some(known) => known.check,
        // Codes that stand for places in the server's source. Errors of its parsers are among them.
        None if code >= 15_000 => "invalid_query",
        None => "command_failed",
    }
}

/// The reason of a poll whose command the server answered with this code, one of
/// [`POLL_ERROR_REASONS`](crate::POLL_ERROR_REASONS): what a poll does not distinguish is `command_failed`.
///
/// ```
/// assert_eq!(txnscope_catalog::poll_error_reason(13), "permission_denied");
/// assert_eq!(txnscope_catalog::poll_error_reason(26), "command_failed");
/// ```
#[must_use]
pub fn poll_error_reason(code: i32) -> &'static str {
    let reason = check_error_reason(code);
    if crate::POLL_ERROR_REASONS.contains(&reason) { reason } else { "command_failed" }
}

const fn row(
    code: i32,
    name: &'static str,
    refusal: Refusal,
    attempt: &'static str,
    check: &'static str,
) -> ErrorCode {
    ErrorCode { code, name, refusal, attempt, check }
}

use Refusal::{Denied, NotInThisState, Temporary, Unsupported};

/// Code, name, meaning for a retry, reason of an attempt, reason of a check; sorted by code.
const CODES: &[ErrorCode] = &[
    row(2, "BadValue", Temporary, "invalid_request", "invalid_query"),
    row(6, "HostUnreachable", Temporary, "network", "command_failed"),
    row(7, "HostNotFound", Temporary, "network", "command_failed"),
    row(9, "FailedToParse", Temporary, "invalid_request", "invalid_query"),
    row(13, "Unauthorized", Denied, "unauthorized", "permission_denied"),
    row(14, "TypeMismatch", Temporary, "invalid_request", "invalid_query"),
    row(15, "Overflow", Temporary, "other", "invalid_query"),
    row(16, "InvalidLength", Temporary, "other", "invalid_query"),
    row(18, "AuthenticationFailed", Temporary, "unauthorized", "authentication"),
    row(20, "IllegalOperation", Unsupported, "invalid_request", "invalid_query"),
    row(24, "LockTimeout", Temporary, "lock_timeout", "command_failed"),
    row(26, "NamespaceNotFound", Temporary, "other", "collection_missing"),
    row(43, "CursorNotFound", Temporary, "other", "interrupted"),
    row(46, "LockBusy", Temporary, "lock_timeout", "command_failed"),
    row(50, "MaxTimeMSExpired", Temporary, "max_time_expired", "timeout"),
    row(59, "CommandNotFound", Unsupported, "invalid_request", "command_failed"),
    row(64, "WriteConcernFailed", Temporary, "write_concern", "command_failed"),
    row(72, "InvalidOptions", Unsupported, "invalid_request", "invalid_query"),
    row(73, "InvalidNamespace", Temporary, "other", "invalid_query"),
    row(76, "NoReplicationEnabled", Unsupported, "other", "command_failed"),
    row(79, "UnknownReplWriteConcern", Temporary, "write_concern", "command_failed"),
    row(89, "NetworkTimeout", Temporary, "network", "command_failed"),
    row(91, "ShutdownInProgress", Temporary, "not_primary", "interrupted"),
    row(93, "InvalidReplicaSetConfig", NotInThisState, "other", "command_failed"),
    row(94, "NotYetInitialized", NotInThisState, "other", "command_failed"),
    row(100, "UnsatisfiableWriteConcern", Temporary, "write_concern", "command_failed"),
    row(112, "WriteConflict", Temporary, "write_conflict", "command_failed"),
    row(115, "CommandNotSupported", Unsupported, "other", "command_failed"),
    row(121, "DocumentValidationFailure", Temporary, "document_validation", "command_failed"),
    row(123, "NotAReplicaSet", Temporary, "other", "snapshot_unavailable"),
    row(133, "FailedToSatisfyReadPreference", Temporary, "server_selection", "command_failed"),
    row(134, "ReadConcernMajorityNotAvailableYet", Temporary, "server_selection", "snapshot_unavailable"),
    row(166, "CommandNotSupportedOnView", Unsupported, "other", "command_failed"),
    row(168, "InvalidPipelineOperator", Unsupported, "other", "invalid_query"),
    row(175, "QueryPlanKilled", Temporary, "other", "interrupted"),
    row(189, "PrimarySteppedDown", Temporary, "not_primary", "interrupted"),
    row(225, "TransactionTooOld", Temporary, "transaction_too_old", "command_failed"),
    row(237, "CursorKilled", Temporary, "other", "interrupted"),
    row(238, "NotImplemented", Unsupported, "other", "command_failed"),
    row(239, "SnapshotTooOld", Temporary, "snapshot_unavailable", "snapshot_unavailable"),
    row(241, "ConversionFailure", Temporary, "other", "invalid_query"),
    row(246, "SnapshotUnavailable", Temporary, "snapshot_unavailable", "snapshot_unavailable"),
    row(251, "NoSuchTransaction", Temporary, "no_such_transaction", "command_failed"),
    row(257, "TransactionTooLarge", Temporary, "transaction_too_large", "command_failed"),
    row(262, "ExceededTimeLimit", Temporary, "max_time_expired", "command_failed"),
    row(263, "OperationNotSupportedInTransaction", Temporary, "invalid_request", "command_failed"),
    row(267, "PreparedTransactionInProgress", Temporary, "invalid_request", "command_failed"),
    row(290, "TransactionExceededLifetimeLimitSeconds", Temporary, "transaction_expired", "command_failed"),
    // Amazon DocumentDB: an unsupported feature, and an unsupported aggregation stage.
    row(303, "FeatureNotSupported", Unsupported, "other", "command_failed"),
    row(304, "StageNotSupported", Unsupported, "other", "command_failed"),
    // The Stable API: an unknown version, a command outside of it, a deprecated one.
    row(322, "APIVersionError", Unsupported, "other", "command_failed"),
    row(323, "APIStrictError", Unsupported, "other", "command_failed"),
    row(324, "APIDeprecationError", Unsupported, "other", "command_failed"),
    row(388, "TransactionTooLargeForCache", Temporary, "transaction_too_large", "command_failed"),
    row(462, "IngressRequestRateLimitExceeded", Temporary, "overloaded", "command_failed"),
    // MongoDB Atlas: not allowed on shared tiers.
    row(8000, "AtlasError", Unsupported, "other", "command_failed"),
    row(9001, "SocketException", Temporary, "network", "command_failed"),
    row(10_058, "LegacyNotPrimary", Temporary, "not_primary", "command_failed"),
    row(10_107, "NotWritablePrimary", Temporary, "not_primary", "interrupted"),
    row(11_000, "DuplicateKey", Temporary, "duplicate_key", "command_failed"),
    // Our own names: the server has none for this code, nor for 12582.
    row(11_001, "DuplicateKeyOnUpdate", Temporary, "duplicate_key", "command_failed"),
    row(11_600, "InterruptedAtShutdown", Temporary, "interrupted", "interrupted"),
    row(11_601, "Interrupted", Temporary, "interrupted", "interrupted"),
    row(11_602, "InterruptedDueToReplStateChange", Temporary, "interrupted", "interrupted"),
    row(12_582, "DuplicateKeyOnShard", Temporary, "duplicate_key", "command_failed"),
    row(13_435, "NotPrimaryNoSecondaryOk", NotInThisState, "not_primary", "interrupted"),
    row(13_436, "NotPrimaryOrSecondary", NotInThisState, "not_primary", "interrupted"),
    // `serverStatus` with `oplog` before 5.0, on a member without an oplog.
    row(17_347, "Location17347", NotInThisState, "other", "invalid_query"),
    row(40_324, "UnrecognizedPipelineStage", Unsupported, "other", "invalid_query"),
    row(40_415, "IDLUnknownField", Unsupported, "other", "invalid_query"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_error_codes_of_hosted_servers_are_in_the_table() {
        for code in [59, 72, 76, 115, 238, 303, 304, 323, 8000, 40324] {
            assert_eq!(refusal(Some(code)), Refusal::Unsupported, "{code}");
        }
        for code in [93, 94, 13435, 13436, 17347] {
            assert_eq!(refusal(Some(code)), Refusal::NotInThisState, "{code}");
        }
        assert_eq!(refusal(None), Refusal::Unsupported, "a refusal without a code is permanent");
        assert_eq!(refusal(Some(13)), Refusal::Denied);
    }

    #[test]
    fn temporary_error_codes_are_not_permanent() {
        // Elections, shutdowns, conflicts, interruptions, time limits, requests over a quota.
        for code in [6, 50, 89, 91, 112, 189, 251, 462, 10107, 11600, 11602, 16500] {
            assert!(!refusal(Some(code)).is_permanent(), "{code}");
        }
    }

    #[test]
    fn error_code_table_is_sorted_and_unique() {
        assert!(CODES.is_sorted_by(|one, other| one.code < other.code));
        assert!(CODES.iter().all(|known| !known.name.is_empty()));
    }

    #[test]
    fn error_code_table_uses_label_values_of_the_catalog() {
        for known in CODES {
            assert!(crate::REASONS.contains(&known.attempt), "{known:?}");
            assert!(crate::CHECK_ERROR_REASONS.contains(&known.check), "{known:?}");
        }
    }
}
