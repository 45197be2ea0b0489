//! Overloaded servers: counterparts of `backpressure-retryable-reads`, `backpressure-retryable-writes`,
//! `backpressure-retryable-commit` and `backpressure-retryable-abort`.
//!
//! The driver retries such a command itself, twice by default, and the runner receives the last error.

use mongodb::bson::{Document, doc};
use txnscope::{Abort, Reason, TransactionError};

use super::cases::{Case, Expected, check, commits};
use super::spec_env::SpecEnv;
use crate::env::OPERATION;

/// How often the driver sends one command.
const TRIES: usize = 3;

/// As in MongoDB's files, with a code that has another meaning without the labels; and as the server sends it.
const CODES: [i32; 2] = [112, 462];

fn overloaded(command: &str, code: i32) -> Document {
    let labels = ["RetryableError", "SystemOverloadedError"];
    doc! {"failCommands": [command], "errorCode": code, "errorLabels": labels.to_vec()}
}

/// A transaction of an `insert`, a `find` and an `update`, of which one is rejected `times` times.
async fn refused_statement(spec: &mut SpecEnv, command: &str, code: i32, times: i32) {
    spec.reset().await;
    let (env, name) = (&spec.env, format!("{command} {code} {times} times"));
    let is_first = command == "insert";
    if is_first {
        env.fail_times(times, overloaded(command, code)).await;
    }
    let items = env.items();
    let ended = env.runner.run_as(OPERATION, async |mut tx| {
        items.insert_one(doc! {"_id": 1}).session(&mut tx).await?;
        // Set the failpoint only now: with the first statement the server itself reads the session, with a `find`.
        if !is_first {
            env.fail_times(times, overloaded(command, code)).await;
        }
        items.find_one(doc! {"_id": 1}).session(&mut tx).await?;
        items.update_one(doc! {"_id": 1}, doc! {"$set": {"paid": true}}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    let ended = ended.await;
    let refusals = usize::try_from(times).unwrap();
    let server = env.reconciled().await;
    assert_eq!(spec.sent(command).len(), TRIES.min(refusals + 1), "{name}");
    if refusals < TRIES {
        assert_eq!(ended.unwrap().attempts, 1, "{name}");
        assert_eq!(env.driver(), [1.0, 1.0, 0.0, 0.0, 0.0], "{name}");
        assert_eq!((server.started, server.committed, env.not_started("refused")), (1, 1, 0.0), "{name}");
        assert_eq!(spec.committed().await, [1], "{name}");
    } else {
        let Err(TransactionError::Failed(failure)) = ended else { panic!("{name}: {ended:?}") };
        assert_eq!((failure.reason(), failure.is_transient()), (Reason::OVERLOADED, true), "{name}");
        assert_eq!((env.driver(), env.aborted_for("overloaded")), ([1.0, 0.0, 1.0, 0.0, 0.0], 1.0), "{name}");
        // A first statement that is rejected this way has started nothing.
        let begun = i64::from(!is_first);
        assert_eq!((server.started, server.aborted), (begun, begun), "{name}");
        assert_eq!(env.not_started("refused"), f64::from(u8::from(is_first)), "{name}");
        assert_eq!(spec.committed().await, [0; 0], "{name}");
    }
}

#[tokio::test]
async fn reads_are_retried_if_backpressure_labels_are_added() {
    let mut spec = SpecEnv::start().await;
    for code in CODES {
        refused_statement(&mut spec, "find", code, 1).await;
        refused_statement(&mut spec, "find", code, 3).await;
    }
}

#[tokio::test]
async fn writes_are_retried_if_backpressure_labels_are_added() {
    let mut spec = SpecEnv::start().await;
    for code in CODES {
        refused_statement(&mut spec, "update", code, 1).await;
        refused_statement(&mut spec, "update", code, 3).await;
    }
}

#[tokio::test]
async fn overloaded_first_statement_starts_with_driver_retry() {
    let mut spec = SpecEnv::start().await;
    for code in CODES {
        refused_statement(&mut spec, "insert", code, 1).await;
        refused_statement(&mut spec, "insert", code, 3).await;
    }
}

#[tokio::test]
async fn overloaded_commit_is_retried_by_driver_then_runner() {
    let mut cases = Vec::new();
    for code in CODES {
        let name = |what: &str| format!("commitTransaction {what}: {code}");
        let fails = overloaded("commitTransaction", code);
        cases.push(Case::new(name("retries if backpressure labels are added"), 2, fails.clone(), commits(3)));
        cases.push(Case::new(name("is retried by the runner as well"), 5, fails, commits(6)));
    }
    check(&mut SpecEnv::start().await, &cases).await;
}

/// The driver does not report that the server rejected the last abort. The transaction then ends with the session's
/// next one.
#[tokio::test]
async fn rejection_stays_rejection_when_abort_is_overloaded() {
    let mut cases = Vec::new();
    for code in CODES {
        for times in [2, 3] {
            let name = format!("abortTransaction is refused {times} times: {code}");
            cases.push(Case::new(
                name,
                times,
                overloaded("abortTransaction", code),
                Expected::Rejected { aborts: TRIES },
            ));
        }
    }
    check(&mut SpecEnv::start().await, &cases).await;
}
