//! Scenarios with payments.

use anyhow::Result;
use serde_json::json;

use crate::commands::drill::race::RaceEnvironment;
use crate::commands::drill::race::burst::{Burst, Request};
use crate::commands::drill::race::findings::Findings;

const STATUS: &str = "/payment/status";

/// Creates a pending payment, and returns its path.
async fn create_pending(env: &RaceEnvironment, invoice: Option<&str>) -> Result<String> {
    let mut body =
        json!({"customerId": env.mark, "amount": 12.5, "paymentMethod": "card", "status": "pending"});
    if let Some(invoice) = invoice {
        body["invoiceId"] = invoice.into();
    }
    let id = env.backend.create("/api/payments", "payment", &body).await?;
    Ok(format!("/api/payments/{id}"))
}

fn completion(path: &str) -> Request {
    Request::new(format!("{path}/complete"), json!({}))
}

pub(super) async fn complete(env: &RaceEnvironment, findings: &mut Findings) -> Result<()> {
    let path = create_pending(env, None).await?;
    let burst = Burst::send(&env.backend, vec![completion(&path); env.n], &[]).await;
    let count = findings.record_burst(&burst, None);
    findings.assert_successes(1, count);
    assert_completed(env, findings, &[path], count.succeeded, count.unknown + count.failed).await;
    Ok(())
}

pub(super) async fn complete_invoice(
    env: &RaceEnvironment,
    round: u32,
    findings: &mut Findings,
) -> Result<()> {
    let invoice = format!("{}-{round}", env.mark);
    let mut paths = Vec::new();
    for _ in 0..env.n {
        paths.push(create_pending(env, Some(&invoice)).await?);
    }
    let requests = paths.iter().map(|path| completion(path)).collect();
    let burst = Burst::send(&env.backend, requests, &[]).await;
    let count = findings.record_burst(&burst, None);
    findings.assert_successes(1, count);
    assert_completed(env, findings, &paths, count.succeeded, count.unknown + count.failed).await;
    Ok(())
}

/// Asserts the number of completed payments: one for each success, and up to one more for each unknown outcome.
async fn assert_completed(
    env: &RaceEnvironment,
    findings: &mut Findings,
    paths: &[String],
    succeeded: usize,
    open: usize,
) {
    let mut completed = 0;
    for path in paths {
        let Some(status) = findings.field(&env.backend, path, STATUS).await else { return };
        completed += usize::from(status == "completed");
    }
    if completed > 1 {
        findings.add_violation(format!("{completed} payments are completed, and at most one may be"));
    } else if completed < succeeded.min(1) || completed > succeeded + open {
        findings
            .add_violation(format!("{completed} payments are completed, and {succeeded} requests succeeded"));
    }
}
