//! Metrics of `$currentOp`: transactions that are open now.

use super::{MEMBER, RS, STATE, gauge, server, with_labels};
use crate::{Kind, Label, MAX_OPERATIONS, Metric, OVERFLOW, Unit, Values};

/// The maximum number of applications of one member.
pub const MAX_APPLICATIONS: usize = 20;

/// The age buckets of open transactions: lower bound in seconds, and label value.
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
        help: "`appName` of the client, or the name of its driver if it has none; a value that is not seen for an hour may be replaced by another",
        values: Values::Bounded { max: MAX_APPLICATIONS, overflow: Some(OVERFLOW) },
    },
];

const BY_OPERATION: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "operation",
        help: "operation that began the transaction, from the backend's table; `unknown` if it is in no table; a value that is not seen for an hour may be replaced by another",
        values: Values::Bounded { max: MAX_OPERATIONS, overflow: Some(OVERFLOW) },
    },
    STATE,
];

const BY_ENDING: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "command",
        help: "command that ends the transaction",
        values: Values::Closed(&["commit", "abort"]),
    },
];

const SOURCE: &str = "$currentOp, polled only while transactions are open";

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
    "Operations in progress, of transactions and others, that wait for the end of a prepared transaction.",
    SOURCE,
);

/// Open transactions by age.
pub const MONGODB_TRANSACTIONS_OPEN_BY_AGE: Metric = with_labels(
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
pub const MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION: Metric = with_labels(
    gauge(
        "mongodb_transactions_open_by_application",
        Unit::Count,
        "Open transactions by application.",
        SOURCE,
    ),
    BY_APPLICATION,
);

/// Age of the oldest open transaction by application.
pub const MONGODB_TRANSACTIONS_OLDEST_OPEN_BY_APPLICATION: Metric = with_labels(
    gauge(
        "mongodb_transactions_oldest_open_by_application_seconds",
        Unit::Seconds,
        "Age of the oldest open transaction of each application; 0 when it has none.",
        SOURCE,
    ),
    BY_APPLICATION,
);

/// Long-running transactions.
pub const MONGODB_TRANSACTIONS_LONG_RUNNING: Metric = gauge(
    "mongodb_transactions_long_running",
    Unit::Count,
    "Open transactions that are older than mongodb_transactions_long_running_threshold_seconds.",
    SOURCE,
);

/// Threshold of long-running transactions.
pub const MONGODB_TRANSACTIONS_LONG_RUNNING_THRESHOLD: Metric = gauge(
    "mongodb_transactions_long_running_threshold_seconds",
    Unit::Seconds,
    "Age from which a transaction counts as long-running and is logged.",
    "the configuration",
);

/// Commits and aborts in progress.
pub const MONGODB_TRANSACTIONS_FINISHING: Metric = with_labels(
    gauge(
        "mongodb_transactions_finishing",
        Unit::Count,
        "Commits and aborts in progress. A slow commit mostly waits for the majority; the transaction is no longer open then.",
        SOURCE,
    ),
    BY_ENDING,
);

/// Age of the oldest commit or abort in progress.
pub const MONGODB_TRANSACTIONS_OLDEST_FINISHING: Metric = with_labels(
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
