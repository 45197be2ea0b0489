//! Counterparts of the scenarios of the convenient API (`withTransaction`), file by file.

use mongodb::bson::doc;
use txnscope::{Abort, Reason, TransactionError};

use super::cases::{Case, Expected, again, check, closed, code, commits, concern, retryable};
use super::spec_env::SpecEnv;
use crate::env::OPERATION;

const COMMIT: &str = "commitTransaction";

#[tokio::test]
async fn commit_retries_follow_specification() {
    let unknown = |reason, resolved_later| Expected::Unknown { reason, commits: 1, resolved_later };
    let cases = [
        Case::new(
            "commit is retried after commitTransaction UnknownTransactionCommitResult (NotWritablePrimary)",
            2,
            retryable(COMMIT, 10107),
            commits(3),
        ),
        Case::new(
            "commitTransaction succeeds after multiple connection errors",
            2,
            closed(COMMIT),
            commits(3),
        ),
        Case::new(
            "commit is not retried after MaxTimeMSExpired error",
            1,
            code(COMMIT, 50),
            unknown(Reason::MAX_TIME_EXPIRED, true),
        ),
        Case::new(
            "commitTransaction is retried after WriteConcernTimeout timeout error",
            2,
            doc! {"failCommands": [COMMIT], "writeConcernError": {"code": 64, "errmsg": "as asked", "errInfo": {"wtimeout": true}}},
            commits(3),
        ),
        Case::new(
            "commitTransaction is retried after WriteConcernTimeout non-timeout error",
            2,
            concern(COMMIT, 64),
            commits(3),
        ),
        Case::new(
            "commitTransaction is not retried after UnknownReplWriteConcern error",
            1,
            concern(COMMIT, 79),
            unknown(Reason::WRITE_CONCERN, false),
        ),
        Case::new(
            "commitTransaction is not retried after UnsatisfiableWriteConcern error",
            1,
            concern(COMMIT, 100),
            unknown(Reason::WRITE_CONCERN, false),
        ),
        Case::new(
            "commitTransaction is not retried after MaxTimeMSExpired error (write concern)",
            1,
            concern(COMMIT, 50),
            unknown(Reason::WRITE_CONCERN, true),
        ),
        Case::new("withTransaction commits after callback returns", 1, code("distinct", 2), commits(1)),
    ];
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn transient_commit_error_retries_transaction() {
    let named = [
        ("PreparedTransactionInProgress", 267, Reason::INVALID_REQUEST),
        ("LockTimeout", 24, Reason::LOCK_TIMEOUT),
        ("WriteConflict", 112, Reason::WRITE_CONFLICT),
        ("SnapshotUnavailable", 246, Reason::SNAPSHOT_UNAVAILABLE),
        ("NoSuchTransaction", 251, Reason::NO_SUCH_TRANSACTION),
    ];
    let cases = named.map(|(name, number, aborted_for)| {
        let thrice = Expected::Committed { attempts: 3, aborted_for, commits: 1 };
        let name =
            format!("transaction is retried after commitTransaction TransientTransactionError ({name})");
        Case::new(name, 2, code(COMMIT, number), thrice)
    });
    check(&mut SpecEnv::start().await, &cases).await;
}

#[tokio::test]
async fn callback_succeeds_after_multiple_connection_errors() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    env.fail_times(2, closed("insert")).await;
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    assert_eq!(committed.await.unwrap().attempts, 3);
    assert_eq!(spec.sent("insert").len(), 3, "the driver sends no statement of a transaction again");
    // It is unknown whether the first statements arrived; a later transaction fences each session.
    let server = env.reconciled().await;
    assert_eq!((env.not_started("lost"), env.cleanups("fenced")), (2.0, 2.0));
    assert_eq!((server.started, server.committed, server.aborted), (3, 1, 2));
    assert_eq!(env.driver(), [3.0, 1.0, 2.0, 0.0, 0.0]);
    assert_eq!(env.aborted_for("network"), 2.0);
    assert_eq!(spec.committed().await, [1]);
}

