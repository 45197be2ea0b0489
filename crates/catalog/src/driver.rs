//! Driver metrics: each attempt at a transaction, measured by the transaction runner, and by the listener for
//! code that does not use the runner.

use crate::layer::{DURATION_BUCKETS, OPERATION};
use crate::{
    ATTEMPT_OUTCOMES, CLEANUP_RESULTS, Emitter, Kind, Label, Metric, NOT_STARTED_CAUSES, REASONS, Stability,
    Unit, Values,
};

/// Seconds from 0.25 ms to 10 s: a commit on an idle replica set takes about 2 ms, one that waits for a distant
/// majority some hundred.
pub const COMMIT_BUCKETS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

const RUNNER: &str = "transaction runner";
const BOTH: &str = "transaction runner, and the listener for what bypasses it";

const fn driver(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    labels: &'static [Label],
    buckets: &'static [f64],
    source: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        labels,
        buckets,
        emitter: Emitter::Library,
        source,
        stability: Stability::Stable,
    }
}

const fn count(name: &'static str, help: &'static str, source: &'static str) -> Metric {
    driver(name, Kind::Counter, Unit::Count, help, &[OPERATION], &[], source)
}

/// Attempts begun.
pub const CLIENT_TRANSACTIONS_STARTED: Metric = count(
    "mongodb_client_transactions_started_total",
    "Attempts at a transaction whose first statement was passed to the driver. Each retry counts again.",
    BOTH,
);

/// Attempts that committed.
pub const CLIENT_TRANSACTIONS_COMMITTED: Metric =
    count("mongodb_client_transactions_committed_total", "Attempts that are known to have committed.", BOTH);

/// Attempts that were aborted.
pub const CLIENT_TRANSACTIONS_ABORTED: Metric = driver(
    "mongodb_client_transactions_aborted_total",
    Kind::Counter,
    Unit::Count,
    "Attempts that changed nothing, by reason.",
    &[OPERATION, Label { name: "reason", help: "why", values: Values::Declared(REASONS) }],
    &[],
    BOTH,
);

/// Attempts of which it is unknown whether they committed.
pub const CLIENT_TRANSACTIONS_UNKNOWN: Metric = count(
    "mongodb_client_transactions_unknown_total",
    "Attempts whose commit was sent and whose result was not learned, or not as widely written as was asked.",
    BOTH,
);

/// Attempts that the server never started.
pub const CLIENT_TRANSACTIONS_NOT_STARTED: Metric = driver(
    "mongodb_client_transactions_not_started_total",
    Kind::Counter,
    Unit::Count,
    "Aborted attempts that the server never started, so that its counters do not have them; with the cause lost, the server may have started them.",
    &[
        OPERATION,
        Label {
            name: "cause",
            help: "`not_sent`: the first statement was not sent; `refused`: the server refused it before it began a transaction; `lost`: it may have started, since there was no reply, or an error that does not tell, as in an election (10107, 11602, 11600, 189, 91)",
            values: Values::Closed(NOT_STARTED_CAUSES),
        },
    ],
    &[],
    BOTH,
);

/// Open attempts.
pub const CLIENT_TRANSACTIONS_OPEN: Metric = driver(
    "mongodb_client_transactions_open",
    Kind::Gauge,
    Unit::Count,
    "Attempts that have begun and not ended.",
    &[OPERATION],
    &[],
    BOTH,
);

/// Duration of attempts.
pub const CLIENT_TRANSACTION_DURATION: Metric = driver(
    "mongodb_client_transaction_duration_seconds",
    Kind::Histogram,
    Unit::Seconds,
    "Time from the first statement of an attempt to its end, for each attempt.",
    &[
        OPERATION,
        Label { name: "outcome", help: "how the attempt ended", values: Values::Closed(ATTEMPT_OUTCOMES) },
    ],
    DURATION_BUCKETS,
    BOTH,
);

/// Duration of commits.
pub const CLIENT_TRANSACTION_COMMIT_DURATION: Metric = driver(
    "mongodb_client_transaction_commit_duration_seconds",
    Kind::Histogram,
    Unit::Seconds,
    "Time from the first commit command of an attempt to its result, retries and pauses included.",
    &[OPERATION],
    COMMIT_BUCKETS,
    BOTH,
);

