//! Members that step down, hang, or are killed.

use anyhow::{Result, ensure};
use mongodb::bson::doc;
use rand::Rng;
use rand::rngs::StdRng;
use testkit::wait;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::FaultRun;
use crate::environment::Environment;

pub(super) async fn step_up(env: &Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    env.set.step_up_another().await?;
    env.set.wait_in_sync().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn step_down(env: &Environment) -> Result<FaultRun> {
    let primary = env.primary().await?;
    let broken = Instant::now();
    env.member(primary, doc! {"replSetStepDown": 60, "force": true}).await?;
    another(env, primary).await?;
    // The member may be elected again at once.
    env.member(primary, doc! {"replSetFreeze": 0}).await?;
    env.set.wait_in_sync().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn kill_primary(env: &mut Environment) -> Result<FaultRun> {
    let primary = env.primary().await?;
    let broken = Instant::now();
    env.set.member_mut(primary).kill().await?;
    another(env, primary).await?;
    down(env, primary).await?;
    env.set.member_mut(primary).restart().await?;
    env.set.wait_in_sync().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn kill_secondary(env: &mut Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let members = env.set.members().len();
    let other = (env.primary().await? + rng.random_range(1..members)) % members;
    let broken = Instant::now();
    env.set.member_mut(other).kill().await?;
    down(env, other).await?;
    env.set.member_mut(other).restart().await?;
    env.set.wait_in_sync().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn freeze_primary(env: &Environment) -> Result<FaultRun> {
    let primary = env.primary().await?;
    let broken = Instant::now();
    env.set.members()[primary].pause()?;
    another(env, primary).await?;
    down(env, primary).await?;
    // The old primary still considers itself the primary.
    env.set.members()[primary].resume()?;
    env.set.wait_in_sync().await?;
    Ok(FaultRun::since(broken))
}

/// Waits until another member accepts writes, independent of the old primary's own state.
pub(super) async fn another(env: &Environment, old: usize) -> Result<usize> {
    wait::until("another primary", async || {
        for index in (0..env.each.len()).filter(|index| *index != old) {
            let hello = env.member(index, doc! {"hello": 1}).await?;
            if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                return Ok(index);
            }
        }
        anyhow::bail!("no other member is primary")
    })
    .await
}

/// Waits until the sidecar reports a member as down, and exports nothing else of it.
pub(super) async fn down(env: &Environment, index: usize) -> Result<()> {
    let member = env.set.addresses().swap_remove(index);
    wait::until("the sidecar to miss the member", async || {
        let page = env.sidecar_page().await?;
        let of = [("member", member.as_str())];
        let up = page.value(catalog::MONGODB_UP.name, &of);
        ensure!(up == Some(0.0), "mongodb_up is {up:?}");
        let shown = page.matching(catalog::MONGODB_TRANSACTIONS_STARTED.name, &of).count();
        ensure!(shown == 0, "its numbers are still shown");
        Ok(())
    })
    .await
}
