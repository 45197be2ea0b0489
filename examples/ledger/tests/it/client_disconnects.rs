//! Clients that disconnect: no transaction stays open, and the counters still reconcile.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures_util::future::join_all;
use mongodb::bson::doc;
use rand::Rng;
use serde_json::json;
use testkit::wait::until;

use crate::environment::with_ledger;

#[test]
fn client_disconnect_at_any_moment_is_safe() -> Result<()> {
    with_ledger(async |bench| {
        let retainers =
            futures_util::future::try_join_all((0..8).map(|_| bench.retainer(json!(1000)))).await?;
        let operation = "POST /api/retainers/{id}/consume";
        let in_flight = [("operation", operation)];
        // On a slow machine all disconnect before their request arrives, and on a fast one none does: more are sent
        // then.
        until("some to have left in the middle", async || {
            let requests = (0..200).map(|at| {
                let path = format!("/api/retainers/{}/consume", retainers[at % retainers.len()]);
                let patience = Duration::from_micros(rand::rng().random_range(100..60_000));
                async move {
                    let request = bench.request(reqwest::Method::POST, &path).timeout(patience);
                    request.json(&json!({ "amount": 1, "description": "" })).send().await.is_ok()
                }
            });
            let answered = join_all(requests).await.into_iter().filter(|answered| *answered).count();
            let left = bench.failures(operation, "cancelled", "cancelled").await?;
            ensure!(left > 0.0, "{answered} of 200 were answered");
            Ok(())
        })
        .await?;
        until("nothing is in flight", async || {
            let scrape = bench.scrape().await?;
            ensure!(scrape.value("concurrent_operations", &in_flight) == Some(0.0));
            Ok(())
        })
        .await?;
        // For some the first statement was running. The server would keep such a transaction open for a minute; the
        // limit here is half of that.
        bench.no_transaction_is_open().await?;
        bench.assert_attempts_are_accounted_for().await?;
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn disconnected_client_transaction_is_not_committed() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        // The first statement is delayed, and the client disconnects meanwhile.
        let block = doc! { "failCommands": ["findAndModify"], "blockConnection": true, "blockTimeMS": 3_000 };
        let slow = bench.fail(Some(1), block).await?;
        let path = format!("/api/retainers/{id}/consume");
        let request = bench.request(reqwest::Method::POST, &path);
        let request = request.json(&json!({ "amount": 800, "description": "" })).send();
        tokio::select! {
            answer = request => bail!("it did not wait for its statement: {answer:?}"),
            begun = slow.fired() => begun?,
        }
        let operation = "POST /api/retainers/{id}/consume";
        until("the layer has seen the client leave", async || {
            ensure!(bench.failures(operation, "cancelled", "cancelled").await? == 1.0);
            Ok(())
        })
        .await?;
        slow.off().await?;
        bench.no_transaction_is_open().await?;
        // Both orders occur; no lock may remain in either, so this succeeds at once.
        bench.post(&path, json!({ "amount": 100, "description": "" })).await?.expect(200)?;
        ensure!(bench.retainer_balance(&id).await? == 900);
        bench.assert_counters_reconcile().await
    })
}
