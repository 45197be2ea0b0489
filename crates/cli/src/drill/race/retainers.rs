//! Races for the money of one retainer.

use anyhow::Result;
use serde_json::json;

use crate::drill::race::Stage;
use crate::drill::race::judge::Findings;
use crate::drill::race::volley::{Shot, Volley, Watched};

const BALANCE: &str = "/data/currentBalance";
const ANSWERED: &str = "/retainer/currentBalance";

struct Retainer {
    path: String,
}

impl Retainer {
    async fn open(stage: &Stage, amount: i64) -> Result<Self> {
        let body = json!({"clientId": stage.mark, "retainerType": "drill", "initialAmount": amount});
        let id = stage.backend.create("/api/retainers", "retainer", &body).await?;
        Ok(Self { path: format!("/api/retainers/{id}") })
    }

    fn shot(&self, what: &str, amount: i64) -> Shot {
        Shot::new(format!("{}/{what}", self.path), json!({"amount": amount, "description": "drill"}))
    }

    fn watched(&self) -> [Watched; 1] {
        [Watched { path: self.path.clone(), pointer: BALANCE }]
    }
}

pub(super) async fn consume(stage: &Stage, findings: &mut Findings) -> Result<()> {
    let retainer = Retainer::open(stage, 1_000).await?;
    let shots = vec![retainer.shot("consume", 800); stage.n];
    let volley = Volley::fire(&stage.backend, shots, &retainer.watched()).await;
    let count = findings.volley(&volley, Some(ANSWERED));
    findings.exactly(1, count);
    if let Some(now) = findings.read(&stage.backend, &retainer.path, BALANCE).await {
        findings.taken("the balance", now, 100_000, 80_000, count);
    }
    Ok(())
}

/// Half of them can be paid. A lost update would let more through, and leave a balance that fits none of them.
pub(super) async fn consume_some(stage: &Stage, findings: &mut Findings) -> Result<()> {
    let (k, each) = (stage.n / 2, 100);
    let before = i64::try_from(k)? * each + each / 2;
    let retainer = Retainer::open(stage, before).await?;
    let shots = vec![retainer.shot("consume", each); stage.n];
    let volley = Volley::fire(&stage.backend, shots, &retainer.watched()).await;
    let count = findings.volley(&volley, Some(ANSWERED));
    findings.exactly(k, count);
    if let Some(now) = findings.read(&stage.backend, &retainer.path, BALANCE).await {
        findings.taken("the balance", now, before * 100, each * 100, count);
    }
    Ok(())
}

pub(super) async fn consume_and_replenish(stage: &Stage, findings: &mut Findings) -> Result<()> {
    let n = i64::try_from(stage.n)?;
    let before = 10 * n;
    let retainer = Retainer::open(stage, before).await?;
    let mut shots = Vec::new();
    for _ in 0..stage.n {
        shots.extend([retainer.shot("consume", 10), retainer.shot("replenish", 7)]);
    }
    let volley = Volley::fire(&stage.backend, shots, &retainer.watched()).await;
    let count = findings.volley(&volley, Some(ANSWERED));
    findings.exactly(2 * stage.n, count);
    if let Some(now) = findings.read(&stage.backend, &retainer.path, BALANCE).await
        && count.succeeded == 2 * stage.n
    {
        findings.is("the balance", now, (before - 10 * n + 7 * n) * 100);
    }
    Ok(())
}

/// A client that does not know whether its request arrived sends it again, perhaps too soon.
pub(super) async fn consume_repeated(stage: &Stage, round: u32, findings: &mut Findings) -> Result<()> {
    let n = i64::try_from(stage.n)?;
    let retainer = Retainer::open(stage, 10 * n).await?;
    let mut shot = retainer.shot("consume", 10);
    shot.key = Some(format!("{}-{round}", stage.mark));
    let volley = Volley::fire(&stage.backend, vec![shot; stage.n], &retainer.watched()).await;
    let mut count = findings.volley(&volley, Some(ANSWERED));
    if count.unsure > 0 {
        findings.doubt(format!("{} were not answered", count.unsure));
    } else if count.succeeded == 0 {
        findings.fault("none succeeded, and one can");
    }
    // However many are told that it succeeded, they are told of the same one.
    count.succeeded = count.succeeded.min(1);
    count.unsure = usize::from(count.succeeded == 0 && count.unsure > 0);
    count.failed = usize::from(count.succeeded == 0 && count.failed > 0);
    if let Some(now) = findings.read(&stage.backend, &retainer.path, BALANCE).await {
        findings.taken("the balance", now, 1_000 * n, 1_000, count);
    }
    Ok(())
}
