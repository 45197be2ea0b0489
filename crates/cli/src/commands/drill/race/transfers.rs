//! Scenarios with the balances of bank accounts.

use anyhow::Result;
use serde_json::{Value, json};

use crate::commands::drill::money::format_cents;
use crate::commands::drill::race::RaceEnvironment;
use crate::commands::drill::race::burst::{Burst, Count, Request, Watched};
use crate::commands::drill::race::findings::Findings;

const BALANCE: &str = "/account/availableBalance";

#[derive(Debug)]
struct Account {
    id: String,
    path: String,
}

impl Account {
    async fn create(env: &RaceEnvironment, balance: i64) -> Result<Self> {
        let body = json!({
            "name": "Drill", "accountNumber": env.mark, "bankName": "Drill", "currency": "EUR", "balance": balance,
        });
        let id = env.backend.create("/api/bank-accounts", "account", &body).await?;
        Ok(Self { path: format!("/api/bank-accounts/{id}"), id })
    }

    /// Creates a payer and a receiver. In every other round the receiver is created first, since a backend may write the
    /// accounts in the order of their ids.
    async fn create_pair(
        env: &RaceEnvironment,
        round: u32,
        [payer, receiver]: [i64; 2],
    ) -> Result<[Self; 2]> {
        if round.is_multiple_of(2) {
            let receiver = Self::create(env, receiver).await?;
            Ok([Self::create(env, payer).await?, receiver])
        } else {
            let payer = Self::create(env, payer).await?;
            Ok([payer, Self::create(env, receiver).await?])
        }
    }

    fn watched(&self) -> Watched {
        Watched { path: self.path.clone(), pointer: BALANCE }
    }
}

fn transfer_body([from, to]: [&Account; 2], amount: Value) -> Value {
    json!({"fromAccountId": from.id, "toAccountId": to.id, "amount": amount, "description": "drill"})
}

/// Reads both balances, and asserts that their sum is unchanged. A request without a response may still be in progress, and
/// transfer money between the two reads.
async fn assert_sum(
    env: &RaceEnvironment,
    findings: &mut Findings,
    [payer, receiver]: [&Account; 2],
    sum: i64,
    count: Count,
) -> Option<[i64; 2]> {
    let first = findings.read(&env.backend, &payer.path, BALANCE).await;
    let second = findings.read(&env.backend, &receiver.path, BALANCE).await;
    let balances = [first?, second?];
    let [first, second] = balances;
    if first + second != sum {
        let message = format!(
            "the balances are {} and {}, and their sum must be {}",
            format_cents(first),
            format_cents(second),
            format_cents(sum)
        );
        if count.unknown == 0 { findings.add_violation(message) } else { findings.add_uncertainty(message) }
    }
    Some(balances)
}

pub(super) async fn transfer(env: &RaceEnvironment, round: u32, findings: &mut Findings) -> Result<()> {
    let [payer, receiver] = &Account::create_pair(env, round, [1_000, 0]).await?;
    let request = Request::new("/api/bank-transfers", transfer_body([payer, receiver], 800.into()));
    let watched = [payer.watched(), receiver.watched()];
    let burst = Burst::send(&env.backend, vec![request; env.n], &watched).await;
    let count = findings.record_burst(&burst, None);
    findings.assert_successes(1, count);
    if let Some([now, _]) = assert_sum(env, findings, [payer, receiver], 100_000, count).await {
        findings.assert_balance_after("the payer's balance", now, 100_000, 80_000, count);
    }
    Ok(())
}

pub(super) async fn both_ways(env: &RaceEnvironment, round: u32, findings: &mut Findings) -> Result<()> {
    let (n, start) = (i64::try_from(env.n)?, 1_000_000);
    let [a, b] = &Account::create_pair(env, round, [start / 100; 2]).await?;
    let mut requests = Vec::new();
    for _ in 0..env.n {
        requests.push(Request::new("/api/bank-transfers", transfer_body([a, b], json!(7.25))));
        requests.push(Request::new("/api/bank-transfers", transfer_body([b, a], json!(2.25))));
    }
    let burst = Burst::send(&env.backend, requests, &[a.watched(), b.watched()]).await;
    let count = findings.record_burst(&burst, None);
    findings.assert_successes(2 * env.n, count);
    if let Some([now, _]) = assert_sum(env, findings, [a, b], 2 * start, count).await
        && count.succeeded == 2 * env.n
    {
        findings.assert_amount("the first account's balance", now, start - n * (725 - 225));
    }
    Ok(())
}

pub(super) async fn cancel(env: &RaceEnvironment, round: u32, findings: &mut Findings) -> Result<()> {
    // The balance of the receiver covers several refunds.
    let [payer, receiver] = &Account::create_pair(env, round, [1_000, 10_000]).await?;
    let body = transfer_body([payer, receiver], 800.into());
    let id = env.backend.create("/api/bank-transfers", "transfer", &body).await?;
    let request = Request::new(format!("/api/bank-transfers/{id}/cancel"), json!({}));
    let watched = [payer.watched(), receiver.watched()];
    let burst = Burst::send(&env.backend, vec![request; env.n], &watched).await;
    let count = findings.record_burst(&burst, None);
    findings.assert_successes(1, count);
    if let Some([_, now]) = assert_sum(env, findings, [payer, receiver], 1_100_000, count).await {
        findings.assert_balance_after("the receiver's balance", now, 1_080_000, 80_000, count);
    }
    Ok(())
}
