//! Closed sets of label values. Error text is never one of them.

/// The outcomes of an operation.
///
/// Only `failed` and `panicked` are faults: a `rejected` operation met a business rule, and a `cancelled` one
/// was given up by its client.
pub const OUTCOMES: &[&str] = &["succeeded", "rejected", "failed", "cancelled", "panicked"];

/// The outcomes that `transaction_failures_total` counts: all except `succeeded`.
pub const FAILURE_OUTCOMES: &[&str] = &["rejected", "failed", "cancelled", "panicked"];

/// The reasons why an operation or an attempt did not succeed. Applications add their own.
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

/// The outcomes of an attempt at a transaction.
pub const ATTEMPT_OUTCOMES: &[&str] = &["committed", "aborted", "unknown"];

/// The causes of attempts that the server never started.
pub const NOT_STARTED_CAUSES: &[&str] = &["not_sent", "refused", "lost"];

/// The results of a background cleanup.
pub const CLEANUP_RESULTS: &[&str] = &["aborted", "fenced", "committed", "left_to_server"];

/// The maximum number of operations of one process.
pub const MAX_OPERATIONS: usize = 200;

/// The operation for all beyond [`MAX_OPERATIONS`].
pub const OVERFLOW: &str = "overflow";

/// The operation of requests without a matching route.
pub const UNMATCHED: &str = "unmatched";

/// The operation of a service that failed before it accepted a request.
pub const NOT_READY: &str = "not_ready";

/// The operation of transactions outside of any operation and without a name.
pub const UNSCOPED: &str = "unscoped";

/// The collectors of the sidecar.
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

/// The reasons why a poll failed.
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

/// The results of failed logins to the sidecar: user or password were wrong, or not checked because too many
/// logins were waiting.
pub const FAILED_LOGIN_RESULTS: &[&str] = &["refused", "turned_away"];

/// The maximum number of checks in one file.
pub const MAX_CHECKS: usize = 200;

/// The severities of a check.
pub const SEVERITIES: &[&str] = &["critical", "warning", "info"];

/// The reasons why a check could not run.
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
