//! The model: open transactions, waiting operations, and what blocks them.
//!
//! Both views and the JSON of `txnscope top --once` show these types. They hold the shape of an operation only:
//! its command, its namespace and its locks, but no text of a query and no value of a document.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::ending::TransactionId;
pub use crate::collector::backend_table::{ConnectionPool, KeyQueue};

/// What one member reports at one moment. Indices of references are positions in the lists of the same model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveModel {
    /// Open transactions, the oldest first.
    pub transactions: Vec<Transaction>,
    /// Operations that wait, in the order in which they began.
    pub waiting: Vec<WaitingOperation>,
    /// Operations that are part of no transaction, do not wait, and block an operation that does.
    pub running: Vec<RunningOperation>,
    /// The member has more operations than are read; the lists hold the waiting and the oldest of them.
    pub truncated: bool,
    /// The keys that transactions of the backends wait for, those with the longest queues first.
    pub queues: Vec<KeyQueue>,
    /// The connection pools of the backends.
    pub pools: Vec<ConnectionPool>,
    /// What the member or a backend did not report, and why.
    pub missing: Vec<MissingPart>,
}

/// An open transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transaction {
    /// The member that reports it.
    pub member: String,
    /// The operation of the backend that began it, if a backend's table lists it.
    pub operation: Option<String>,
    /// `appName` of its client.
    pub application: Option<String>,
    /// Host and port of its client.
    pub client: Option<String>,
    /// Name and version of the client's driver.
    pub driver: Option<String>,
    /// The id of its session, a UUID.
    pub session: String,
    /// Its number in its session.
    pub txn_number: i64,
    /// When it began, by the server's clock.
    pub started_at: Option<String>,
    /// What it does now.
    pub state: TransactionState,
    /// The time since it began.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// The longest time for which it may have been idle without an interruption; `None` while it runs a
    /// statement. The server counts idle time in total, so this is exact only from the second poll on.
    #[serde(rename = "idle_seconds", serialize_with = "optional_seconds")]
    pub idle: Option<Duration>,
    /// The time in which it ran statements, in total.
    #[serde(rename = "active_seconds", serialize_with = "seconds")]
    pub active: Duration,
    /// The time until the server ends it; `None` if it is prepared, since the server does not end it then.
    #[serde(rename = "expires_in_seconds", serialize_with = "optional_seconds")]
    pub expires_in: Option<Duration>,
    /// The level of its read concern.
    pub read_concern: Option<String>,
    /// The command that it runs now.
    pub command: Option<String>,
    /// The collections that it holds locks on, and the one that it uses now.
    pub namespaces: Vec<String>,
    /// The locks that it holds on databases and collections.
    pub locks: Vec<HeldLock>,
}

impl Transaction {
    /// What identifies it.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        TransactionId {
            member: self.member.clone(),
            session: self.session.clone(),
            txn_number: self.txn_number,
            started_at: self.started_at.clone(),
        }
    }
}

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// It runs a statement.
    Active,
    /// It waits for its client.
    Idle,
    /// Its statement waits for a lock.
    WaitingForLock,
    /// Its statement waits for a prepared transaction.
    WaitingForPrepared,
    /// The server retries its statement because of write conflicts.
    RetryingWriteConflict,
    /// It is prepared: the coordinator decides whether it commits.
    Prepared,
}

impl TransactionState {
    /// The state as in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::WaitingForLock => "waiting_for_lock",
            Self::WaitingForPrepared => "waiting_for_prepared",
            Self::RetryingWriteConflict => "retrying_write_conflict",
            Self::Prepared => "prepared",
        }
    }
}

/// A lock that a transaction holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldLock {
    /// `database` or `collection`.
    pub resource: String,
    /// The name of the database or the namespace of the collection.
    pub name: String,
    /// `IS`, `IX`, `S` or `X`.
    pub mode: String,
}

/// An operation that waits for others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WaitingOperation {
    /// The member that reports it.
    pub member: String,
    /// The id of the operation, for `killOp`.
    pub opid: i64,
    /// The name of its command.
    pub command: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// `appName` of its client.
    pub application: Option<String>,
    /// Host and port of its client.
    pub client: Option<String>,
    /// Name and version of the client's driver.
    pub driver: Option<String>,
    /// The transaction that it is a statement of.
    pub transaction: Option<usize>,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// How long it has waited. The server counts waits for locks in steps of half a second.
    #[serde(rename = "waiting_seconds", serialize_with = "seconds")]
    pub waiting: Duration,
    /// The time since it began.
    #[serde(rename = "running_seconds", serialize_with = "seconds")]
    pub running: Duration,
    /// How often the server has retried it because of write conflicts.
    pub write_conflicts: u64,
    /// What it certainly waits for: holders of its lock and those that queue before it.
    pub blocked_by: Vec<Reference>,
    /// What it possibly waits for: the server names no holder of a document.
    pub candidates: Vec<Reference>,
    /// The number of blockers that are not listed: those beyond the first hundred, and those that had ended, or
    /// were not read, when the operations were read.
    pub more_blockers: usize,
}

/// What an operation waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WaitsFor {
    /// A lock.
    Lock {
        /// The kind of the resource, such as `collection`.
        resource: Option<String>,
        /// The name of the database or the namespace of the collection.
        name: Option<String>,
        /// `IS`, `IX`, `S` or `X`.
        mode: Option<String>,
    },
    /// A document that a transaction has changed: the server retries the operation until that ends.
    Document,
    /// A document that a prepared transaction has changed.
    PreparedTransaction,
}

/// An operation that is part of no transaction and blocks another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningOperation {
    /// The member that reports it.
    pub member: String,
    /// The id of the operation, for `killOp`.
    pub opid: i64,
    /// The name of its command.
    pub command: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// `appName` of its client.
    pub application: Option<String>,
    /// Host and port of its client.
    pub client: Option<String>,
    /// The time since it began.
    #[serde(rename = "running_seconds", serialize_with = "seconds")]
    pub running: Duration,
}

/// An entry of one of the lists, by its index: `{"transaction": 0}` in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// An open transaction.
    Transaction(usize),
    /// A waiting operation.
    Waiting(usize),
    /// A running operation.
    Running(usize),
}

/// A part that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingPart {
    /// Which part.
    pub part: Part,
    /// Why, and what to do.
    pub message: String,
}

/// The parts of the model that are read on their own, and can be missing on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Transactions and operations, from `$currentOp`.
    Operations,
    /// Locks and their queues, from `lockInfo`.
    Locks,
    /// Rates, from `serverStatus`.
    Rates,
    /// Names of operations, queues and pools, from the backends' tables.
    OperationNames,
}

impl Part {
    /// The part as in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Locks => "locks",
            Self::Rates => "rates",
            Self::OperationNames => "operation_names",
        }
    }
}

/// Seconds with three digits: the server's numbers have no meaning below.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(super) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e3).round() / 1e3)
}

#[allow(clippy::ref_option, reason = "the signature that serde calls")]
pub(super) fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}
