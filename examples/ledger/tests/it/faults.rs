//! A database that is unavailable, fails, or does not report the result of a commit.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use testkit::ReplicaSet;
use testkit::wait::until;

use crate::environment::{Answer, Bench, block_on, with_deadline, with_ledger};

const CONSUME: &str = "POST /api/retainers/{id}/consume";
/// For requests that end at the deadline: long enough for a busy machine to reach the tested state. Requests that
/// must end earlier use the ledger's default.
const DEADLINE: Duration = Duration::from_secs(4);

const UNAVAILABLE: &str = "The database is not available; nothing was changed, try again";

fn consumption(cents: i64) -> Value {
    json!({ "amount": cents, "description": "" })
}

/// Consumes 1 from 1,000 while commands fail, and returns the response and the balance afterwards.
async fn consume_while(bench: &Bench, times: Option<i32>, failure: Document) -> Result<(Answer, Value)> {
    let (answer, id) = consume_of_new_retainer(bench, times, failure).await?;
    Ok((answer, bench.retainer_balance(&id).await?))
}

/// As `consume_while`, and also returns the retainer.
async fn consume_of_new_retainer(
    bench: &Bench,
    times: Option<i32>,
    failure: Document,
) -> Result<(Answer, String)> {
    let id = bench.retainer(json!(1000)).await?;
    let failing = bench.fail(times, failure).await?;
    let answer = bench.post(&format!("/api/retainers/{id}/consume"), consumption(1)).await;
    failing.off().await?;
    let answer = answer?;
    bench.no_transaction_is_open().await?;
    Ok((answer, id))
}

