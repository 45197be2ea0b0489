//! Replication metrics of each member, and the lifetime limit of transactions.

use super::{MEMBER, RS, count, gauge, with_labels};
use crate::{Label, Metric, Unit, Values};

/// The states of a member, in the order of [`MEMBER_STATE_NUMBERS`].
pub const MEMBER_STATES: &[&str] = &[
    "startup",
    "primary",
    "secondary",
    "recovering",
    "startup2",
    "unknown",
    "arbiter",
    "down",
    "rollback",
    "removed",
];

/// The protocol's number for each of [`MEMBER_STATES`]. State 4 no longer exists.
pub const MEMBER_STATE_NUMBERS: &[u8] = &[0, 1, 2, 3, 5, 6, 7, 8, 9, 10];

/// The causes of elections.
pub const ELECTION_CAUSES: &[&str] =
    &["step_up_command", "priority_takeover", "catch_up_takeover", "election_timeout", "freeze_timeout"];

/// The maximum number of members of a replica set.
pub const MAX_PEERS: usize = 50;

const BY_PEER: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "peer",
        help: "host and port of the other member",
        values: Values::Bounded { max: MAX_PEERS, overflow: None },
    },
];

const BY_CAUSE: &[Label] = &[
    RS,
    MEMBER,
    Label { name: "cause", help: "cause of the election", values: Values::Closed(ELECTION_CAUSES) },
];

/// State of the member.
pub const MONGODB_REPLICATION_MEMBER_STATE: Metric = with_labels(
    gauge(
        "mongodb_replication_member_state",
        Unit::Boolean,
        "The member's state in its replica set: 1 for the current state, 0 for the others.",
        "replSetGetStatus.myState",
    ),
    &[RS, MEMBER, Label { name: "state", help: "the member's state", values: Values::Closed(MEMBER_STATES) }],
);

/// Term of the replica set.
pub const MONGODB_REPLICATION_TERM: Metric = gauge(
    "mongodb_replication_term",
    Unit::Count,
    "Election term known to the member. It increases with each election of the set.",
    "replSetGetStatus.term",
);

/// Lag of the member behind the primary.
pub const MONGODB_REPLICATION_LAG: Metric = gauge(
    "mongodb_replication_lag_seconds",
    Unit::Seconds,
    "Lag of the member behind the primary, as the member sees it; absent without a primary.",
    "replSetGetStatus.members[].optimeDate",
);

/// Lag of each other member, as the primary sees it.
pub const MONGODB_REPLICATION_PEER_LAG: Metric = with_labels(
    gauge(
        "mongodb_replication_peer_lag_seconds",
        Unit::Seconds,
        "Lag of each other member, as the primary sees it, also of members that do not answer.",
        "replSetGetStatus.members[].optimeDate on the primary",
    ),
    BY_PEER,
);

/// Whether the member receives heartbeats from each other member.
pub const MONGODB_REPLICATION_PEER_UP: Metric = with_labels(
    gauge(
        "mongodb_replication_peer_up",
        Unit::Boolean,
        "Whether the member receives heartbeats from each other member.",
        "replSetGetStatus.members[].health",
    ),
    BY_PEER,
);

/// Lag of the majority behind the member.
pub const MONGODB_REPLICATION_MAJORITY_LAG: Metric = gauge(
    "mongodb_replication_majority_lag_seconds",
    Unit::Seconds,
    "Lag of the majority commit point behind the member's last applied operation. Commits with write concern majority wait for it.",
    "replSetGetStatus.optimes.lastAppliedWallTime, .lastCommittedWallTime",
);

/// Length of the oplog in time.
pub const MONGODB_REPLICATION_OPLOG_WINDOW: Metric = gauge(
    "mongodb_replication_oplog_window_seconds",
    Unit::Seconds,
    "Time between the oldest and the newest entry of the oplog: how long a member may be down and still catch up.",
    "serverStatus.oplog.earliestOptime, .latestOptime",
);

/// Elections that the member called.
pub const MONGODB_REPLICATION_ELECTIONS_CALLED: Metric = with_labels(
    count(
        "mongodb_replication_elections_called_total",
        "Elections that the member called, by cause.",
        "serverStatus.electionMetrics.<cause>.called",
    ),
    BY_CAUSE,
);

/// Elections that the member called and won.
pub const MONGODB_REPLICATION_ELECTIONS_WON: Metric = with_labels(
    count(
        "mongodb_replication_elections_won_total",
        "Elections that the member called and won, by cause.",
        "serverStatus.electionMetrics.<cause>.successful",
    ),
    BY_CAUSE,
);

/// Number of times that the member stepped down for another.
pub const MONGODB_REPLICATION_STEP_DOWNS: Metric = count(
    "mongodb_replication_step_downs_total",
    "Number of times that the member stepped down as primary because another member had been elected.",
    "serverStatus.electionMetrics.numStepDownsCausedByHigherTerm",
);

/// Lifetime limit of transactions.
pub const MONGODB_TRANSACTION_LIFETIME_LIMIT: Metric = gauge(
    "mongodb_transaction_lifetime_limit_seconds",
    Unit::Seconds,
    "Time after which the server aborts an open transaction.",
    "getParameter transactionLifetimeLimitSeconds",
);
