//! Transactions over several shards: the coordinator's books on mongod, and the router's on mongos.

use mongodb::bson::Document;
use txnscope_catalog as catalog;
use txnscope_catalog::{MAX_ABORT_CAUSES, OVERFLOW};

use crate::collector::fields::{self, Field, micros, plain};
use crate::decode::{Found, document, number};
use crate::reading::Reading;

const fn step(label: &'static [&'static str], path: &'static [&'static str]) -> Field {
    plain(&catalog::MONGODB_TWO_PHASE_COMMITS_IN_PROGRESS, path).of(label)
}

const COORDINATOR: &[Field] = &[
    plain(&catalog::MONGODB_TWO_PHASE_COMMIT_COORDINATORS, &["twoPhaseCommitCoordinator", "totalCreated"]),
    plain(
        &catalog::MONGODB_TWO_PHASE_COMMITS_STARTED,
        &["twoPhaseCommitCoordinator", "totalStartedTwoPhaseCommit"],
    ),
    plain(
        &catalog::MONGODB_TWO_PHASE_COMMITS_COMMITTED,
        &["twoPhaseCommitCoordinator", "totalCommittedTwoPhaseCommit"],
    ),
    plain(
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
            plain(
                &catalog::MONGODB_TRANSACTION_COMMITS_INITIATED,
                &["transactions", "commitTypes", $field, "initiated"],
            ).of(&[$label]),
            plain(
                &catalog::MONGODB_TRANSACTION_COMMITS_SUCCESSFUL,
                &["transactions", "commitTypes", $field, "successful"],
            ).of(&[$label]),
            micros(
                &catalog::MONGODB_TRANSACTION_COMMITS_SUCCESSFUL_SECONDS,
                &["transactions", "commitTypes", $field, "successfulDurationMicros"],
            ).of(&[$label]),
        )*]
    };
}

const COMMIT_TYPES: &[Field] = commits! {
    "no_shards", "noShards";
    "single_shard", "singleShard";
    "single_write_shard", "singleWriteShard";
    "read_only", "readOnly";
    "two_phase_commit", "twoPhaseCommit";
    "recover_with_token", "recoverWithToken";
};

const ROUTER: &[Field] = &[
    plain(
        &catalog::MONGODB_TRANSACTION_PARTICIPANTS_CONTACTED,
        &["transactions", "totalContactedParticipants"],
    ),
    plain(
        &catalog::MONGODB_TRANSACTION_PARTICIPANTS_AT_COMMIT,
        &["transactions", "totalParticipantsAtCommit"],
    ),
    plain(&catalog::MONGODB_TRANSACTION_REQUESTS_TARGETED, &["transactions", "totalRequestsTargeted"]),
];

pub(super) fn read(reading: &mut Reading, reply: &Document) {
    fields::read(reading, reply, COORDINATOR);
    fields::read(reading, reply, COMMIT_TYPES);
    fields::read(reading, reply, ROUTER);
    match document(reply, &["transactions", "abortCause"]) {
        Found::Value(causes) => abort_causes(reading, causes),
        Found::Odd => reading.drop_one(),
        Found::Missing => {}
    }
}

/// Whether a server's word can be the name of an error code. Anything else of a server's is no label.
fn is_code_name(cause: &str) -> bool {
    cause.len() <= 100 && cause.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The causes are code names of errors, so there are few; what is over the bound, or no such name, is added up. A cause that is in stays
/// in: the server adds new ones at the end.
fn abort_causes(reading: &mut Reading, causes: &Document) {
    let metric = &catalog::MONGODB_TRANSACTION_ABORTS_BY_CAUSE;
    let mut rest = Found::Missing;
    let mut shown = 0;
    for cause in causes.keys() {
        let aborts = number(causes, &[cause]);
        if shown < MAX_ABORT_CAUSES && cause != OVERFLOW && is_code_name(cause) {
            shown += 1;
            reading.labelled(metric, vec![cause.clone().into()], aborts);
        } else {
            rest = match rest {
                Found::Missing => aborts,
                rest => rest.with(aborts, |sum, more| sum + more),
            };
        }
    }
    reading.number(metric, &[OVERFLOW], rest);
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, doc};

    use super::*;

    #[test]
    fn a_cause_that_is_no_code_name_is_no_label() {
        let long = "x".repeat(1 << 20);
        let odd = ["a\u{1b}[2J", "a\nb", "a\u{202e}", "a b", &long];
        let mut causes: Document = odd.iter().map(|cause| ((*cause).to_owned(), Bson::Int64(1))).collect();
        causes.insert("WriteConflict", 7_i64);
        let mut reading = Reading::default();
        read(&mut reading, &doc! {"transactions": {"abortCause": causes}});
        let of = |name: &str| reading.numbers().find(|(_, labels, _)| *labels == [name]).map(|found| found.2);
        assert_eq!((of("WriteConflict"), of(OVERFLOW), reading.samples().len()), (Some(7.0), Some(5.0), 2));
    }

    #[test]
    fn causes_over_the_bound_are_added_up_and_an_odd_one_costs_itself() {
        let mut causes: Document =
            (0..MAX_ABORT_CAUSES + 2).map(|index| (format!("Cause{index}"), Bson::Int64(2))).collect();
        causes.insert("Cause0", "many");
        let mut reading = Reading::default();
        read(&mut reading, &doc! {"transactions": {"abortCause": causes}});
        assert_eq!((reading.samples().len(), reading.dropped()), (MAX_ABORT_CAUSES, 1));
        let overflow = reading.numbers().find(|(_, labels, _)| *labels == [OVERFLOW]);
        assert_eq!(overflow.map(|found| found.2), Some(4.0));
    }
}
