//! Every code that the server or the driver has a label for, from a real server, on a statement and on the commit.

use txnscope::Reason;

use super::cases::{Case, Expected, again, check, code, commits};
use super::spec_env::SpecEnv;

const STATEMENT: &str = "update";
const COMMIT: &str = "commitTransaction";

/// `TransientTransactionError` on both.
const TRANSIENT: &[(i32, Reason)] = &[
    (112, Reason::WRITE_CONFLICT),
    (251, Reason::NO_SUCH_TRANSACTION),
    (24, Reason::LOCK_TIMEOUT),
    (246, Reason::SNAPSHOT_UNAVAILABLE),
    (239, Reason::SNAPSHOT_UNAVAILABLE),
    (267, Reason::INVALID_REQUEST),
    (63, Reason::OTHER),
];

/// `TransientTransactionError` on a statement, `RetryableWriteError` on a commit.
const RETRYABLE: &[(i32, Reason)] = &[
    (262, Reason::MAX_TIME_EXPIRED),
    (6, Reason::NETWORK),
    (7, Reason::NETWORK),
    (89, Reason::NETWORK),
    (9001, Reason::NETWORK),
];

/// The same, for members that changed their state.
const STATE: &[(i32, Reason)] = &[
    (10107, Reason::NOT_PRIMARY),
    (13435, Reason::NOT_PRIMARY),
    (13436, Reason::NOT_PRIMARY),
    (11600, Reason::INTERRUPTED),
    (11602, Reason::INTERRUPTED),
    (189, Reason::NOT_PRIMARY),
    (91, Reason::NOT_PRIMARY),
];

/// The server labels neither.
const UNLABELED: &[(i32, Reason)] = &[
    (100, Reason::WRITE_CONCERN),
    (225, Reason::TRANSACTION_TOO_OLD),
    (257, Reason::TRANSACTION_TOO_LARGE),
    (388, Reason::TRANSACTION_TOO_LARGE),
    (263, Reason::INVALID_REQUEST),
    (279, Reason::OTHER),
    (290, Reason::TRANSACTION_EXPIRED),
    (133, Reason::SERVER_SELECTION),
    (134, Reason::SERVER_SELECTION),
];

fn on_a_statement(codes: &[(i32, Reason)], expected: fn(Reason) -> Expected) -> Vec<Case> {
    let case = |(number, reason): &(i32, Reason)| {
        Case::new(format!("{number} on a statement"), 1, code(STATEMENT, *number), expected(*reason))
    };
    codes.iter().map(case).collect()
}

fn on_the_commit(times: i32, codes: &[(i32, Reason)], expected: fn(Reason) -> Expected) -> Vec<Case> {
    let case = |(number, reason): &(i32, Reason)| {
        Case::new(format!("{number} on the commit"), times, code(COMMIT, *number), expected(*reason))
    };
    codes.iter().map(case).collect()
}

#[tokio::test]
async fn transient_statement_error_retries_callback() {
    let mut cases = on_a_statement(TRANSIENT, again);
    cases.extend(on_a_statement(RETRYABLE, again));
    cases.extend(on_a_statement(STATE, again));
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn non_transient_statement_error_is_final() {
    let mut cases = on_a_statement(UNLABELED, Expected::Failed);
    let without = [(50, Reason::MAX_TIME_EXPIRED), (11601, Reason::INTERRUPTED), (64, Reason::WRITE_CONCERN)];
    cases.extend(on_a_statement(&without, Expected::Failed));
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn transient_commit_error_retries_callback() {
    check(&mut SpecEnv::start().await, &on_the_commit(1, TRANSIENT, again)).await;
}

#[tokio::test]
async fn retryable_commit_error_is_retried_by_driver_then_runner() {
    let mut cases = on_the_commit(2, RETRYABLE, |_| commits(3));
    cases.extend(on_the_commit(2, STATE, |_| commits(3)));
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn unlabeled_commit_error_is_final_and_leaves_nothing_open() {
    check(&mut SpecEnv::start().await, &on_the_commit(1, UNLABELED, Expected::Failed)).await;
}

#[tokio::test]
async fn commit_with_unknown_result_is_retried() {
    let again = [(11601, Reason::INTERRUPTED), (64, Reason::WRITE_CONCERN)];
    check(&mut SpecEnv::start().await, &on_the_commit(1, &again, |_| commits(2))).await;
}
