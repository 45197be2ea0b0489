//! Retries of a request: one effect, one response.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use serde_json::json;

use crate::environment::with_ledger;

#[test]
fn retry_gets_first_response_byte_for_byte() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let path = format!("/api/retainers/{id}/consume");
        let body = json!({ "amount": 300.5, "description": "work" });
        let first = bench.post_with_key(&path, "key-1", body.clone()).await?.expect(200)?;
        ensure!(first.header("idempotency-replayed").is_none());
        // Changes in between are not visible in the replayed response.
        bench.post(&path, json!({ "amount": 100, "description": "other" })).await?.expect(200)?;
        let again = bench.post_with_key(&path, "key-1", body.clone()).await?.expect(200)?;
        ensure!(again.text == first.text, "{} became {}", first.text, again.text);
        ensure!(again.header("idempotency-replayed") == Some("true"));
        ensure!(again.header("content-type") == first.header("content-type"));
        // The same id in capitals is the same retainer.
        let capitals = format!("/api/retainers/{}/consume", id.to_uppercase());
        let again = bench.post_with_key(&capitals, "key-1", body.clone()).await?.expect(200)?;
        ensure!(again.text == first.text);
        ensure!(bench.retainer_balance(&id).await? == 599.5);
        // Another route has another key.
        let other = bench
            .post_with_key(&format!("/api/retainers/{id}/replenish"), "key-1", body)
            .await?
            .expect(200)?;
        ensure!(other.header("idempotency-replayed").is_none());
        ensure!(bench.retainer_balance(&id).await? == 900);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn creations_are_replayed() -> Result<()> {
    with_ledger(async |bench| {
        let body = json!({ "clientId": "c", "retainerType": "t", "initialAmount": 10 });
        let first = bench.post_with_key("/api/retainers", "k", body.clone()).await?.expect(201)?;
        let again = bench.post_with_key("/api/retainers", "k", body).await?.expect(201)?;
        ensure!(first.text == again.text);
        ensure!(bench.count("retainers", doc! {}).await? == 1);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn key_with_other_body_is_rejected() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let path = format!("/api/retainers/{id}/consume");
        bench.post_with_key(&path, "k", json!({ "amount": 1, "description": "" })).await?.expect(200)?;
        let other = bench.post_with_key(&path, "k", json!({ "amount": 2, "description": "" })).await?;
        other.expect_error_about(422, "used with another body")?;
        ensure!(bench.retainer_balance(&id).await? == 999);
        let operation = "POST /api/retainers/{id}/consume";
        ensure!(bench.failures(operation, "rejected", "idempotency_key_reused").await? == 1.0);
        Ok(())
    })
}

#[test]
fn rejection_is_replayed_even_if_it_would_succeed_now() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(100)).await?;
        let path = format!("/api/retainers/{id}/consume");
        let body = json!({ "amount": 800, "description": "" });
        let first =
            bench.post_with_key(&path, "k", body.clone()).await?.expect_error(400, "Insufficient balance")?;
        ensure!(bench.count("idempotencyKeys", doc! {}).await? == 1, "the rejection is recorded");
        bench.post(&format!("/api/retainers/{id}/replenish"), json!({ "amount": 900 })).await?.expect(200)?;
        let again = bench.post_with_key(&path, "k", body.clone()).await?.expect(400)?;
        ensure!(again.text == first.text && again.header("idempotency-replayed") == Some("true"));
        ensure!(bench.retainer_balance(&id).await? == 1000);
        // A replayed response counts with its original outcome.
        let operation = "POST /api/retainers/{id}/consume";
        ensure!(bench.failures(operation, "rejected", "insufficient_balance").await? == 2.0);
        bench.post_with_key(&path, "k2", body).await?.expect(200)?;
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn invalid_request_is_not_recorded() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(100)).await?;
        let path = format!("/api/retainers/{id}/consume");
        bench.post_with_key(&path, "k", json!({ "amount": 1.001 })).await?.expect(400)?;
        bench.post_with_key(&path, "k", json!({ "amount": 1 })).await?.expect(200)?;
        for key in ["two words", &"k".repeat(256)] {
            let answer = bench.post_with_key(&path, key, json!({ "amount": 1 })).await?;
            answer.expect_error_about(400, "Idempotency-Key must be 1 to 255 visible ASCII characters")?;
        }
        ensure!(bench.retainer_balance(&id).await? == 99);
        Ok(())
    })
}

#[test]
fn twenty_concurrent_retries_take_effect_once() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let (from, to) = (bench.account("EUR", json!(1000)).await?, bench.account("EUR", json!(0)).await?);
        let requests = [
            (format!("/api/retainers/{id}/consume"), json!({ "amount": 100, "description": "" })),
            ("/api/bank-transfers".to_owned(), crate::environment::transfer(&from, &to, json!(100))),
            (
                "/api/retainers".to_owned(),
                json!({ "clientId": "once", "retainerType": "t", "initialAmount": 5 }),
            ),
            // A completed payment of an invoice: the key must be found before the unique index rejects the write.
            (
                "/api/payments".to_owned(),
                json!({ "customerId": "c", "amount": 1, "paymentMethod": "card", "status": "completed", "invoiceId": "i" }),
            ),
            // A rejection.
            (format!("/api/retainers/{id}/consume"), json!({ "amount": 5000, "description": "" })),
        ];
        for (at, (path, body)) in requests.into_iter().enumerate() {
            let key = format!("key-{at}");
            let answers =
                try_join_all((0..20).map(|_| bench.post_with_key(&path, &key, body.clone()))).await?;
            let first = &answers[0];
            ensure!(first.status < 500, "{first:?}");
            ensure!(
                answers.iter().all(|answer| (answer.status, &answer.text) == (first.status, &first.text)),
                "{answers:?}"
            );
            let replayed =
                answers.iter().filter(|answer| answer.header("idempotency-replayed").is_some()).count();
            ensure!(replayed == 19, "{replayed} of 20 are replayed: {path}");
        }
        ensure!(bench.retainer_balance(&id).await? == 900);
        ensure!(bench.account_balance(&from).await? == 900);
        ensure!(bench.count("retainers", doc! { "clientId": "once" }).await? == 1);
        ensure!(bench.count("payments", doc! {}).await? == 1);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn idempotency_records_expire_after_a_day() -> Result<()> {
    with_ledger(async |bench| {
        let mut indexes = bench.database().collection::<Document>("idempotencyKeys").list_indexes().await?;
        let mut expiry = None;
        while indexes.advance().await? {
            let index: IndexModel = indexes.deserialize_current()?;
            expiry = expiry.or(index.options.and_then(|options| options.expire_after));
        }
        ensure!(expiry.is_some_and(|expiry| expiry.as_secs() == 86_400), "{expiry:?}");
        let id = bench.retainer(json!(1)).await?;
        let body = json!({ "amount": 1, "description": "" });
        bench.post_with_key(&format!("/api/retainers/{id}/consume"), "k", body).await?.expect(200)?;
        // The server's expiry uses dates only.
        ensure!(bench.count("idempotencyKeys", doc! { "createdAt": { "$type": "date" } }).await? == 1);
        Ok(())
    })
}
