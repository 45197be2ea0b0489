//! The closed sets of label values. Error text is never one of them.

/// How an operation ended, as the caller sees it.
///
/// Only `failed` and `panicked` are ours to mend: a `rejected` operation met a business rule and the data is right,
/// a `cancelled` one was left by its caller.
pub const OUTCOMES: &[&str] = &["succeeded", "rejected", "failed", "cancelled", "panicked"];

/// The outcomes that `transaction_failures_total` counts: all but `succeeded`.
pub const FAILURE_OUTCOMES: &[&str] = &["rejected", "failed", "cancelled", "panicked"];

/// Why an operation or an attempt did not succeed. An application adds names of its own.
pub const REASONS: &[&str] = &[
    "write_conflict",
    "no_such_transaction",
    "lock_timeout",
    "snapshot_unavailable",
    "transaction_too_old",
    "transaction_expired",
    "transaction_too_large",
    "max_time_expired",
    "duplicate_key",
    "document_validation",
    "not_primary",
    "interrupted",
    "network",
    "server_selection",
    "pool_timeout",
    "overloaded",
    "write_concern",
    "commit_unknown",
    "unauthorized",
    "invalid_request",
    "application",
    "cancelled",
    "panic",
    "timeout",
    "queue_full",
    "deadlock",
    "other",
];

/// How an attempt at a transaction ended, as the driver sees it.
pub const ATTEMPT_OUTCOMES: &[&str] = &["committed", "aborted", "unknown"];

/// Why the server's books lack an attempt.
pub const NOT_STARTED_CAUSES: &[&str] = &["not_sent", "refused", "lost"];

/// What became of a transaction that was ended aside from its request.
pub const CLEANUP_RESULTS: &[&str] = &["aborted", "fenced", "committed", "left_to_server"];

/// The most operations that one process tells apart.
pub const MAX_OPERATIONS: usize = 200;

/// The operation that takes what comes after [`MAX_OPERATIONS`].
pub const OVERFLOW: &str = "overflow";

/// The operation of a request that no route matched.
pub const UNMATCHED: &str = "unmatched";

/// The operation of a service that failed before it took a request, so that nothing names the request.
pub const NOT_READY: &str = "not_ready";

/// The operation of a transaction that belongs to no operation and was given no name.
pub const UNSCOPED: &str = "unscoped";

/// What the sidecar asks MongoDB, one word for each source.
pub const COLLECTORS: &[&str] = &[
    "server_status",
    "current_op",
    "storage_engine",
    "replication",
    "parameters",
    "profile",
    "slow_transactions",
    "open_by_operation",
];

/// Why a poll failed.
pub const POLL_ERROR_REASONS: &[&str] = &[
    "timeout",
    "network",
    "server_selection",
    "authentication",
    "permission_denied",
    "command_failed",
    "malformed_reply",
    "identity_mismatch",
    "other",
];

/// What came of a login to the sidecar that failed: the user or the password was wrong, or it was not checked because too
/// many were waiting.
pub const FAILED_LOGIN_RESULTS: &[&str] = &["refused", "turned_away"];

/// The most checks that one file may hold.
pub const MAX_CHECKS: usize = 200;

/// How bad it is when a check finds something.
pub const SEVERITIES: &[&str] = &["critical", "warning", "info"];

/// Why a check on the data could not run to its end.
pub const CHECK_ERROR_REASONS: &[&str] = &[
    "timeout",
    "network",
    "server_selection",
    "authentication",
    "permission_denied",
    "collection_missing",
    "invalid_query",
    "snapshot_unavailable",
    "interrupted",
    "command_failed",
    "malformed_reply",
    "other",
];
