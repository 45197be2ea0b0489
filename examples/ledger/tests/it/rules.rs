//! The business rules: each rejects with its own message and changes nothing.

use anyhow::{Result, ensure};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

use crate::environment::{Bench, transfer, with_ledger};

const UNKNOWN: &str = "0123456789abcdef01234567";

#[test]
fn amounts_are_exact_or_rejected() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(0)).await?;
        let path = format!("/api/retainers/{id}/replenish");
        for (literal, balance) in
            [("0.1", "0.1"), ("0.2", "0.3"), ("0.29", "0.59"), ("199.41", "200"), ("0.50", "200.5")]
        {
            let body = format!(r#"{{"amount":{literal},"description":"d"}}"#);
            let answer = bench.post_text(&path, &body).await?.expect(200)?;
            ensure!(
                answer.text.contains(&format!(r#""currentBalance":{balance},"#)),
                "{literal}: {}",
                answer.text
            );
        }
        for (literal, about) in [
            ("1.005", "at most two decimals"),
            ("1e2", "without an exponent"),
            ("0", "more than 0"),
            ("0.00", "more than 0"),
            ("-1", "must not be negative"),
            ("\"200\"", "without quotes"),
            ("null", "plain JSON number"),
            ("true", "plain JSON number"),
            ("9007199254740993", "must not be larger than 9999999999999.99"),
            ("10000000000000", "must not be larger than 9999999999999.99"),
        ] {
            let body = format!(r#"{{"amount":{literal},"description":"d"}}"#);
            for action in ["replenish", "consume"] {
                let answer = bench.post_text(&format!("/api/retainers/{id}/{action}"), &body).await?;
                answer.expect_error_about(400, about)?;
            }
        }
        let stored = bench.database().collection::<Document>("retainers").find_one(doc! {}).await?;
        ensure!(stored.is_some_and(|stored| stored.get_i64("currentBalance").ok() == Some(20_050)));
        for (path, body) in [
            ("/api/retainers", json!({ "clientId": "c", "retainerType": "t", "initialAmount": -1 })),
            (
                "/api/payments",
                json!({ "customerId": "c", "amount": 0, "paymentMethod": "card", "status": "pending" }),
            ),
            (
                "/api/bank-accounts",
                json!({ "name": "n", "accountNumber": "1", "bankName": "b", "currency": "EUR", "balance": -0.01 }),
            ),
            ("/api/bank-transfers", transfer(&id, UNKNOWN, json!(0))),
        ] {
            bench.post(path, body).await?.expect_error_about(400, " must ")?;
        }
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn balance_has_an_upper_bound() -> Result<()> {
    with_ledger(async |bench| {
        let most = "9999999999999.99";
        let body = format!(r#"{{"clientId":"c","retainerType":"t","initialAmount":{most}}}"#);
        let full = bench.post_text("/api/retainers", &body).await?;
        ensure!(full.text.contains(&format!(r#""currentBalance":{most},"#)), "{}", full.text);
        let full = full.created("retainer")?;
        let limit = "The balance would exceed 9999999999999.99";
        bench
            .post(&format!("/api/retainers/{full}/replenish"), json!({ "amount": 0.01 }))
            .await?
            .expect_error(400, limit)?;
        let rich = bench.account("EUR", serde_json::from_str(most)?).await?;
        let other = bench.account("EUR", json!(1)).await?;
        bench.transfer(&other, &rich, json!(0.01)).await?.expect_error(400, limit)?;
        ensure!(bench.account_balance(&other).await? == 1);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn retainer_cannot_be_overdrawn() -> Result<()> {
    with_ledger(async |bench| {
        let id = bench.retainer(json!(1000)).await?;
        let consume = format!("/api/retainers/{id}/consume");
        bench
            .post(&consume, json!({ "amount": 1000.01, "description": "" }))
            .await?
            .expect_error(400, "Insufficient balance")?;
        ensure!(bench.retainer_balance(&id).await? == 1000);
        bench.post(&consume, json!({ "amount": 1000, "description": "" })).await?.expect(200)?;
        bench
            .post(&consume, json!({ "amount": 0.01, "description": "" }))
            .await?
            .expect_error(400, "Insufficient balance")?;
        ensure!(bench.retainer_balance(&id).await? == 0);
        let operation = "POST /api/retainers/{id}/consume";
        ensure!(bench.failures(operation, "rejected", "insufficient_balance").await? == 2.0);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn payment_is_completed_once() -> Result<()> {
    with_ledger(async |bench| {
        for status in ["pending", "processing"] {
            let id = bench.payment(status, None).await?.created("payment")?;
            complete(bench, &id).await?.expect(200)?;
            complete(bench, &id).await?.expect_error(400, "Payment already completed")?;
        }
        // A payment that is completed at creation is posted at creation.
        let id = bench.payment("completed", None).await?.created("payment")?;
        ensure!(bench.count("generalLedger", doc! { "account": "cash" }).await? == 3);
        complete(bench, &id).await?.expect_error(400, "Payment already completed")?;
        for (status, error) in [
            ("failed", "A failed payment cannot be completed"),
            ("cancelled", "A cancelled payment cannot be completed"),
        ] {
            let id = bench.payment(status, None).await?.created("payment")?;
            complete(bench, &id).await?.expect_error(400, error)?;
        }
        bench.payment("paid", None).await?.expect_error_about(400, "unknown variant `paid`")?;
        let operation = "POST /api/payments/{id}/complete";
        ensure!(bench.failures(operation, "rejected", "payment_already_completed").await? == 3.0);
        ensure!(bench.failures(operation, "rejected", "payment_not_completable").await? == 2.0);
        ensure!(bench.count("generalLedger", doc! { "account": "receivables" }).await? == 3);
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn invoice_is_paid_once() -> Result<()> {
    with_ledger(async |bench| {
        let first = bench.payment("pending", Some("i-1")).await?.created("payment")?;
        let second = bench.payment("pending", Some("i-1")).await?.created("payment")?;
        complete(bench, &first).await?.expect(200)?;
        complete(bench, &second).await?.expect_error(400, "Invoice already paid")?;
        bench.payment("completed", Some("i-1")).await?.expect_error(400, "Invoice already paid")?;
        bench.payment("pending", Some("i-1")).await?.expect(201)?;
        bench.payment("completed", Some("i-2")).await?.expect(201)?;
        // Without an invoice any number of payments may be completed.
        bench.payment("completed", None).await?.expect(201)?;
        bench.payment("completed", None).await?.expect(201)?;
        let read = bench.get(&format!("/api/payments/{second}")).await?.expect(200)?;
        ensure!(read.json["payment"]["status"] == "pending", "{}", read.text);
        bench.assert_counters_reconcile().await
    })
}

async fn complete(bench: &Bench, id: &str) -> Result<crate::environment::Answer> {
    bench.post(&format!("/api/payments/{id}/complete"), json!({})).await
}

#[test]
fn transfer_needs_two_matching_accounts() -> Result<()> {
    with_ledger(async |bench| {
        let euros = bench.account("EUR", json!(1000)).await?;
        let others = bench.account("EUR", json!(0)).await?;
        let dollars = bench.account("USD", json!(1000)).await?;
        let hundred = || json!(100);
        let different = "fromAccountId and toAccountId must be different accounts";
        bench.transfer(&euros, &euros, hundred()).await?.expect_error(400, different)?;
        bench.transfer(&euros, &euros.to_uppercase(), hundred()).await?.expect_error(400, different)?;
        let mismatch = bench.transfer(&euros, &dollars, hundred()).await?;
        mismatch.expect_error(400, "The accounts have different currencies")?;
        let unknown = bench.transfer(&euros, UNKNOWN, hundred()).await?;
        unknown.expect_error(404, "Bank account not found: toAccountId")?;
        let unknown = bench.transfer(UNKNOWN, &euros, hundred()).await?;
        unknown.expect_error(404, "Bank account not found: fromAccountId")?;
        bench.transfer("xyz", &euros, hundred()).await?.expect_error_about(400, "Malformed fromAccountId")?;
        bench.transfer(&euros, "xyz", hundred()).await?.expect_error_about(400, "Malformed toAccountId")?;
        bench.transfer(&euros, &others, json!(1000.01)).await?.expect_error(400, "Insufficient balance")?;
        for (account, balance) in [(&euros, 1000), (&others, 0), (&dollars, 1000)] {
            ensure!(bench.account_balance(account).await? == balance);
        }
        ensure!(bench.count("bankTransfers", doc! {}).await? == 0);
        for currency in ["eur", "EURO", "", "E1R", "€€€"] {
            let body = json!({ "name": "n", "accountNumber": "1", "bankName": "b", "currency": currency, "balance": 1 });
            bench.post("/api/bank-accounts", body).await?.expect_error_about(400, "currency must be")?;
        }
        bench.assert_counters_reconcile().await
    })
}

#[test]
fn cancelled_transfer_refunds_once() -> Result<()> {
    with_ledger(async |bench| {
        let [a, b, c] = [
            bench.account("EUR", json!(1000)).await?,
            bench.account("EUR", json!(0)).await?,
            bench.account("EUR", json!(0)).await?,
        ];
        let id = bench.transfer(&a, &b, json!(800)).await?.created("transfer")?;
        let cancel = format!("/api/bank-transfers/{id}/cancel");
        // The receiver has transferred the money on.
        let onward = bench.transfer(&b, &c, json!(800)).await?.created("transfer")?;
        bench.post(&cancel, json!({})).await?.expect_error(400, "Insufficient balance")?;
        bench.post(&format!("/api/bank-transfers/{onward}/cancel"), json!({})).await?.expect(200)?;
        let cancelled = bench.post(&cancel, json!({})).await?.expect(200)?;
        ensure!(cancelled.json["transfer"]["cancelledAt"] != Value::Null, "{}", cancelled.text);
        bench.post(&cancel, json!({})).await?.expect_error(400, "Transfer already cancelled")?;
        for (account, balance) in [(&a, 1000), (&b, 0), (&c, 0)] {
            ensure!(bench.account_balance(account).await? == balance);
        }
        // The transfer and its refund are separate movements.
        let transfer = mongodb::bson::oid::ObjectId::parse_str(&id)?;
        ensure!(bench.count("generalLedger", doc! { "transferId": transfer }).await? == 4);
        bench.assert_counters_reconcile().await
    })
}
