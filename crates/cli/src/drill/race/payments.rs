//! Races to complete a payment.

use anyhow::Result;
use serde_json::json;

use crate::drill::race::Stage;
use crate::drill::race::judge::Findings;
use crate::drill::race::volley::{Shot, Volley};

const STATUS: &str = "/payment/status";

/// Makes a pending payment, and returns its path.
async fn pending(stage: &Stage, invoice: Option<&str>) -> Result<String> {
    let mut body =
        json!({"customerId": stage.mark, "amount": 12.5, "paymentMethod": "card", "status": "pending"});
    if let Some(invoice) = invoice {
        body["invoiceId"] = invoice.into();
    }
    let id = stage.backend.create("/api/payments", "payment", &body).await?;
    Ok(format!("/api/payments/{id}"))
}

fn complete_it(path: &str) -> Shot {
    Shot::new(format!("{path}/complete"), json!({}))
}

pub(super) async fn complete(stage: &Stage, findings: &mut Findings) -> Result<()> {
    let path = pending(stage, None).await?;
    let volley = Volley::fire(&stage.backend, vec![complete_it(&path); stage.n], &[]).await;
    let count = findings.volley(&volley, None);
    findings.exactly(1, count);
    completed(stage, findings, &[path], count.succeeded, count.unsure + count.failed).await;
    Ok(())
}

pub(super) async fn complete_invoice(stage: &Stage, round: u32, findings: &mut Findings) -> Result<()> {
    let invoice = format!("{}-{round}", stage.mark);
    let mut paths = Vec::new();
    for _ in 0..stage.n {
        paths.push(pending(stage, Some(&invoice)).await?);
    }
    let shots = paths.iter().map(|path| complete_it(path)).collect();
    let volley = Volley::fire(&stage.backend, shots, &[]).await;
    let count = findings.volley(&volley, None);
    findings.exactly(1, count);
    completed(stage, findings, &paths, count.succeeded, count.unsure + count.failed).await;
    Ok(())
}

/// As many of these payments are completed as were told so, or one more for each that was not answered.
async fn completed(stage: &Stage, findings: &mut Findings, paths: &[String], told: usize, open: usize) {
    let mut completed = 0;
    for path in paths {
        let Some(status) = findings.field(&stage.backend, path, STATUS).await else { return };
        completed += usize::from(status == "completed");
    }
    if completed > 1 {
        findings.fault(format!("{completed} payments are completed, and one may be"));
    } else if completed < told.min(1) || completed > told + open {
        findings.fault(format!("{completed} payments are completed, and {told} were told to be"));
    }
}
