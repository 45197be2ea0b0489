//! Transactions across shards: counters of the coordinator on mongod, and of the router on mongos.

use mongodb::bson::Document;
use txnscope_catalog as catalog;
use txnscope_catalog::{MAX_ABORT_CAUSES, OVERFLOW};

use crate::collector::fields::{self, FieldMapping, micros_field, number_field};
use crate::decode::{Field, document, number};
use crate::sample_set::SampleSet;

const fn step(label: &'static [&'static str], path: &'static [&'static str]) -> FieldMapping {
    number_field(&catalog::MONGODB_TWO_PHASE_COMMITS_IN_PROGRESS, path).of(label)
}

const COORDINATOR: &[FieldMapping] = &[
    number_field(
        &catalog::MONGODB_TWO_PHASE_COMMIT_COORDINATORS,
        &["twoPhaseCommitCoordinator", "totalCreated"],
    ),
    number_field(
        &catalog::MONGODB_TWO_PHASE_COMMITS_STARTED,
        &["twoPhaseCommitCoordinator", "totalStartedTwoPhaseCommit"],
    ),
    number_field(
        &catalog::MONGODB_TWO_PHASE_COMMITS_COMMITTED,
        &["twoPhaseCommitCoordinator", "totalCommittedTwoPhaseCommit"],
    ),
    number_field(
        &catalog::MONGODB_TWO_PHASE_COMMITS_ABORTED,
        &["twoPhaseCommitCoordinator", "totalAbortedTwoPhaseCommit"],
    ),
    step(
        &["writing_participant_list"],
        &["twoPhaseCommitCoordinator", "currentInSteps", "writingParticipantList"],
    ),
    step(&["waiting_for_votes"], &["twoPhaseCommitCoordinator", "currentInSteps", "waitingForVotes"]),
    step(&["writing_decision"], &["twoPhaseCommitCoordinator", "currentInSteps", "writingDecision"]),
    step(
        &["waiting_for_decision_acks"],
        &["twoPhaseCommitCoordinator", "currentInSteps", "waitingForDecisionAcks"],
    ),
    step(
        &["deleting_coordinator_doc"],
        &["twoPhaseCommitCoordinator", "currentInSteps", "deletingCoordinatorDoc"],
    ),
];

macro_rules! commits {
    ($($label:literal, $field:literal;)*) => {
        &[$(
            number_field(
                &catalog::MONGODB_TRANSACTION_COMMITS_INITIATED,
                &["transactions", "commitTypes", $field, "initiated"],
            ).of(&[$label]),
            number_field(
                &catalog::MONGODB_TRANSACTION_COMMITS_SUCCESSFUL,
                &["transactions", "commitTypes", $field, "successful"],
            ).of(&[$label]),
            micros_field(
                &catalog::MONGODB_TRANSACTION_COMMITS_SUCCESSFUL_SECONDS,
                &["transactions", "commitTypes", $field, "successfulDurationMicros"],
            ).of(&[$label]),
        )*]
    };
}

const COMMIT_TYPES: &[FieldMapping] = commits! {
    "no_shards", "noShards";
    "single_shard", "singleShard";
    "single_write_shard", "singleWriteShard";
    "read_only", "readOnly";
    "two_phase_commit", "twoPhaseCommit";
    "recover_with_token", "recoverWithToken";
};

const ROUTER: &[FieldMapping] = &[
    number_field(
        &catalog::MONGODB_TRANSACTION_PARTICIPANTS_CONTACTED,
        &["transactions", "totalContactedParticipants"],
    ),
    number_field(
        &catalog::MONGODB_TRANSACTION_PARTICIPANTS_AT_COMMIT,
        &["transactions", "totalParticipantsAtCommit"],
    ),
    number_field(&catalog::MONGODB_TRANSACTION_REQUESTS_TARGETED, &["transactions", "totalRequestsTargeted"]),
];

pub(super) fn read(samples: &mut SampleSet, reply: &Document) {
    fields::read(samples, reply, COORDINATOR);
    fields::read(samples, reply, COMMIT_TYPES);
    fields::read(samples, reply, ROUTER);
    match document(reply, &["transactions", "abortCause"]) {
        Field::Value(causes) => abort_causes(samples, causes),
        Field::Invalid => samples.count_dropped(),
        Field::Missing => {}
    }
}

/// Whether a text can be the name of an error code. Other text is not used as a label.
fn is_code_name(cause: &str) -> bool {
    cause.len() <= 100 && cause.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Causes are names of error codes, so there are few. Invalid names and those over the limit are added up. The
/// order is stable, since the server adds new causes at the end.
fn abort_causes(samples: &mut SampleSet, causes: &Document) {
    let metric = &catalog::MONGODB_TRANSACTION_ABORTS_BY_CAUSE;
    let mut rest = Field::Missing;
    let mut shown = 0;
    for cause in causes.keys() {
        let aborts = number(causes, &[cause]);
        if shown < MAX_ABORT_CAUSES && cause != OVERFLOW && is_code_name(cause) {
            shown += 1;
            samples.labeled(metric, vec![cause.clone().into()], aborts);
        } else {
            rest = match rest {
                Field::Missing => aborts,
                rest => rest.combine(aborts, |sum, more| sum + more),
            };
        }
    }
    samples.number(metric, &[OVERFLOW], rest);
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, doc};

    use super::*;

    #[test]
    fn invalid_abort_cause_is_not_a_label() {
        let long = "x".repeat(1 << 20);
        let invalid = ["a\u{1b}[2J", "a\nb", "a\u{202e}", "a b", &long];
        let mut causes: Document =
            invalid.iter().map(|cause| ((*cause).to_owned(), Bson::Int64(1))).collect();
        causes.insert("WriteConflict", 7_i64);
        let mut samples = SampleSet::default();
        read(&mut samples, &doc! {"transactions": {"abortCause": causes}});
        let of = |name: &str| samples.numbers().find(|(_, labels, _)| *labels == [name]).map(|found| found.2);
        assert_eq!((of("WriteConflict"), of(OVERFLOW), samples.as_slice().len()), (Some(7.0), Some(5.0), 2));
    }

    #[test]
    fn abort_causes_over_the_limit_overflow_and_invalid_ones_are_dropped() {
        let mut causes: Document =
            (0..MAX_ABORT_CAUSES + 2).map(|index| (format!("Cause{index}"), Bson::Int64(2))).collect();
        causes.insert("Cause0", "many");
        let mut samples = SampleSet::default();
        read(&mut samples, &doc! {"transactions": {"abortCause": causes}});
        assert_eq!((samples.as_slice().len(), samples.dropped()), (MAX_ABORT_CAUSES, 1));
        let overflow = samples.numbers().find(|(_, labels, _)| *labels == [OVERFLOW]);
        assert_eq!(overflow.map(|found| found.2), Some(4.0));
    }
}
