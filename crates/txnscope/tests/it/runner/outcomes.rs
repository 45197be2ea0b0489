//! Each outcome of a transaction, and its metrics.

use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::Instant;
use txnscope::transaction::Cause;
use txnscope::{Abort, ApplicationError, Reason, TransactionError};

use crate::env::{Environment, NO, OPERATION};

#[tokio::test]
async fn conflicting_attempts_are_retried_and_counted() {
    let env = Environment::start().await;
    let (items, others, calls) = (env.items(), env.items_of_others(), AtomicU32::new(0));
    others.insert_one(doc! {"_id": 1, "n": 0}).await.unwrap();
    let committed = env
        .runner
        .run_as(OPERATION, async |mut tx| {
            items.find_one(doc! {"_id": 1}).session(&mut tx).await?;
            if calls.fetch_add(1, Relaxed) < 2 {
                // Another client writes after the snapshot was taken.
                others.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 100}}).await?;
            }
            items.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
            Ok::<_, Abort>(OPERATION)
        })
        .await
        .unwrap();
    assert_eq!((committed.value, committed.attempts), (OPERATION, 3));
    let server = env.reconciled().await;
    assert_eq!((server.started, server.committed, server.aborted), (3, 1, 2));
    assert_eq!(env.driver(), [3.0, 1.0, 2.0, 0.0, 0.0]);
    assert_eq!(env.aborted_for("write_conflict"), 2.0);
    assert!(env.counted("mongodb_client_transaction_backoff_seconds_total", &[]) > 0.0);
    assert!(env.counted("mongodb_client_transaction_wasted_seconds_total", &[]) > 0.0);
    assert_eq!(env.counted("mongodb_client_transaction_duration_seconds_count", &[]), 3.0);
    assert_eq!(env.counted("mongodb_client_transaction_commit_duration_seconds_count", &[]), 1.0);
    let item = others.find_one(doc! {"_id": 1}).await.unwrap().unwrap();
    assert_eq!(item.get_i32("n").unwrap(), 201);
}

#[tokio::test]
async fn rejection_changes_nothing_and_is_not_retried() {
    let env = Environment::start().await;
    let (items, calls) = (env.items(), AtomicU32::new(0));
    let rejected = env
        .runner
        .run_as(OPERATION, async |mut tx| {
            calls.fetch_add(1, Relaxed);
            items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            Err::<(), _>(NO.into())
        })
        .await
        .unwrap_err();
    assert!(matches!(rejected, TransactionError::Rejected { reason: NO, .. }), "{rejected:?}");
    assert_eq!(calls.load(Relaxed), 1);
    let server = env.reconciled().await;
    assert_eq!((server.started, server.aborted), (1, 1));
    assert_eq!(env.aborted_for("no"), 1.0);
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[derive(Debug)]
struct Broken;

impl ApplicationError for Broken {
    fn reason(&self) -> Reason {
        Reason::APPLICATION
    }
    fn is_fault(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn application_and_statement_faults_fail_with_cause() {
    let env = Environment::start().await;
    let items = env.items();
    let broken = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Err::<(), _>(Broken.into())
    });
    let TransactionError::Failed(failure) = broken.await.unwrap_err() else { panic!("not failed") };
    assert!(matches!(failure.cause(), Cause::Application(Broken)));
    assert_eq!((failure.reason(), failure.attempts()), (Reason::APPLICATION, 1));

    env.items_of_others().insert_one(doc! {"_id": 2}).await.unwrap();
    let duplicate = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 2}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let error = duplicate.await.unwrap_err();
    assert_eq!(error.reason(), Reason::DUPLICATE_KEY);
    let TransactionError::Failed(failure) = &error else { panic!("not failed") };
    assert!(failure.source().unwrap().is::<mongodb::error::Error>(), "{failure:?}");
    assert!(
        !error.source().unwrap().to_string().contains("server response"),
        "the text contains the whole reply"
    );
    let server = env.reconciled().await;
    assert_eq!((server.started, server.aborted), (2, 2));
}