#[tokio::test]
async fn callback_is_not_retried_after_duplicate_key() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    let failed = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
    assert_eq!((failure.reason(), failure.attempts()), (Reason::DUPLICATE_KEY, 1));
    assert!(failure.driver_error().unwrap().labels().is_empty());
    let server = env.reconciled().await;
    assert_eq!((server.started, server.aborted, spec.committed().await), (1, 1, vec![]));
    assert_eq!(spec.sent("abortTransaction").len(), 1);
}

/// In MongoDB's convenient API the callback may call `commitTransaction` or `abortTransaction`. With the runner,
/// aborting is an error of the callback, and the counters still match.
#[tokio::test]
async fn aborting_callback_does_not_commit() {
    let mut spec = SpecEnv::start().await;
    for case in ["callback aborts", "callback aborts with no ops", "callback aborts and runs extra op"] {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        let (some, extra) = (case != "callback aborts with no ops", case.ends_with("extra op"));
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            if some {
                items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            }
            tx.session().abort_transaction().await?;
            if extra {
                items.insert_one(doc! {"_id": 2}).session(&mut tx).await?;
            }
            Ok::<_, Abort>(())
        });
        let error = ended.await.unwrap_err();
        let server = env.reconciled().await;
        assert_eq!((server.started, server.committed), (i64::from(some), 0), "{case}");
        if extra {
            // The driver no longer knows how the transaction ended, and the extra operation was not part of it.
            assert!(matches!(error, TransactionError::CommitUnknown(_)), "{case}: {error:?}");
            assert_eq!(env.driver(), [1.0, 0.0, 0.0, 1.0, 0.0], "{case}");
            assert_eq!(spec.committed().await, [2], "{case}");
        } else {
            let TransactionError::Failed(failure) = error else { panic!("{case}: {error:?}") };
            assert_eq!(failure.reason(), Reason::INVALID_REQUEST, "{case}");
            assert_eq!(env.driver(), [1.0, 0.0, 1.0, 0.0, 0.0], "{case}");
            assert_eq!(env.not_started("not_sent"), f64::from(u8::from(!some)), "{case}");
            assert_eq!(spec.committed().await, [0; 0], "{case}");
        }
    }
}

#[tokio::test]
async fn committing_callback_never_returns_failed() {
    let mut spec = SpecEnv::start().await;
    for case in ["callback commits", "callback commits and runs extra op", "second transaction"] {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            tx.session().commit_transaction().await?;
            if case == "second transaction" {
                tx.session().start_transaction().await?;
            }
            if case != "callback commits" {
                items.insert_one(doc! {"_id": 2}).session(&mut tx).await?;
            }
            Ok::<_, Abort>(())
        });
        let ended = ended.await;
        let server = env.wait_idle().await;
        if case == "callback commits and runs extra op" {
            assert!(matches!(ended, Err(TransactionError::CommitUnknown(_))), "{case}: {ended:?}");
            assert_eq!(env.driver(), [1.0, 0.0, 0.0, 1.0, 0.0], "{case}");
        } else {
            assert_eq!(ended.unwrap().attempts, 1, "{case}");
            assert_eq!(env.driver(), [1.0, 1.0, 0.0, 0.0, 0.0], "{case}");
        }
        // A transaction that the callback starts itself is counted by the server only.
        let transactions = if case == "second transaction" { 2 } else { 1 };
        assert_eq!((server.started, server.committed), (transactions, transactions), "{case}");
        let documents = if case == "callback commits" { vec![1] } else { vec![1, 2] };
        assert_eq!(spec.committed().await, documents, "{case}");
    }
}

#[tokio::test]
async fn transient_statement_error_retries_callback() {
    let case =
        Case::new("update fails with WriteConflict", 1, code("update", 112), again(Reason::WRITE_CONFLICT));
    check(&mut SpecEnv::start().await, &[case]).await;
}
