//! Callbacks that misuse the session or swallow errors: counterparts of `errors*`, `abort` and `commit`.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use mongodb::bson::doc;
use mongodb::error::TRANSIENT_TRANSACTION_ERROR;
use txnscope::{Abort, Reason, TransactionError};

use super::spec_env::SpecEnv;
use crate::env::{NO, OPERATION};

#[tokio::test]
async fn starting_or_aborting_twice_fails() {
    let mut spec = SpecEnv::start().await;
    for case in ["start twice", "start insert start", "two aborts"] {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        let failed = env.runner.run_as(OPERATION, async |mut tx| {
            if case != "start twice" {
                items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            }
            if case == "two aborts" {
                tx.session().abort_transaction().await?;
                tx.session().abort_transaction().await?;
            }
            tx.session().start_transaction().await?;
            Ok::<_, Abort>(())
        });
        let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("{case}") };
        assert_eq!((failure.reason(), failure.attempts()), (Reason::INVALID_REQUEST, 1), "{case}");
        let server = env.reconciled().await;
        let begun = i64::from(case != "start twice");
        assert_eq!((server.started, server.aborted), (begun, begun), "{case}");
        assert_eq!(env.driver(), [1.0, 0.0, 1.0, 0.0, 0.0], "{case}");
    }
}

#[tokio::test]
async fn driver_rejected_statements_are_not_sent() {
    let mut spec = SpecEnv::start().await;
    for in_progress in [false, true] {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        let failed = env.runner.run_as(OPERATION, async |mut tx| {
            if in_progress {
                items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            }
            items.update_one(doc! {"_id": 1}, doc! {"no operator": 1}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        });
        let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
        assert_eq!((failure.reason(), failure.attempts()), (Reason::INVALID_REQUEST, 1));
        let server = env.reconciled().await;
        let begun = i64::from(in_progress);
        assert_eq!((server.started, server.aborted), (begun, begun));
        assert_eq!(env.not_started("not_sent"), f64::from(u8::from(!in_progress)));
        assert_eq!(spec.committed().await, [0; 0]);
    }
}

/// Requesting the session looks like a statement. If none follows, the server commits nothing, and no commit is
/// counted.
#[tokio::test]
async fn unused_session_commits_nothing() {
    let mut spec = SpecEnv::start().await;
    for refused in [false, true] {
        spec.reset().await;
        let (env, items) = (&spec.env, spec.env.items());
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            let _ = tx.session().id();
            if refused {
                // The callback swallows an error.
                let update = items.update_one(doc! {"_id": 1}, doc! {"no operator": 1});
                update.session(&mut tx).await.unwrap_err();
            }
            Ok::<_, Abort>(7)
        });
        assert_eq!(ended.await.unwrap().value, 7);
        let server = env.reconciled().await;
        assert_eq!((server.started, server.committed), (0, 0));
        assert_eq!(env.driver(), [1.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(env.not_started("not_sent"), 1.0);
    }
}

#[tokio::test]
async fn swallowed_conflict_fails_commit() {
    let mut spec = SpecEnv::start().await;
    for case in ["write conflict commit", "write conflict abort"] {
        spec.reset().await;
        let (env, items, others) = (&spec.env, spec.env.items(), spec.env.items_of_others());
        let calls = AtomicU32::new(0);
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            let call = calls.fetch_add(1, Relaxed);
            items.find_one(doc! {}).session(&mut tx).await?;
            if call == 0 {
                others.insert_one(doc! {"_id": 1}).await?;
                let insert = items.insert_one(doc! {"_id": 1}).session(&mut tx).await;
                assert!(insert.unwrap_err().contains_label(TRANSIENT_TRANSACTION_ERROR));
            }
            if case == "write conflict abort" { Err(NO.into()) } else { Ok::<_, Abort<Reason>>(()) }
        });
        let ended = ended.await;
        let server = env.reconciled().await;
        if case == "write conflict commit" {
            assert_eq!(ended.unwrap().attempts, 2);
            assert_eq!(env.aborted_for("no_such_transaction"), 1.0);
            assert_eq!((server.started, server.committed, server.aborted), (2, 1, 1));
        } else {
            assert!(matches!(ended, Err(TransactionError::Rejected { error: NO, .. })), "{ended:?}");
            assert_eq!((server.started, server.committed, server.aborted), (1, 0, 1));
        }
    }
}

#[tokio::test]
async fn statement_after_duplicate_key_gets_no_such_transaction() {
    let spec = SpecEnv::start().await;
    let (env, items) = (&spec.env, spec.env.items());
    let calls = AtomicU32::new(0);
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        if calls.fetch_add(1, Relaxed) == 0 {
            items.insert_one(doc! {"_id": 1}).session(&mut tx).await.unwrap_err();
            // The server has aborted before: this is `NoSuchTransaction`, which is transient.
            items.insert_one(doc! {"_id": 2}).session(&mut tx).await?;
        }
        Ok::<_, Abort>(())
    });
    assert_eq!(committed.await.unwrap().attempts, 2);
    assert_eq!(env.aborted_for("no_such_transaction"), 1.0);
    let server = env.reconciled().await;
    assert_eq!((server.started, server.committed, server.aborted), (2, 1, 1));
    assert_eq!(spec.committed().await, [1]);
}
