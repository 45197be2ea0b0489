//! Transaction metrics of the server.

use super::{MEMBER, RS, SERVER_DURATION_BUCKETS, STATE, count, server};
use crate::{Emitter, Kind, Label, Metric, Stability, Unit, Values};

/// Whether the member is up.
pub const MONGODB_UP: Metric = server(
    "mongodb_up",
    Kind::Gauge,
    Unit::Boolean,
    "Whether the member answered its last serverStatus poll, no longer than three intervals ago.",
    &[RS, MEMBER],
    "the serverStatus poll",
);

/// Version and kind of the server.
pub const MONGODB_INFO: Metric = server(
    "mongodb_info",
    Kind::Gauge,
    Unit::Info,
    "Version and kind of the server.",
    &[
        RS,
        MEMBER,
        Label { name: "version", help: "version of the server", values: Values::Deployment },
        Label {
            name: "process",
            help: "kind of the server",
            values: Values::Closed(&["mongod", "mongos", "unknown"]),
        },
        Label { name: "storage_engine", help: "storage engine; empty on mongos", values: Values::Deployment },
    ],
    "serverStatus.version, .process, .storageEngine.name",
);

/// Time since the server started.
pub const MONGODB_UPTIME: Metric = server(
    "mongodb_uptime_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Time since the server process started. All its counters begin at zero then.",
    &[RS, MEMBER],
    "serverStatus.uptimeMillis",
);

/// Started transactions.
pub const MONGODB_TRANSACTIONS_STARTED: Metric = count(
    "mongodb_transactions_started_total",
    "Multi-document transactions that the server began. Only the primary counts them, so sum over the members.",
    "serverStatus.transactions.totalStarted",
);

/// Committed transactions.
pub const MONGODB_TRANSACTIONS_COMMITTED: Metric = count(
    "mongodb_transactions_committed_total",
    "Multi-document transactions that the server committed.",
    "serverStatus.transactions.totalCommitted",
);

/// Aborted transactions.
pub const MONGODB_TRANSACTIONS_ABORTED: Metric = count(
    "mongodb_transactions_aborted_total",
    "Multi-document transactions that the server aborted, for any reason; it does not count reasons.",
    "serverStatus.transactions.totalAborted",
);

/// Open transactions.
pub const MONGODB_TRANSACTIONS_OPEN: Metric = server(
    "mongodb_transactions_open",
    Kind::Gauge,
    Unit::Count,
    "Multi-document transactions open on the server.",
    &[RS, MEMBER, STATE],
    "serverStatus.transactions.currentActive, .currentInactive",
);

/// Transactions that were prepared.
pub const MONGODB_TRANSACTIONS_PREPARED_TOTAL: Metric = count(
    "mongodb_transactions_prepared_total",
    "Transactions that entered the prepared state (two-phase commit of a sharded transaction).",
    "serverStatus.transactions.totalPrepared",
);

/// Prepared transactions that committed.
pub const MONGODB_TRANSACTIONS_PREPARED_COMMITTED: Metric = count(
    "mongodb_transactions_prepared_committed_total",
    "Prepared transactions that committed.",
    "serverStatus.transactions.totalPreparedThenCommitted",
);

/// Prepared transactions that aborted.
pub const MONGODB_TRANSACTIONS_PREPARED_ABORTED: Metric = count(
    "mongodb_transactions_prepared_aborted_total",
    "Prepared transactions that aborted.",
    "serverStatus.transactions.totalPreparedThenAborted",
);

/// Currently prepared transactions.
pub const MONGODB_TRANSACTIONS_PREPARED: Metric = server(
    "mongodb_transactions_prepared",
    Kind::Gauge,
    Unit::Count,
    "Transactions in the prepared state.",
    &[RS, MEMBER],
    "serverStatus.transactions.currentPrepared",
);

/// Duration of transactions.
pub const MONGODB_TRANSACTION_DURATION: Metric = Metric {
    name: "mongodb_transaction_duration_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Duration of transactions that ended, committed or aborted, as the server measured it.",
    labels: &[RS, MEMBER],
    buckets: SERVER_DURATION_BUCKETS,
    emitter: Emitter::Sidecar,
    source: "serverStatus.opLatencies.transactions with histograms on",
    stability: Stability::Stable,
};

/// Operations in the last committed transaction.
pub const MONGODB_LAST_COMMITTED_TRANSACTION_OPERATIONS: Metric = server(
    "mongodb_last_committed_transaction_operations",
    Kind::Gauge,
    Unit::Count,
    "Write operations in the transaction that committed last; absent until one did.",
    &[RS, MEMBER],
    "serverStatus.transactions.lastCommittedTransaction.operationCount",
);

/// Size of the last committed transaction in the oplog.
pub const MONGODB_LAST_COMMITTED_TRANSACTION_OPLOG_BYTES: Metric = server(
    "mongodb_last_committed_transaction_oplog_bytes",
    Kind::Gauge,
    Unit::Bytes,
    "Size in the oplog of the transaction that committed last; absent until one did.",
    &[RS, MEMBER],
    "serverStatus.transactions.lastCommittedTransaction.oplogOperationBytes",
);

/// Retryable write commands that were retried.
pub const MONGODB_RETRIED_WRITE_COMMANDS: Metric = count(
    "mongodb_retried_write_commands_total",
    "Retryable write commands that the server had already executed when they came again.",
    "serverStatus.transactions.retriedCommandsCount",
);

/// Retryable write statements that were retried.
pub const MONGODB_RETRIED_WRITE_STATEMENTS: Metric = count(
    "mongodb_retried_write_statements_total",
    "Statements of retryable write commands that the server had already executed when they came again.",
    "serverStatus.transactions.retriedStatementsCount",
);

/// Writes to `config.transactions`.
pub const MONGODB_TRANSACTIONS_TABLE_WRITES: Metric = count(
    "mongodb_transactions_table_writes_total",
    "Writes to config.transactions: one for each retryable write and each commit.",
    "serverStatus.transactions.transactionsCollectionWriteCount",
);

/// Write conflicts outside of transactions.
pub const MONGODB_OPERATION_WRITE_CONFLICTS: Metric = count(
    "mongodb_operation_write_conflicts_total",
    "Write conflicts that the server retried by itself, counted when the statement ends. On 6.0 a conflict inside a transaction is not among them.",
    "serverStatus.metrics.operation.writeConflicts",
);

/// Write conflicts of the storage engine.
pub const MONGODB_WIREDTIGER_UPDATE_CONFLICTS: Metric = count(
    "mongodb_wiredtiger_update_conflicts_total",
    "Write conflicts that WiredTiger detected, inside transactions and outside. The difference to mongodb_operation_write_conflicts_total is the number inside transactions, but only once the statements outside have ended.",
    "serverStatus.wiredTiger.transaction.\"update conflicts\"",
);
