//! Aborts that fail: counterparts of `abort` and `retryable-abort*`. The counterpart of
//! `backpressure-retryable-abort` is in `backpressure`.

use super::cases::{
    Case, Expected, RETRYABLE_CODES, check, closed, code, concern, retryable, retryable_concern,
};
use super::spec_env::SpecEnv;
use mongodb::bson::doc;

const ABORT: &str = "abortTransaction";

#[tokio::test]
async fn rejection_stays_rejection_when_abort_fails() {
    let twice = Expected::Rejected { aborts: 2 };
    let once = Expected::Rejected { aborts: 1 };
    let mut cases: Vec<_> = RETRYABLE_CODES
        .into_iter()
        .map(|(name, number)| {
            Case::new(format!("abortTransaction succeeds after {name}"), 1, retryable(ABORT, number), twice)
        })
        .collect();
    cases.extend([11600, 11602, 189, 91].map(|number| {
        let name = format!("abortTransaction succeeds after WriteConcernError {number}");
        Case::new(name, 1, retryable_concern(ABORT, number), twice)
    }));
    cases.extend([
        Case::new(
            "abortTransaction only retries once with RetryableWriteError from server",
            2,
            retryable(ABORT, 112),
            twice,
        ),
        Case::new(
            "abortTransaction does not retry without RetryableWriteError label",
            1,
            doc! {"failCommands": [ABORT], "errorCode": 11600, "errorLabels": []},
            once,
        ),
        Case::new("abortTransaction does not retry after Interrupted", 1, code(ABORT, 11601), once),
        Case::new(
            "abortTransaction does not retry after WriteConcernError Interrupted",
            1,
            concern(ABORT, 11601),
            once,
        ),
        Case::new("abortTransaction succeeds after connection error", 1, closed(ABORT), twice),
    ]);
    check(&mut SpecEnv::start().await, &cases).await;
}

/// The driver tries twice, reports no error, and discards the session, so that no later transaction ends this one.
#[tokio::test]
async fn lost_aborts_leave_no_open_transaction() {
    let lost = Case::new(
        "abortTransaction only performs a single retry",
        2,
        closed(ABORT),
        Expected::Rejected { aborts: 2 },
    );
    check(&mut SpecEnv::start().await, &[lost]).await;
}
