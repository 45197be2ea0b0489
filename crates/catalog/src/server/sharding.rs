//! Sharding metrics: transactions across shards, from the coordinator and from mongos.

use super::{MEMBER, RS, count, gauge, seconds, with_labels};
use crate::{Label, Metric, OVERFLOW, Unit, Values};

/// The ways in which mongos commits a transaction.
pub const COMMIT_TYPES: &[&str] = &[
    "no_shards",
    "single_shard",
    "single_write_shard",
    "read_only",
    "two_phase_commit",
    "recover_with_token",
];

/// The maximum number of abort causes of one mongos.
pub const MAX_ABORT_CAUSES: usize = 50;

const BY_COMMIT_TYPE: &[Label] =
    &[RS, MEMBER, Label { name: "type", help: "how mongos commits", values: Values::Closed(COMMIT_TYPES) }];

/// Coordinators created.
pub const MONGODB_TWO_PHASE_COMMIT_COORDINATORS: Metric = count(
    "mongodb_two_phase_commit_coordinators_total",
    "Coordinators of two-phase commits created on this member; not all of them run a two-phase commit.",
    "serverStatus.twoPhaseCommitCoordinator.totalCreated",
);

/// Two-phase commits started.
pub const MONGODB_TWO_PHASE_COMMITS_STARTED: Metric = count(
    "mongodb_two_phase_commits_started_total",
    "Two-phase commits that this member began to coordinate.",
    "serverStatus.twoPhaseCommitCoordinator.totalStartedTwoPhaseCommit",
);

/// Two-phase commits that committed.
pub const MONGODB_TWO_PHASE_COMMITS_COMMITTED: Metric = count(
    "mongodb_two_phase_commits_committed_total",
    "Two-phase commits that this member coordinated and that committed.",
    "serverStatus.twoPhaseCommitCoordinator.totalCommittedTwoPhaseCommit",
);

/// Two-phase commits that aborted.
pub const MONGODB_TWO_PHASE_COMMITS_ABORTED: Metric = count(
    "mongodb_two_phase_commits_aborted_total",
    "Two-phase commits that this member coordinated and that aborted.",
    "serverStatus.twoPhaseCommitCoordinator.totalAbortedTwoPhaseCommit",
);

/// Two-phase commits in progress.
pub const MONGODB_TWO_PHASE_COMMITS_IN_PROGRESS: Metric = with_labels(
    gauge(
        "mongodb_two_phase_commits_in_progress",
        Unit::Count,
        "Two-phase commits that this member coordinates now, by step.",
        "serverStatus.twoPhaseCommitCoordinator.currentInSteps",
    ),
    &[
        RS,
        MEMBER,
        Label {
            name: "step",
            help: "how far the commit is",
            values: Values::Closed(&[
                "writing_participant_list",
                "waiting_for_votes",
                "writing_decision",
                "waiting_for_decision_acks",
                "deleting_coordinator_doc",
            ]),
        },
    ],
);

/// Commits that mongos started.
pub const MONGODB_TRANSACTION_COMMITS_INITIATED: Metric = with_labels(
    count(
        "mongodb_transaction_commits_initiated_total",
        "Commits that mongos began, by type; mongos only.",
        "serverStatus.transactions.commitTypes.<type>.initiated",
    ),
    BY_COMMIT_TYPE,
);

/// Commits of mongos that succeeded.
pub const MONGODB_TRANSACTION_COMMITS_SUCCESSFUL: Metric = with_labels(
    count(
        "mongodb_transaction_commits_successful_total",
        "Commits of mongos that succeeded, by type; mongos only.",
        "serverStatus.transactions.commitTypes.<type>.successful",
    ),
    BY_COMMIT_TYPE,
);

/// Duration of successful commits of mongos.
pub const MONGODB_TRANSACTION_COMMITS_SUCCESSFUL_SECONDS: Metric = with_labels(
    seconds(
        "mongodb_transaction_commits_successful_seconds_total",
        "Time that the successful commits of mongos took, added up, by type; mongos only.",
        "serverStatus.transactions.commitTypes.<type>.successfulDurationMicros",
    ),
    BY_COMMIT_TYPE,
);

/// Aborts of mongos by cause.
pub const MONGODB_TRANSACTION_ABORTS_BY_CAUSE: Metric = with_labels(
    count(
        "mongodb_transaction_aborts_by_cause_total",
        "Transactions that mongos aborted, by cause; mongos only, since mongod does not count causes.",
        "serverStatus.transactions.abortCause",
    ),
    &[
        RS,
        MEMBER,
        Label {
            name: "cause",
            help: "name of the server's error code, or `abort` if the client aborted",
            values: Values::Bounded { max: MAX_ABORT_CAUSES, overflow: Some(OVERFLOW) },
        },
    ],
);

/// Shards that transactions of mongos contacted.
pub const MONGODB_TRANSACTION_PARTICIPANTS_CONTACTED: Metric = count(
    "mongodb_transaction_participants_contacted_total",
    "Shards that the transactions of mongos contacted, added up over them; mongos only.",
    "serverStatus.transactions.totalContactedParticipants",
);

/// Shards that took part in commits of mongos.
pub const MONGODB_TRANSACTION_PARTICIPANTS_AT_COMMIT: Metric = count(
    "mongodb_transaction_participants_at_commit_total",
    "Shards that took part in the commits of mongos, added up over them; mongos only.",
    "serverStatus.transactions.totalParticipantsAtCommit",
);

/// Requests that mongos sent for transactions.
pub const MONGODB_TRANSACTION_REQUESTS_TARGETED: Metric = count(
    "mongodb_transaction_requests_targeted_total",
    "Requests that mongos sent to shards for transactions; mongos only.",
    "serverStatus.transactions.totalRequestsTargeted",
);
