//! Concurrent requests for the same money.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use mongodb::bson::doc;
use serde_json::json;

use crate::environment::{Answer, with_ledger};

/// The number of responses with that status, and that text if they are errors.
fn count(answers: &[Answer], status: u16, error: Option<&str>) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status == status && error.is_none_or(|error| answer.json["error"] == error))
        .count()
}

fn exactly_one(answers: &[Answer], status: u16, error: &str) -> Result<()> {
    ensure!(count(answers, status, None) == 1, "{answers:?}");
    ensure!(count(answers, 400, Some(error)) == answers.len() - 1, "{answers:?}");
    Ok(())
}

#[test]
fn exactly_one_of_ten_consumptions_succeeds() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let path = format!("/api/retainers/{id}/consume");
        let consume = || bench.post(&path, json!({ "amount": 800, "description": "race" }));
        let answers = try_join_all((0..10).map(|_| consume())).await?;
        exactly_one(&answers, 200, "Insufficient balance")?;
        ensure!(bench.retainer_balance(&id).await? == 200);
        let operation = "POST /api/retainers/{id}/consume";
        ensure!(bench.failures(operation, "rejected", "insufficient_balance").await? == 9.0);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn exactly_one_of_ten_completions_succeeds() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.payment("pending", Some("i-1")).await?.created("payment")?;
        let path = format!("/api/payments/{id}/complete");
        let answers = try_join_all((0..10).map(|_| bench.post(&path, json!({})))).await?;
        exactly_one(&answers, 200, "Payment already completed")?;
        ensure!(bench.count("generalLedger", doc! {}).await? == 2);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn exactly_one_of_ten_payments_of_one_invoice_is_completed() -> Result<()> {
    with_ledger(async |bench| {
        let created = try_join_all((0..10).map(|_| bench.payment("pending", Some("i-1")))).await?;
        let mut paths = Vec::new();
        for answer in created {
            paths.push(format!("/api/payments/{}/complete", answer.created("payment")?));
        }
        let answers = try_join_all(paths.iter().map(|path| bench.post(path, json!({})))).await?;
        exactly_one(&answers, 200, "Invoice already paid")?;
        let answers = try_join_all((0..10).map(|_| bench.payment("completed", Some("i-2")))).await?;
        exactly_one(&answers, 201, "Invoice already paid")?;
        ensure!(bench.count("payments", doc! { "status": "completed" }).await? == 2);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn exactly_one_of_ten_transfers_succeeds() -> Result<()> {
    with_ledger(async |bench| {
        let (from, to) = (bench.account("EUR", json!(1000)).await?, bench.account("EUR", json!(0)).await?);
        let answers = try_join_all((0..10).map(|_| bench.transfer(&from, &to, json!(800)))).await?;
        exactly_one(&answers, 201, "Insufficient balance")?;
        ensure!(bench.account_balance(&from).await? == 200);
        ensure!(bench.account_balance(&to).await? == 800);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn exactly_one_of_ten_cancellations_succeeds() -> Result<()> {
    with_ledger(async |bench| {
        let (from, to) = (bench.account("EUR", json!(1000)).await?, bench.account("EUR", json!(5000)).await?);
        let id = bench.transfer(&from, &to, json!(800)).await?.created("transfer")?;
        let path = format!("/api/bank-transfers/{id}/cancel");
        let answers = try_join_all((0..10).map(|_| bench.post(&path, json!({})))).await?;
        exactly_one(&answers, 200, "Transfer already cancelled")?;
        ensure!(bench.account_balance(&from).await? == 1000);
        ensure!(bench.account_balance(&to).await? == 5000);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn opposite_transfers_all_succeed() -> Result<()> {
    with_ledger(async |bench| {
        let (a, b) = (bench.account("EUR", json!(1000)).await?, bench.account("EUR", json!(1000)).await?);
        let there = (0..20).map(|_| bench.transfer(&a, &b, json!(7.25)));
        let back = (0..20).map(|_| bench.transfer(&b, &a, json!(2.25)));
        let (there, back) = tokio::join!(try_join_all(there), try_join_all(back));
        let (there, back) = (there?, back?);
        ensure!(count(&there, 201, None) == 20 && count(&back, 201, None) == 20, "{there:?} {back:?}");
        ensure!(bench.account_balance(&a).await? == 900);
        ensure!(bench.account_balance(&b).await? == 1100);
        bench.assert_counters_reconcile().await
    })
}
