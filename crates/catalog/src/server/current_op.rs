//! Transactions that are open now, one by one: what `$currentOp` says.

use super::{MEMBER, RS, STATE, by, gauge, server};
use crate::{Kind, Label, MAX_OPERATIONS, Metric, OVERFLOW, Unit, Values};

/// The most applications that one member's `$currentOp` tells apart.
pub const MAX_APPLICATIONS: usize = 20;

/// The ages by which open transactions are counted: from which on, in seconds, and the label's value.
pub const AGE_BUCKETS: &[(u32, &str)] = &[
    (0, "under_1s"),
    (1, "from_1s_to_5s"),
    (5, "from_5s_to_15s"),
    (15, "from_15s_to_60s"),
    (60, "over_60s"),
];

const BY_APPLICATION: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "application",
        help: "`appName` of the client; empty if it has none; one that is not seen for an hour makes place for another",
        values: Values::Bounded { most: MAX_APPLICATIONS, overflow: Some(OVERFLOW) },
    },
];

const BY_OPERATION: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "operation",
        help: "the operation that began the transaction, by the backend's own table; `unknown` if no table has it; one that is not seen for an hour makes place for another",
        values: Values::Bounded { most: MAX_OPERATIONS, overflow: Some(OVERFLOW) },
    },
    STATE,
];

const BY_ENDING: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "command",
        help: "how the transaction is being ended",
        values: Values::Closed(&["commit", "abort"]),
    },
];

const SOURCE: &str = "$currentOp, asked only while transactions are open";

/// Age of the oldest open transaction.
pub const MONGODB_TRANSACTIONS_OLDEST_OPEN: Metric = server(
    "mongodb_transactions_oldest_open_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Age of the oldest open transaction in each state; 0 when there is none.",
    &[RS, MEMBER, STATE],
    SOURCE,
);

/// Transactions that wait for a lock.
pub const MONGODB_TRANSACTIONS_WAITING_FOR_LOCK: Metric = server(
    "mongodb_transactions_waiting_for_lock",
    Kind::Gauge,
    Unit::Count,
    "Open transactions whose statement waits for a lock.",
    &[RS, MEMBER],
    SOURCE,
);

/// Age of the oldest prepared transaction.
pub const MONGODB_TRANSACTIONS_OLDEST_PREPARED: Metric = gauge(
    "mongodb_transactions_oldest_prepared_seconds",
    Unit::Seconds,
    "Time since the preparation of the transaction that has been prepared for longest; 0 when there is none.",
    SOURCE,
);

/// Operations that a prepared transaction blocks.
pub const MONGODB_OPERATIONS_BLOCKED_BY_PREPARED: Metric = gauge(
    "mongodb_operations_blocked_by_prepared",
    Unit::Count,
    "Operations in progress, of transactions and others, that have met a prepared transaction and wait for its end.",
    SOURCE,
);

/// Open transactions by age.
pub const MONGODB_TRANSACTIONS_OPEN_BY_AGE: Metric = by(
    gauge(
        "mongodb_transactions_open_by_age",
        Unit::Count,
        "Open transactions by age; each is in one bucket.",
        SOURCE,
    ),
    &[
        RS,
        MEMBER,
        Label {
            name: "age",
            help: "time since the transaction began",
            values: Values::Closed(&[
                "under_1s",
                "from_1s_to_5s",
                "from_5s_to_15s",
                "from_15s_to_60s",
                "over_60s",
            ]),
        },
    ],
);

/// Open transactions by application.
pub const MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION: Metric = by(
    gauge(
        "mongodb_transactions_open_by_application",
        Unit::Count,
        "Open transactions by application.",
        SOURCE,
    ),
    BY_APPLICATION,
);

/// Age of the oldest open transaction by application.
pub const MONGODB_TRANSACTIONS_OLDEST_OPEN_BY_APPLICATION: Metric = by(
    gauge(
        "mongodb_transactions_oldest_open_by_application_seconds",
        Unit::Seconds,
        "Age of the oldest open transaction of each application; 0 when it has none.",
        SOURCE,
    ),
    BY_APPLICATION,
);

/// Transactions open for longer than is tolerated.
pub const MONGODB_TRANSACTIONS_LONG_RUNNING: Metric = gauge(
    "mongodb_transactions_long_running",
    Unit::Count,
    "Open transactions that are older than mongodb_transactions_long_running_threshold_seconds.",
    SOURCE,
);

/// From which age on a transaction is open for too long.
pub const MONGODB_TRANSACTIONS_LONG_RUNNING_THRESHOLD: Metric = gauge(
    "mongodb_transactions_long_running_threshold_seconds",
    Unit::Seconds,
    "From which age on a transaction counts as long-running and is logged.",
    "the configuration",
);

/// Commits and aborts in progress.
pub const MONGODB_TRANSACTIONS_FINISHING: Metric = by(
    gauge(
        "mongodb_transactions_finishing",
        Unit::Count,
        "Commits and aborts in progress: most of a slow commit is the wait for the majority, when the transaction is no longer open.",
        SOURCE,
    ),
    BY_ENDING,
);

/// Age of the oldest commit or abort in progress.
pub const MONGODB_TRANSACTIONS_OLDEST_FINISHING: Metric = by(
    gauge(
        "mongodb_transactions_oldest_finishing_seconds",
        Unit::Seconds,
        "How long the slowest commit or abort in progress has been running; 0 when there is none.",
        SOURCE,
    ),
    BY_ENDING,
);

/// Open transactions by the operation that began them.
pub const MONGODB_TRANSACTIONS_OPEN_BY_OPERATION: Metric = server(
    "mongodb_transactions_open_by_operation",
    Kind::Gauge,
    Unit::Count,
    "Open transactions, the oldest 1000 of a member, by the operation of the backend that began them.",
    BY_OPERATION,
    "$currentOp, joined by session with the backends' tables of open transactions",
);

/// Age of the oldest open transaction of an operation.
pub const MONGODB_TRANSACTIONS_OLDEST_OPEN_BY_OPERATION: Metric = server(
    "mongodb_transactions_oldest_open_by_operation_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Age of the oldest open transaction of each operation; 0 when there is none.",
    BY_OPERATION,
    "$currentOp, joined by session with the backends' tables of open transactions",
);
