//! Our own programs and Prometheus are killed, paused, and replaced while they work.

use std::time::Duration;

use anyhow::Result;
use testkit::Signal;
use tokio::time::{Instant, sleep};
use txnscope_catalog as catalog;

use super::{FaultRun, callers, wait_for_operations};
use crate::environment::{Environment, POLL_INTERVAL};
use crate::expectations;

pub(super) async fn kill_backend(env: &mut Environment) -> Result<FaultRun> {
    // Slow enough that the ledger is killed within transactions.
    let slowed = callers::slowed(env, Duration::from_millis(100)).await?;
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 5.0).await?;
    let broken = Instant::now();
    env.backend.kill().await?;
    slowed.off().await?;
    env.backend.restart().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn shut_down_runtime(env: &mut Environment) -> Result<FaultRun> {
    let slowed = callers::slowed(env, Duration::from_millis(100)).await?;
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 5.0).await?;
    let cancelled = async |env: &Environment| {
        let page = env.ledger_page().await?;
        let name = format!("{}_count", catalog::TRANSACTION_DURATION.name);
        anyhow::Ok(page.sum(&name, &[("outcome", "cancelled")]))
    };
    let before = cancelled(env).await?;
    let broken = Instant::now();
    env.backend.signal(Signal::USR1)?;
    // Tasks of the old runtime count as cancelled: their callers have no response.
    testkit::wait::until("what was under way to be counted", async || {
        let now = cancelled(env).await? - before;
        anyhow::ensure!(now > 0.0, "{now} cancelled");
        Ok(())
    })
    .await?;
    slowed.off().await?;
    env.backend.ready().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn kill_sidecar(env: &mut Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    env.sidecar.kill().await?;
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 10.0).await?;
    env.sidecar.restart().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn freeze_sidecar(env: &Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    env.sidecar.signal(Signal::STOP)?;
    // The elapsed time is the fault.
    sleep(POLL_INTERVAL * 4).await;
    env.sidecar.signal(Signal::CONT)?;
    let held = broken.elapsed();
    // The first page after the restart, before all members have been polled.
    expectations::nothing_stale(&env.sidecar_page().await?, &env.set.addresses())?;
    Ok(FaultRun { held, ..FaultRun::default() })
}

pub(super) async fn restart_prometheus(env: &mut Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    env.prometheus.kill().await?;
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 30.0).await?;
    env.prometheus.restart().await?;
    Ok(FaultRun::since(broken))
}
