//! Races for the money of bank accounts.

use anyhow::Result;
use serde_json::{Value, json};

use crate::drill::money::shown;
use crate::drill::race::Stage;
use crate::drill::race::judge::Findings;
use crate::drill::race::volley::{Count, Shot, Volley, Watched};

const BALANCE: &str = "/account/availableBalance";

#[derive(Debug)]
struct Account {
    id: String,
    path: String,
}

impl Account {
    async fn open(stage: &Stage, balance: i64) -> Result<Self> {
        let body = json!({
            "name": "Drill", "accountNumber": stage.mark, "bankName": "Drill", "currency": "EUR", "balance": balance,
        });
        let id = stage.backend.create("/api/bank-accounts", "account", &body).await?;
        Ok(Self { path: format!("/api/bank-accounts/{id}"), id })
    }

    /// Two, of which the first pays. In every other round the receiver is the older one: a backend that writes the
    /// accounts in an order of its own then begins with the other.
    async fn two(stage: &Stage, round: u32, [payer, receiver]: [i64; 2]) -> Result<[Self; 2]> {
        if round.is_multiple_of(2) {
            let receiver = Self::open(stage, receiver).await?;
            Ok([Self::open(stage, payer).await?, receiver])
        } else {
            let payer = Self::open(stage, payer).await?;
            Ok([payer, Self::open(stage, receiver).await?])
        }
    }

    fn watched(&self) -> Watched {
        Watched { path: self.path.clone(), pointer: BALANCE }
    }
}

fn movement([from, to]: [&Account; 2], amount: Value) -> Value {
    json!({"fromAccountId": from.id, "toAccountId": to.id, "amount": amount, "description": "drill"})
}

/// Reads both; whatever moved, together they hold what they held before. A request that was not answered may still
/// be under way, and move money between the two readings.
async fn both(
    stage: &Stage,
    findings: &mut Findings,
    [payer, receiver]: [&Account; 2],
    together: i64,
    count: Count,
) -> Option<[i64; 2]> {
    let first = findings.read(&stage.backend, &payer.path, BALANCE).await;
    let second = findings.read(&stage.backend, &receiver.path, BALANCE).await;
    let balances = [first?, second?];
    let [first, second] = balances;
    if first + second != together {
        let seen = format!(
            "the accounts hold {} and {}, and must hold {} together",
            shown(first),
            shown(second),
            shown(together)
        );
        if count.unsure == 0 { findings.fault(seen) } else { findings.doubt(seen) }
    }
    Some(balances)
}

pub(super) async fn transfer(stage: &Stage, round: u32, findings: &mut Findings) -> Result<()> {
    let [payer, receiver] = &Account::two(stage, round, [1_000, 0]).await?;
    let shot = Shot::new("/api/bank-transfers", movement([payer, receiver], 800.into()));
    let watched = [payer.watched(), receiver.watched()];
    let volley = Volley::fire(&stage.backend, vec![shot; stage.n], &watched).await;
    let count = findings.volley(&volley, None);
    findings.exactly(1, count);
    if let Some([now, _]) = both(stage, findings, [payer, receiver], 100_000, count).await {
        findings.taken("the payer's balance", now, 100_000, 80_000, count);
    }
    Ok(())
}

pub(super) async fn both_ways(stage: &Stage, round: u32, findings: &mut Findings) -> Result<()> {
    let (n, start) = (i64::try_from(stage.n)?, 1_000_000);
    let [a, b] = &Account::two(stage, round, [start / 100; 2]).await?;
    let mut shots = Vec::new();
    for _ in 0..stage.n {
        shots.push(Shot::new("/api/bank-transfers", movement([a, b], json!(7.25))));
        shots.push(Shot::new("/api/bank-transfers", movement([b, a], json!(2.25))));
    }
    let volley = Volley::fire(&stage.backend, shots, &[a.watched(), b.watched()]).await;
    let count = findings.volley(&volley, None);
    findings.exactly(2 * stage.n, count);
    if let Some([now, _]) = both(stage, findings, [a, b], 2 * start, count).await
        && count.succeeded == 2 * stage.n
    {
        findings.is("the first account's balance", now, start - n * (725 - 225));
    }
    Ok(())
}

pub(super) async fn cancel(stage: &Stage, round: u32, findings: &mut Findings) -> Result<()> {
    // The receiver could pay it back several times.
    let [payer, receiver] = &Account::two(stage, round, [1_000, 10_000]).await?;
    let made = movement([payer, receiver], 800.into());
    let id = stage.backend.create("/api/bank-transfers", "transfer", &made).await?;
    let shot = Shot::new(format!("/api/bank-transfers/{id}/cancel"), json!({}));
    let watched = [payer.watched(), receiver.watched()];
    let volley = Volley::fire(&stage.backend, vec![shot; stage.n], &watched).await;
    let count = findings.volley(&volley, None);
    findings.exactly(1, count);
    if let Some([_, now]) = both(stage, findings, [payer, receiver], 1_100_000, count).await {
        findings.taken("the receiver's balance", now, 1_080_000, 80_000, count);
    }
    Ok(())
}