#[test]
fn transient_error_is_retried() -> Result<()> {
    with_ledger(async |bench| {
        for data in [
            doc! { "failCommands": ["findAndModify"], "errorCode": 112, "errorLabels": ["TransientTransactionError"] },
            doc! { "failCommands": ["insert"], "errorCode": 251, "errorLabels": ["TransientTransactionError"] },
            doc! { "failCommands": ["findAndModify"], "closeConnection": true },
            doc! { "failCommands": ["commitTransaction"], "errorCode": 112, "errorLabels": ["TransientTransactionError"] },
            doc! { "failCommands": ["commitTransaction"], "closeConnection": true },
        ] {
            let (answer, balance) = consume_while(bench, Some(2), data.clone()).await?;
            answer.expect(200)?;
            ensure!(balance == 999, "{balance} after {data}");
        }
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn lasting_transient_error_ends_at_deadline() -> Result<()> {
    with_deadline(DEADLINE, async |bench| {
        let conflict = doc! { "failCommands": ["findAndModify"], "errorCode": 112, "errorLabels": ["TransientTransactionError"] };
        let (answer, balance) = consume_while(bench, None, conflict).await?;
        let answer = answer.expect_error(503, UNAVAILABLE)?;
        ensure!(answer.header("retry-after") == Some("1"));
        ensure!(balance == 1000);
        ensure!(bench.failures(CONSUME, "failed", "write_conflict").await? == 1.0);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn permanent_error_is_not_retried() -> Result<()> {
    with_ledger(async |bench| {
        for (code, reason) in
            [(257, "transaction_too_large"), (290, "transaction_expired"), (225, "transaction_too_old")]
        {
            let failure =
                doc! { "failCommands": ["insert"], "errorCode": code, "errorLabels": Vec::<String>::new() };
            let (answer, balance) = consume_while(bench, None, failure).await?;
            answer.expect_error(500, "Internal error; nothing was changed")?;
            ensure!(balance == 1000);
            ensure!(bench.failures(CONSUME, "failed", reason).await? == 1.0, "{reason}");
        }
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn commit_without_result_is_reported_as_unknown() -> Result<()> {
    with_deadline(DEADLINE, async |bench| {
        let mut unknown = 0.0;
        for data in [
            // The server's own time limit: a retry would make the caller wait for as long again.
            doc! { "failCommands": ["commitTransaction"], "errorCode": 50 },
            // The server does not respond until the deadline.
            doc! { "failCommands": ["commitTransaction"], "closeConnection": true },
            // Committed, but without the requested write concern.
            doc! { "failCommands": ["commitTransaction"], "writeConcernError": { "code": 100, "errmsg": "too few" } },
        ] {
            let (answer, id) = consume_of_new_retainer(bench, None, data.clone()).await?;
            let answer = answer.expect_error_about(503, "retry with the same Idempotency-Key")?;
            ensure!(answer.header("retry-after") == Some("1"));
            // The caller wanted the commit, so it is completed in the background. A majority has it a little later.
            until("the completion of the commit", async || {
                let balance = bench.retainer_balance(&id).await?;
                ensure!(balance == 999, "{balance} after {data}");
                Ok(())
            })
            .await?;
            unknown += 1.0;
            ensure!(bench.failures(CONSUME, "failed", "commit_unknown").await? == unknown, "{data}");
        }
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn retry_after_unknown_commit_takes_effect_once() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let path = format!("/api/retainers/{id}/consume");
        // This transaction is committed, but the client does not receive the result.
        let data = doc! { "failCommands": ["commitTransaction"], "writeConcernError": { "code": 100, "errmsg": "too few" } };
        let failing = bench.fail(Some(1), data).await?;
        bench.post_with_key(&path, "k", consumption(800)).await?.expect(503)?;
        failing.off().await?;
        let again = bench.post_with_key(&path, "k", consumption(800)).await?.expect(200)?;
        ensure!(again.header("idempotency-replayed") == Some("true"));
        ensure!(bench.retainer_balance(&id).await? == 200);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn database_error_text_is_not_exposed() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let data = doc! { "failCommands": ["find", "findAndModify", "insert"], "errorCode": 8 };
        let failing = bench.fail(None, data).await?;
        let answers = [
            bench.post(&format!("/api/retainers/{id}/consume"), consumption(1)).await?,
            bench.get(&format!("/api/retainers/{id}")).await?,
            bench.payment("pending", None).await?,
        ];
        failing.off().await?;
        for answer in answers {
            answer.expect_error(500, "Internal error; nothing was changed")?;
        }
        ensure!(bench.failures(CONSUME, "failed", "other").await? == 1.0);
        Ok(())
    })
}

#[test]
fn paused_mongod_is_survived() -> Result<()> {
    block_on(async {
        // A separate server, because everything else on it is paused as well.
        let replica_set = Arc::new(ReplicaSet::start(1).await?);
        let options = "&serverSelectionTimeoutMS=1000&heartbeatFrequencyMS=500&connectTimeoutMS=1000";
        let bench = Bench::start(Arc::clone(&replica_set), DEADLINE, options).await?;
        let id = bench.retainer(json!(1000)).await?;
        let path = format!("/api/retainers/{id}/consume");
        bench.post(&path, consumption(100)).await?.expect(200)?;
        let mongod = &replica_set.members()[0];
        mongod.pause()?;

        let answer = bench.post_with_key(&path, "k", consumption(100)).await?.expect(503)?;
        ensure!(answer.header("retry-after") == Some("1"));
        ensure!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
        let read = bench.get(&format!("/api/retainers/{id}")).await?.expect_error(503, UNAVAILABLE)?;
        ensure!(read.header("retry-after") == Some("1"));
        ensure!(bench.get("/-/ready").await?.status == 503);
        ensure!(bench.get("/-/healthy").await?.status == 200);
        // At some point the driver marks the server as unavailable, and fails without waiting.
        until("the driver has missed the server", async || {
            let answer = bench.post(&path, consumption(100)).await?.expect(503)?;
            let found = bench.failures(CONSUME, "failed", "server_selection").await?;
            ensure!(found > 0.0, "{}", answer.text);
            Ok(())
        })
        .await?;

        mongod.resume()?;
        until("the ledger is ready again", async || {
            ensure!(bench.get("/-/ready").await?.status == 200);
            Ok(())
        })
        .await?;
        bench.no_transaction_is_open().await?;
        // Whether or not the first request took effect after resuming, the retry has exactly one effect.
        let before = bench.retainer_balance(&id).await?;
        let again = bench.post_with_key(&path, "k", consumption(100)).await?.expect(200)?;
        ensure!(again.json["retainer"]["currentBalance"] == 800, "{before} before {}", again.text);
        bench.assert_attempts_are_accounted_for().await?;
        bench.assert_counters_reconcile().await?;
        bench.end().await
    })
}
