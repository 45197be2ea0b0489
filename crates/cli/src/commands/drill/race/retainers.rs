//! Scenarios with the balance of one retainer.

use anyhow::Result;
use serde_json::json;

use crate::commands::drill::race::RaceEnvironment;
use crate::commands::drill::race::burst::{Burst, Request, Watched};
use crate::commands::drill::race::findings::Findings;

const BALANCE: &str = "/data/currentBalance";
const RESPONSE_BALANCE: &str = "/retainer/currentBalance";

struct Retainer {
    path: String,
}

impl Retainer {
    async fn create(env: &RaceEnvironment, amount: i64) -> Result<Self> {
        let body = json!({"clientId": env.mark, "retainerType": "drill", "initialAmount": amount});
        let id = env.backend.create("/api/retainers", "retainer", &body).await?;
        Ok(Self { path: format!("/api/retainers/{id}") })
    }

    fn request(&self, what: &str, amount: i64) -> Request {
        Request::new(format!("{}/{what}", self.path), json!({"amount": amount, "description": "drill"}))
    }

    fn watched(&self) -> [Watched; 1] {
        [Watched { path: self.path.clone(), pointer: BALANCE }]
    }
}

pub(super) async fn consume(env: &RaceEnvironment, findings: &mut Findings) -> Result<()> {
    let retainer = Retainer::create(env, 1_000).await?;
    let requests = vec![retainer.request("consume", 800); env.n];
    let burst = Burst::send(&env.backend, requests, &retainer.watched()).await;
    let count = findings.record_burst(&burst, Some(RESPONSE_BALANCE));
    findings.assert_successes(1, count);
    if let Some(now) = findings.read(&env.backend, &retainer.path, BALANCE).await {
        findings.assert_balance_after("the balance", now, 100_000, 80_000, count);
    }
    Ok(())
}

/// The balance covers half of the requests. A lost update would let more of them succeed, and leave a balance that matches
/// no number of successes.
pub(super) async fn consume_some(env: &RaceEnvironment, findings: &mut Findings) -> Result<()> {
    let (k, each) = (env.n / 2, 100);
    let before = i64::try_from(k)? * each + each / 2;
    let retainer = Retainer::create(env, before).await?;
    let requests = vec![retainer.request("consume", each); env.n];
    let burst = Burst::send(&env.backend, requests, &retainer.watched()).await;
    let count = findings.record_burst(&burst, Some(RESPONSE_BALANCE));
    findings.assert_successes(k, count);
    if let Some(now) = findings.read(&env.backend, &retainer.path, BALANCE).await {
        findings.assert_balance_after("the balance", now, before * 100, each * 100, count);
    }
    Ok(())
}

pub(super) async fn consume_and_replenish(env: &RaceEnvironment, findings: &mut Findings) -> Result<()> {
    let n = i64::try_from(env.n)?;
    let before = 10 * n;
    let retainer = Retainer::create(env, before).await?;
    let mut requests = Vec::new();
    for _ in 0..env.n {
        requests.extend([retainer.request("consume", 10), retainer.request("replenish", 7)]);
    }
    let burst = Burst::send(&env.backend, requests, &retainer.watched()).await;
    let count = findings.record_burst(&burst, Some(RESPONSE_BALANCE));
    findings.assert_successes(2 * env.n, count);
    if let Some(now) = findings.read(&env.backend, &retainer.path, BALANCE).await
        && count.succeeded == 2 * env.n
    {
        findings.assert_amount("the balance", now, (before - 10 * n + 7 * n) * 100);
    }
    Ok(())
}

/// A client that does not know whether its request arrived sends it again, possibly while the first is being processed.
pub(super) async fn consume_repeated(
    env: &RaceEnvironment,
    round: u32,
    findings: &mut Findings,
) -> Result<()> {
    let n = i64::try_from(env.n)?;
    let retainer = Retainer::create(env, 10 * n).await?;
    let mut request = retainer.request("consume", 10);
    request.key = Some(format!("{}-{round}", env.mark));
    let burst = Burst::send(&env.backend, vec![request; env.n], &retainer.watched()).await;
    let mut count = findings.record_burst(&burst, Some(RESPONSE_BALANCE));
    if count.unknown > 0 {
        findings.add_uncertainty(format!("{} got no response", count.unknown));
    } else if count.succeeded == 0 {
        findings.add_violation("none succeeded, and one must");
    }
    // All successes refer to the same consumption.
    count.succeeded = count.succeeded.min(1);
    count.unknown = usize::from(count.succeeded == 0 && count.unknown > 0);
    count.failed = usize::from(count.succeeded == 0 && count.failed > 0);
    if let Some(now) = findings.read(&env.backend, &retainer.path, BALANCE).await {
        findings.assert_balance_after("the balance", now, 1_000 * n, 1_000, count);
    }
    Ok(())
}
