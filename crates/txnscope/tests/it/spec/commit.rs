//! How often a commit is sent, and what its errors mean: counterparts of `retryable-commit*` and `error-labels*`. The
//! counterpart of `backpressure-retryable-commit` is in `backpressure`.

use mongodb::bson::doc;
use txnscope::Reason;

use super::cases::{
    Case, Expected, RETRYABLE_CODES, check, closed, code, commits, concern, retryable, retryable_concern,
};
use super::spec_env::SpecEnv;

const COMMIT: &str = "commitTransaction";

#[tokio::test]
async fn retryable_commit_is_retried() {
    let mut cases: Vec<_> = RETRYABLE_CODES
        .into_iter()
        .map(|(name, number)| {
            Case::new(
                format!("commitTransaction succeeds after {name}"),
                1,
                retryable(COMMIT, number),
                commits(2),
            )
        })
        .collect();
    cases.extend([
        Case::new(
            "commitTransaction retries once with RetryableWriteError from server",
            1,
            retryable(COMMIT, 112),
            commits(2),
        ),
        Case::new("commitTransaction succeeds after connection error", 1, closed(COMMIT), commits(2)),
        Case::new("commitTransaction fails after two errors", 2, closed(COMMIT), commits(3)),
        Case::new(
            "add RetryableWriteError and UnknownTransactionCommitResult labels to retryable commit errors",
            2,
            retryable(COMMIT, 11602),
            commits(3),
        ),
    ]);
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn write_concern_error_code_decides_commit_retry() {
    let mut cases: Vec<_> = [11600, 11602, 189, 91]
        .map(|number| {
            Case::new(
                format!("commitTransaction succeeds after WriteConcernError {number}"),
                1,
                retryable_concern(COMMIT, number),
                commits(2),
            )
        })
        .into();
    let unknown = |reason, commits, resolved_later| Expected::Unknown { reason, commits, resolved_later };
    cases.extend([
        Case::new(
            "add UnknownTransactionCommitResult label to writeConcernError WriteConcernTimeout",
            1,
            concern(COMMIT, 64),
            commits(2),
        ),
        Case::new(
            "add UnknownTransactionCommitResult label to writeConcernError WriteConcernTimeout with wtimeout",
            1,
            doc! {"failCommands": [COMMIT], "writeConcernError": {"code": 64, "errmsg": "as asked", "errInfo": {"wtimeout": true}}},
            commits(2),
        ),
        Case::new(
            "add RetryableWriteError and UnknownTransactionCommitResult labels to writeConcernError ShutdownInProgress",
            2,
            retryable_concern(COMMIT, 91),
            commits(3),
        ),
        Case::new(
            "commitTransaction is not retried after UnsatisfiableWriteConcern error",
            1,
            concern(COMMIT, 100),
            unknown(Reason::WRITE_CONCERN, 1, false),
        ),
        Case::new(
            "omit UnknownTransactionCommitResult label from writeConcernError UnknownReplWriteConcern",
            1,
            concern(COMMIT, 79),
            unknown(Reason::WRITE_CONCERN, 1, false),
        ),
        Case::new(
            "add UnknownTransactionCommitResult label to writeConcernError MaxTimeMSExpired",
            1,
            concern(COMMIT, 50),
            unknown(Reason::WRITE_CONCERN, 1, true),
        ),
    ]);
    check(&mut SpecEnv::start().await, &cases).await;
}

/// Where the driver gives up at once, and the runner does not: an interrupted commit may have been applied, and a
/// retry determines its result.
#[tokio::test]
async fn interrupted_commit_is_retried() {
    let cases = [
        Case::new("commitTransaction fails after Interrupted", 1, code(COMMIT, 11601), commits(2)),
        Case::new(
            "commitTransaction does not retry error without RetryableWriteError label",
            1,
            doc! {"failCommands": [COMMIT], "errorCode": 11600, "errorLabels": []},
            commits(2),
        ),
        Case::new(
            "add UnknownTransactionCommitResult label to MaxTimeMSExpired",
            1,
            code(COMMIT, 50),
            Expected::Unknown { reason: Reason::MAX_TIME_EXPIRED, commits: 1, resolved_later: true },
        ),
    ];
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn commit_retry_uses_majority_and_keeps_write_concern_options() {
    use std::time::Duration;

    use mongodb::options::{Acknowledgment, WriteConcern};
    use txnscope::Abort;

    use crate::env::OPERATION;

    let mut spec = SpecEnv::start().await;
    for case in ["with w: 2", "with w: 1"] {
        spec.reset().await;
        let env = &spec.env;
        let two = case == "with w: 2";
        let mut asked = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        if two {
            asked = WriteConcern::builder()
                .w(Acknowledgment::Nodes(2))
                .journal(true)
                .w_timeout(Duration::from_secs(5))
                .build();
        }
        env.fail_times(2, closed(COMMIT)).await;
        let items = env.items();
        let runner = env.runner.clone().write_concern(asked);
        let committed = runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        assert_eq!(committed.await.unwrap().attempts, 1, "{case}");
        let concerns: Vec<_> = spec
            .sent(COMMIT)
            .iter()
            .map(|commit| commit.get_document("writeConcern").unwrap().clone())
            .collect();
        let expected = if two {
            let again = doc! {"w": "majority", "wtimeout": 5_000_i64, "j": true};
            vec![doc! {"w": 2, "wtimeout": 5_000_i64, "j": true}, again.clone(), again]
        } else {
            let again = doc! {"w": "majority", "wtimeout": 10_000_i64};
            vec![doc! {"w": 1}, again.clone(), again]
        };
        assert_eq!(concerns.len(), 3, "{case}: {concerns:?}");
        for (sent, expected) in concerns.iter().zip(&expected) {
            for (key, value) in expected {
                let sent_value = sent.get(key).unwrap_or_else(|| panic!("{case}: {sent} lacks {key}"));
                assert_eq!(sent_value.to_string(), value.to_string(), "{case}: {key} of {sent}");
            }
        }
        assert_eq!(env.counted("mongodb_client_transaction_commit_retries_total", &[]), 1.0, "{case}");
        env.reconciled().await;
    }
}