#[tokio::test]
async fn callback_without_statement_starts_no_transaction() {
    let env = Environment::start().await;
    let committed = env.runner.run_as(OPERATION, async |_| Ok::<_, Abort>(7)).await.unwrap();
    assert_eq!(committed.value, 7);
    let rejected = env.runner.run_as(OPERATION, async |_| Err::<(), _>(NO.into())).await;
    assert!(matches!(rejected, Err(TransactionError::Rejected { .. })));
    assert_eq!(env.reconciled().await.started, 0);
    assert_eq!(env.driver(), [0.0; 5]);
}

#[tokio::test]
async fn unanswered_commit_retries_then_unknown_then_resolved() {
    let env = Environment::start().await;
    let items = env.items();
    let failpoint = env.fail(doc! {"failCommands": ["commitTransaction"], "closeConnection": true}).await;
    let unknown = env
        .runner
        .transaction()
        .named(OPERATION)
        .deadline(Instant::now() + Duration::from_secs(2))
        .run(async |mut tx| {
            items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        })
        .await
        .unwrap_err();
    assert!(matches!(unknown, TransactionError::CommitUnknown(_)), "{unknown:?}");
    assert_eq!(unknown.reason(), Reason::COMMIT_UNKNOWN);
    let retries = env.counted("mongodb_client_transaction_commit_retries_total", &[]);
    assert!((1.0..100.0).contains(&retries), "{retries} retries: the driver alone makes a thousand");
    assert_eq!(env.driver(), [1.0, 0.0, 0.0, 1.0, 0.0]);
    failpoint.off().await.unwrap();
    // The commit had not reached the server. The background cleanup completes it.
    let server = env.reconciled().await;
    assert_eq!((server.started, server.committed), (1, 1));
    assert_eq!(env.cleanups("committed"), 1.0);
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn commit_after_max_time_is_not_retried() {
    let env = Environment::start().await;
    let items = env.items();
    env.fail_times(1, doc! {"failCommands": ["commitTransaction"], "errorCode": 50}).await;
    let unknown = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let unknown = unknown.await.unwrap_err();
    let TransactionError::CommitUnknown(failure) = unknown else { panic!("{unknown:?}") };
    assert_eq!((failure.reason(), failure.attempts()), (Reason::MAX_TIME_EXPIRED, 1));
    env.reconciled().await;
    assert_eq!(env.cleanups("committed"), 1.0);
}

#[tokio::test]
async fn commit_with_write_concern_error_is_unknown_and_applied() {
    let env = Environment::start().await;
    let items = env.items();
    let concern = doc! {"code": 100, "codeName": "UnsatisfiableWriteConcern", "errmsg": "as asked"};
    env.fail_times(1, doc! {"failCommands": ["commitTransaction"], "writeConcernError": concern}).await;
    let unknown = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let TransactionError::CommitUnknown(failure) = unknown.await.unwrap_err() else { panic!("not unknown") };
    assert_eq!(failure.reason(), Reason::WRITE_CONCERN);
    let server = env.reconciled().await;
    assert_eq!((server.committed, server.aborted), (1, 0));
}

#[tokio::test]
async fn transient_commit_error_retries_callback() {
    let env = Environment::start().await;
    let items = env.items();
    env.fail_times(1, doc! {"failCommands": ["commitTransaction"], "errorCode": 251}).await;
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    assert_eq!(committed.await.unwrap().attempts, 2);
    assert_eq!(env.aborted_for("no_such_transaction"), 1.0);
    // The error is injected: the server has not aborted, and the first transaction is ended by its session.
    env.wait_idle().await;
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn deadline_ends_slow_statement() {
    let env = Environment::start().await;
    let items = env.items();
    // Once, and for longer than the test would wait for the statement.
    let slow = doc! {"failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 600_000};
    env.fail_times(1, slow).await;
    let failed = env
        .runner
        .transaction()
        .named(OPERATION)
        .deadline(Instant::now() + Duration::from_secs(2))
        .run(async |mut tx| {
            items.insert_one(doc! {}).session(&mut tx).await?;
            Ok::<_, Abort>(())
        })
        .await
        .unwrap_err();
    let TransactionError::Failed(failure) = failed else { panic!("not failed") };
    assert_eq!(failure.reason(), Reason::TIMEOUT);
    env.reconciled().await;
    assert_eq!((env.aborted_for("timeout"), env.cleanups("fenced")), (1.0, 1.0));
    assert_eq!(env.items_of_others().count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn max_attempts_keeps_last_driver_error() {
    let env = Environment::start().await;
    let items = env.items();
    let failpoint = env
        .fail(
            doc! {"failCommands": ["insert"], "errorCode": 112, "errorLabels": ["TransientTransactionError"]},
        )
        .await;
    let work = async |mut tx: txnscope::Transaction| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    };
    let runner = env.runner.clone().max_attempts(3);
    let failed = runner.run_as(OPERATION, work).await.unwrap_err();
    let TransactionError::Failed(failure) = failed else { panic!("not failed") };
    assert_eq!((failure.reason(), failure.attempts()), (Reason::WRITE_CONFLICT, 3));
    assert!(failure.driver_error().is_some());

    let runner = env.runner.clone().time_limit(Duration::from_secs(2));
    let failed = runner.run_as(OPERATION, work).await.unwrap_err();
    let TransactionError::Failed(failure) = failed else { panic!("not failed") };
    assert_eq!(failure.reason(), Reason::WRITE_CONFLICT, "{failure}");
    assert!(matches!(failure.cause(), Cause::Deadline(Some(_))) && failure.attempts() > 1, "{failure:?}");
    failpoint.off().await.unwrap();
    env.wait_idle().await;
}

#[tokio::test]
async fn refused_first_statement_counts_as_not_started() {
    let env = Environment::start().await;
    let items = env.items();
    let refused =
        doc! {"failCommands": ["insert"], "errorCode": 13436, "errorLabels": ["TransientTransactionError"]};
    env.fail_times(1, refused).await;
    let committed = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        items.insert_one(doc! {}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    assert_eq!(committed.await.unwrap().attempts, 2);
    let server = env.reconciled().await;
    assert_eq!((server.started, env.not_started("refused")), (1, 1.0));
    assert_eq!(env.aborted_for("not_primary"), 1.0);
}

#[tokio::test]
async fn open_transactions_list_names_the_operation() {
    let env = Environment::start().await;
    let items = env.items();
    let (began, begun) = tokio::sync::oneshot::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let (began, ended) = (std::cell::Cell::new(Some(began)), std::cell::Cell::new(Some(ended)));
    let look = async {
        begun.await.unwrap();
        let pipeline = vec![
            doc! {"$currentOp": {"allUsers": true, "idleSessions": true}},
            doc! {"$match": {"transaction.parameters.autocommit": false}},
        ];
        let command = doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}};
        let reply = env.admin.database("admin").run_command(command).await.unwrap();
        let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        let session = batch[0].as_document().unwrap();
        let row = &env.metrics.registry().open_transactions().list()[0];
        let parameters = session.get_document("transaction").unwrap().get_document("parameters").unwrap();
        assert_eq!(row.txn_number, Some(parameters.get_i64("txnNumber").unwrap()));
        let Some(mongodb::bson::Bson::Binary(id)) = session.get_document("lsid").unwrap().get("id").cloned()
        else {
            panic!("{session}")
        };
        assert_eq!(
            row.lsid.replace('-', ""),
            id.bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
        );
        assert_eq!(row.operation, OPERATION);
        end.send(()).unwrap();
    };
    let run = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(Document::new()).session(&mut tx).await?;
        began.take().unwrap().send(()).unwrap();
        ended.take().unwrap().await.unwrap();
        Ok::<_, Abort>(())
    });
    let (committed, ()) = tokio::join!(run, look);
    committed.unwrap();
    env.reconciled().await;
}
