//! The replica set as each member sees it, and the server's limit on transactions.

use super::{MEMBER, RS, by, count, gauge};
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

/// The protocol's number for each of [`MEMBER_STATES`]. There is no state 4 any longer.
pub const MEMBER_STATE_NUMBERS: &[u8] = &[0, 1, 2, 3, 5, 6, 7, 8, 9, 10];

/// Why a member called an election.
pub const ELECTION_CAUSES: &[&str] =
    &["step_up_command", "priority_takeover", "catch_up_takeover", "election_timeout", "freeze_timeout"];

/// The most members that a replica set can have.
pub const MAX_PEERS: usize = 50;

const BY_PEER: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "peer",
        help: "host and port of the member that `member` speaks of",
        values: Values::Bounded { most: MAX_PEERS, overflow: None },
    },
];

const BY_CAUSE: &[Label] = &[
    RS,
    MEMBER,
    Label { name: "cause", help: "why it called an election", values: Values::Closed(ELECTION_CAUSES) },
];

/// State of the member.
pub const MONGODB_REPLICATION_MEMBER_STATE: Metric = by(
    gauge(
        "mongodb_replication_member_state",
        Unit::Boolean,
        "The member's state in its replica set: 1 for the one that it is in, 0 for the others.",
        "replSetGetStatus.myState",
    ),
    &[RS, MEMBER, Label { name: "state", help: "the member's state", values: Values::Closed(MEMBER_STATES) }],
);

/// Term of the replica set.
pub const MONGODB_REPLICATION_TERM: Metric = gauge(
    "mongodb_replication_term",
    Unit::Count,
    "The election term, as the member knows it. It grows with each election of the set.",
    "replSetGetStatus.term",
);

/// How far the member is behind the primary.
pub const MONGODB_REPLICATION_LAG: Metric = gauge(
    "mongodb_replication_lag_seconds",
    Unit::Seconds,
    "How far the member is behind the primary by its own account; absent while it knows of none.",
    "replSetGetStatus.members[].optimeDate",
);

/// How far each other member is behind, by the primary's account.
pub const MONGODB_REPLICATION_PEER_LAG: Metric = by(
    gauge(
        "mongodb_replication_peer_lag_seconds",
        Unit::Seconds,
        "How far each other member is behind, by the primary's account: also when that member does not answer.",
        "replSetGetStatus.members[].optimeDate on the primary",
    ),
    BY_PEER,
);

/// Whether the member hears from each other member.
pub const MONGODB_REPLICATION_PEER_UP: Metric = by(
    gauge(
        "mongodb_replication_peer_up",
        Unit::Boolean,
        "Whether the member hears the heartbeats of each other member.",
        "replSetGetStatus.members[].health",
    ),
    BY_PEER,
);

/// How far the majority is behind the member.
pub const MONGODB_REPLICATION_MAJORITY_LAG: Metric = gauge(
    "mongodb_replication_majority_lag_seconds",
    Unit::Seconds,
    "How far what the majority has is behind what the member has applied. Commits with write concern majority wait for it.",
    "replSetGetStatus.optimes.lastAppliedWallTime, .lastCommittedWallTime",
);

/// Length of the oplog in time.
pub const MONGODB_REPLICATION_OPLOG_WINDOW: Metric = gauge(
    "mongodb_replication_oplog_window_seconds",
    Unit::Seconds,
    "Time between the oldest and the newest entry of the oplog: how long a member may be away and still catch up.",
    "serverStatus.oplog.earliestOptime, .latestOptime",
);

/// Elections that the member called.
pub const MONGODB_REPLICATION_ELECTIONS_CALLED: Metric = by(
    count(
        "mongodb_replication_elections_called_total",
        "Elections that the member called, by cause.",
        "serverStatus.electionMetrics.<cause>.called",
    ),
    BY_CAUSE,
);

/// Elections that the member called and won.
pub const MONGODB_REPLICATION_ELECTIONS_WON: Metric = by(
    count(
        "mongodb_replication_elections_won_total",
        "Elections that the member called and won, by cause.",
        "serverStatus.electionMetrics.<cause>.successful",
    ),
    BY_CAUSE,
);

/// How often the member stepped down for another.
pub const MONGODB_REPLICATION_STEP_DOWNS: Metric = count(
    "mongodb_replication_step_downs_total",
    "How often the member was primary and stepped down because another had been elected.",
    "serverStatus.electionMetrics.numStepDownsCausedByHigherTerm",
);

/// How long a transaction may be open.
pub const MONGODB_TRANSACTION_LIFETIME_LIMIT: Metric = gauge(
    "mongodb_transaction_lifetime_limit_seconds",
    Unit::Seconds,
    "How long a transaction may be open before the server aborts it.",
    "getParameter transactionLifetimeLimitSeconds",
);
