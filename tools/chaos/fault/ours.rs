//! Our own programs, and Prometheus, killed, stopped and taken away in mid-flight.

use std::time::Duration;

use anyhow::Result;
use testkit::Signal;
use tokio::time::{Instant, sleep};
use txnscope_catalog as catalog;

use super::{Played, callers, more};
use crate::stage::{POLL_INTERVAL, Stage};
use crate::truth;

pub(super) async fn kill_backend(stage: &mut Stage) -> Result<Played> {
    // So that it dies in the midst of transactions.
    let slowed = callers::slowed(stage, Duration::from_millis(100)).await?;
    more(stage, &catalog::TRANSACTION_DURATION, "succeeded", 5.0).await?;
    let broken = Instant::now();
    stage.backend.kill().await?;
    slowed.off().await?;
    stage.backend.restart().await?;
    Ok(Played::since(broken))
}

pub(super) async fn shut_down_runtime(stage: &mut Stage) -> Result<Played> {
    let slowed = callers::slowed(stage, Duration::from_millis(100)).await?;
    more(stage, &catalog::TRANSACTION_DURATION, "succeeded", 5.0).await?;
    let cancelled = async |stage: &Stage| {
        let page = stage.ledger_page().await?;
        let name = format!("{}_count", catalog::TRANSACTION_DURATION.name);
        anyhow::Ok(page.sum(&name, &[("outcome", "cancelled")]))
    };
    let before = cancelled(stage).await?;
    let broken = Instant::now();
    stage.backend.signal(Signal::USR1)?;
    // What was under way counts as cancelled: its callers have no answer.
    testkit::wait::until("what was under way to be counted", async || {
        let now = cancelled(stage).await? - before;
        anyhow::ensure!(now > 0.0, "{now} cancelled");
        Ok(())
    })
    .await?;
    slowed.off().await?;
    stage.backend.ready().await?;
    Ok(Played::since(broken))
}

pub(super) async fn kill_sidecar(stage: &mut Stage) -> Result<Played> {
    let broken = Instant::now();
    stage.sidecar.kill().await?;
    more(stage, &catalog::TRANSACTION_DURATION, "succeeded", 10.0).await?;
    stage.sidecar.restart().await?;
    Ok(Played::since(broken))
}

pub(super) async fn freeze_sidecar(stage: &Stage) -> Result<Played> {
    let broken = Instant::now();
    stage.sidecar.signal(Signal::STOP)?;
    // The time that passes is the fault.
    sleep(POLL_INTERVAL * 4).await;
    stage.sidecar.signal(Signal::CONT)?;
    let held = broken.elapsed();
    // The very first page, before it has had the time to ask anybody.
    truth::nothing_stale(&stage.sidecar_page().await?, &stage.set.addresses())?;
    Ok(Played { held, ..Played::default() })
}

pub(super) async fn restart_prometheus(stage: &mut Stage) -> Result<Played> {
    let broken = Instant::now();
    stage.prometheus.kill().await?;
    more(stage, &catalog::TRANSACTION_DURATION, "succeeded", 30.0).await?;
    stage.prometheus.restart().await?;
    Ok(Played::since(broken))
}