/// Retried commits.
pub const CLIENT_TRANSACTION_COMMIT_RETRIES: Metric = count(
    "mongodb_client_transaction_commit_retries_total",
    "Commit commands sent again because the result of the one before was not known.",
    BOTH,
);

/// Commands that the driver retried by itself.
pub const CLIENT_OVERLOAD_RETRIES: Metric = count(
    "mongodb_client_overload_retries_total",
    "Commands, in transactions and outside, that the driver sent again by itself because the server refused them as overloaded (code 462, SystemOverloadedError).",
    "listener",
);

/// Backoff between attempts.
pub const CLIENT_TRANSACTION_BACKOFF: Metric = driver(
    "mongodb_client_transaction_backoff_seconds_total",
    Kind::Counter,
    Unit::Seconds,
    "Time spent in pauses between attempts and between commits.",
    &[OPERATION],
    &[],
    RUNNER,
);

/// Wasted time of attempts that did not commit.
pub const CLIENT_TRANSACTION_WASTED: Metric = driver(
    "mongodb_client_transaction_wasted_seconds_total",
    Kind::Counter,
    Unit::Seconds,
    "Time in attempts that did not commit.",
    &[OPERATION],
    &[],
    BOTH,
);

/// Background cleanups of transactions.
pub const CLIENT_TRANSACTION_CLEANUPS: Metric = driver(
    "mongodb_client_transaction_cleanups_total",
    Kind::Counter,
    Unit::Count,
    "Transactions that were ended by background cleanup: the future of their request was dropped, it panicked, or its connection was lost.",
    &[
        OPERATION,
        Label {
            name: "result",
            help: "`aborted`: aborted on the server; `fenced`: aborted, and a later transaction fences the session against a late first statement; `committed`: a commit that had been sent was completed; `left_to_server`: the server will abort it at its lifetime limit",
            values: Values::Closed(CLEANUP_RESULTS),
        },
    ],
    &[],
    RUNNER,
);

/// Transactions in keyed queues.
pub const CLIENT_TRANSACTION_QUEUED: Metric = driver(
    "mongodb_client_transactions_queued",
    Kind::Gauge,
    Unit::Count,
    "Transactions that wait, in this process, for another one with the same key. They hold neither connection nor session.",
    &[OPERATION],
    &[],
    RUNNER,
);

/// Queue wait of transactions.
pub const CLIENT_TRANSACTION_QUEUE_WAIT: Metric = driver(
    "mongodb_client_transaction_queue_wait_seconds",
    Kind::Histogram,
    Unit::Seconds,
    "Time that transactions with a key waited for their turn, those that gave up included.",
    &[OPERATION],
    DURATION_BUCKETS,
    RUNNER,
);

/// Transactions that the listener gave up on.
pub const CLIENT_TRANSACTIONS_ABANDONED: Metric = count(
    "mongodb_client_transactions_abandoned_total",
    "Transactions outside the runner of which no more was heard for longer than the server lets one live; counted as aborted with the reason transaction_expired.",
    "listener",
);

/// Transactions that the listener had no room for.
pub const CLIENT_TRANSACTIONS_UNTRACKED: Metric = count(
    "mongodb_client_transactions_untracked_total",
    "Transactions outside the runner that are counted nowhere else here, because 10,000 were followed already.",
    "listener",
);

/// Attempts whose callback sent no statement in the transaction.
pub const CLIENT_TRANSACTIONS_WITHOUT_STATEMENTS: Metric = count(
    "mongodb_client_transactions_without_statements_total",
    "Attempts whose work ended without a statement of its own transaction: nothing was begun, and what the work wrote without the transaction's session is not undone.",
    RUNNER,
);

/// Writes of a transaction's callback outside of the transaction.
pub const CLIENT_WRITES_OUTSIDE_TRANSACTION: Metric = count(
    "mongodb_client_writes_outside_transaction_total",
    "Writes that the task of a transaction's work sent without the transaction's session: they are neither undone with it nor committed with it.",
    "listener",
);
