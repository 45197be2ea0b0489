//! Ten thousand mixed operations from 32 clients: balances, responses and counters reconcile.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use mongodb::bson::{Document, doc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::environment::{Answer, Bench, transfer, with_ledger};

const CLIENTS: u64 = 32;
const OPERATIONS: u64 = 10_000;
/// Few enough that clients conflict, many enough that each makes progress.
const RETAINERS: usize = 120;
const ACCOUNTS: usize = 24;
const PAYMENTS: usize = 400;

#[test]
fn ten_thousand_operations_reconcile() -> Result<()> {
    with_ledger(async |bench| {
        let fixtures = Fixtures::make(bench).await?;
        let clients = (0..CLIENTS).map(|seed| fixtures.client(bench, seed));
        let mut seen = Seen::default();
        for of_one in try_join_all(clients).await? {
            seen.add(of_one);
        }
        let made = RETAINERS + ACCOUNTS + PAYMENTS;
        ensure!(seen.total() == OPERATIONS, "{seen:?}");
        bench.assert_counters_reconcile().await?;
        // The balances match the responses that the clients received.
        for (id, cents) in &seen.retainers {
            let balance = bench.get(&format!("/api/retainers/{id}")).await?.expect(200)?;
            let text = format!(r#""currentBalance":{},"#, ledger::Money::from_cents(START + cents));
            ensure!(balance.text.contains(&text), "expected {text} in {}", balance.text);
        }
        ensure!(total(bench, "bankAccounts", "availableBalance").await? == START * i64::try_from(ACCOUNTS)?);
        for (account, cents) in &seen.accounts {
            let balance = bench.get(&format!("/api/bank-accounts/{account}")).await?.expect(200)?;
            let text = format!(r#""availableBalance":{},"#, ledger::Money::from_cents(START + cents));
            ensure!(balance.text.contains(&text), "expected {text} in {}", balance.text);
        }

        bench.assert_attempts_are_accounted_for().await?;
        let scrape = bench.scrape().await?;
        ensure!(scrape.sum("transaction_attempts_total", &[]) == (OPERATIONS as f64) + (made as f64));
        for ((operation, error), count) in &seen.rejections {
            let reason = match error.as_str() {
                "Insufficient balance" => "insufficient_balance",
                "Payment already completed" => "payment_already_completed",
                "Invoice already paid" => "invoice_already_paid",
                "Transfer already cancelled" => "transfer_already_cancelled",
                other => anyhow::bail!("{operation} said {other:?}"),
            };
            ensure!(
                bench.failures(operation, "rejected", reason).await? == *count as f64,
                "{operation} {reason}"
            );
        }
        for outcome in ["failed", "cancelled", "panicked"] {
            ensure!(scrape.sum("transaction_failures_total", &[("outcome", outcome)]) == 0.0);
        }
        ensure!(scrape.sum("concurrent_operations", &[]) == 0.0);
        bench.no_transaction_is_open().await
    })
}

/// Entities with a balance of 1,000.00 each.
const START: i64 = 100_000;

struct Fixtures {
    retainers: Vec<String>,
    accounts: Vec<String>,
    payments: Vec<String>,
}

/// The responses that clients received.
#[derive(Debug, Default)]
struct Seen {
    succeeded: BTreeMap<&'static str, u64>,
    rejections: BTreeMap<(&'static str, String), u64>,
    /// The changes of balances in cents.
    retainers: BTreeMap<String, i64>,
    accounts: BTreeMap<String, i64>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        let Self { succeeded, rejections, retainers, accounts } = other;
        for (operation, count) in succeeded {
            *self.succeeded.entry(operation).or_default() += count;
        }
        for (rejection, count) in rejections {
            *self.rejections.entry(rejection).or_default() += count;
        }
        for (id, cents) in retainers {
            *self.retainers.entry(id).or_default() += cents;
        }
        for (id, cents) in accounts {
            *self.accounts.entry(id).or_default() += cents;
        }
    }

    fn total(&self) -> u64 {
        self.succeeded.values().sum::<u64>() + self.rejections.values().sum::<u64>()
    }
}

impl Fixtures {
    async fn make(bench: &Bench) -> Result<Self> {
        let retainers = try_join_all((0..RETAINERS).map(|_| bench.retainer(json!(1000)))).await?;
        let accounts = try_join_all((0..ACCOUNTS).map(|_| bench.account("EUR", json!(1000)))).await?;
        let mut payments = Vec::new();
        for at in 0..PAYMENTS {
            // Every fourth payment shares its invoice with another one.
            let invoice = (at % 4 == 0).then(|| format!("invoice-{}", at / 8));
            payments.push(bench.payment("pending", invoice.as_deref()).await?.created("payment")?);
        }
        Ok(Self { retainers, accounts, payments })
    }

    /// One client with its share of the operations, one after another.
    async fn client(&self, bench: &Bench, seed: u64) -> Result<Seen> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut seen = Seen::default();
        let mut transfers: Vec<(String, String, String, i64)> = Vec::new();
        let share = OPERATIONS / CLIENTS + u64::from(seed < OPERATIONS % CLIENTS);
        for at in 0..share {
            let cents = random.random_range(1..30_000);
            let amount = number(cents)?;
            let retainer = self.retainers.choose(&mut random).context("a retainer")?;
            let (operation, answer) = match random.random_range(0..100) {
                0..25 => {
                    let path = format!("/api/retainers/{retainer}/consume");
                    let answer =
                        bench.post(&path, json!({ "amount": amount, "description": "work" })).await?;
                    if answer.status == 200 {
                        *seen.retainers.entry(retainer.clone()).or_default() -= cents;
                    }
                    ("POST /api/retainers/{id}/consume", answer)
                }
                25..45 => {
                    let path = format!("/api/retainers/{retainer}/replenish");
                    let answer =
                        bench.post(&path, json!({ "amount": amount, "description": "deposit" })).await?;
                    if answer.status == 200 {
                        *seen.retainers.entry(retainer.clone()).or_default() += cents;
                    }
                    ("POST /api/retainers/{id}/replenish", answer)
                }
                45..70 => {
                    let pair: Vec<_> = self.accounts.choose_multiple(&mut random, 2).collect();
                    let (from, to) = (pair[0].clone(), pair[1].clone());
                    // Every other request has an idempotency key.
                    let body = transfer(&from, &to, amount);
                    let answer = if at % 2 == 0 {
                        bench.post_with_key("/api/bank-transfers", &format!("{seed}-{at}"), body).await?
                    } else {
                        bench.post("/api/bank-transfers", body).await?
                    };
                    if answer.status == 201 {
                        *seen.accounts.entry(from.clone()).or_default() -= cents;
                        *seen.accounts.entry(to.clone()).or_default() += cents;
                        transfers.push((answer.clone().created("transfer")?, from, to, cents));
                    }
                    ("POST /api/bank-transfers", answer)
                }
                70..80 if !transfers.is_empty() => {
                    let (id, from, to, cents) = transfers.choose(&mut random).context("a transfer")?.clone();
                    let answer = bench.post(&format!("/api/bank-transfers/{id}/cancel"), json!({})).await?;
                    if answer.status == 200 {
                        *seen.accounts.entry(from).or_default() += cents;
                        *seen.accounts.entry(to).or_default() -= cents;
                    }
                    ("POST /api/bank-transfers/{id}/cancel", answer)
                }
                80..90 => {
                    let payment = self.payments.choose(&mut random).context("a payment")?;
                    let path = format!("/api/payments/{payment}/complete");
                    ("POST /api/payments/{id}/complete", bench.post(&path, json!({})).await?)
                }
                _ => {
                    let status = if random.random() { "completed" } else { "pending" };
                    ("POST /api/payments", bench.payment(status, None).await?)
                }
            };
            note(&mut seen, operation, answer)?;
        }
        Ok(seen)
    }
}

fn note(seen: &mut Seen, operation: &'static str, answer: Answer) -> Result<()> {
    match answer.status {
        200 | 201 => *seen.succeeded.entry(operation).or_default() += 1,
        400 => {
            let error = answer.json["error"].as_str().context("an error")?.to_owned();
            *seen.rejections.entry((operation, error)).or_default() += 1;
        }
        _ => anyhow::bail!("{operation}: {answer:?}"),
    }
    Ok(())
}

/// Cents as a JSON number that a client would write.
fn number(cents: i64) -> Result<Value> {
    Ok(serde_json::from_str(&ledger::Money::from_cents(cents).to_string())?)
}

async fn total(bench: &Bench, collection: &str, field: &str) -> Result<i64> {
    let sum = doc! { "$group": { "_id": "", "sum": { "$sum": format!("${field}") } } };
    let mut cursor = bench.database().collection::<Document>(collection).aggregate([sum]).await?;
    ensure!(cursor.advance().await?, "{collection} is empty");
    Ok(cursor.deserialize_current()?.get_i64("sum")?)
}
