//! Members that step down, stop, or die.

use anyhow::{Result, ensure};
use mongodb::bson::doc;
use rand::Rng;
use rand::rngs::StdRng;
use testkit::wait;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::Played;
use crate::stage::Stage;

pub(super) async fn step_up(stage: &Stage) -> Result<Played> {
    let broken = Instant::now();
    stage.set.step_up_another().await?;
    stage.set.wait_in_sync().await?;
    Ok(Played::since(broken))
}

pub(super) async fn step_down(stage: &Stage) -> Result<Played> {
    let primary = stage.primary().await?;
    let broken = Instant::now();
    stage.member(primary, doc! {"replSetStepDown": 60, "force": true}).await?;
    another(stage, primary).await?;
    // It may be elected again at once.
    stage.member(primary, doc! {"replSetFreeze": 0}).await?;
    stage.set.wait_in_sync().await?;
    Ok(Played::since(broken))
}

pub(super) async fn kill_primary(stage: &mut Stage) -> Result<Played> {
    let primary = stage.primary().await?;
    let broken = Instant::now();
    stage.set.member_mut(primary).kill().await?;
    another(stage, primary).await?;
    down(stage, primary).await?;
    stage.set.member_mut(primary).restart().await?;
    stage.set.wait_in_sync().await?;
    Ok(Played::since(broken))
}

pub(super) async fn kill_secondary(stage: &mut Stage, dice: &mut StdRng) -> Result<Played> {
    let members = stage.set.members().len();
    let other = (stage.primary().await? + dice.random_range(1..members)) % members;
    let broken = Instant::now();
    stage.set.member_mut(other).kill().await?;
    down(stage, other).await?;
    stage.set.member_mut(other).restart().await?;
    stage.set.wait_in_sync().await?;
    Ok(Played::since(broken))
}

pub(super) async fn freeze_primary(stage: &Stage) -> Result<Played> {
    let primary = stage.primary().await?;
    let broken = Instant::now();
    stage.set.members()[primary].pause()?;
    another(stage, primary).await?;
    down(stage, primary).await?;
    // It still takes itself for the primary.
    stage.set.members()[primary].resume()?;
    stage.set.wait_in_sync().await?;
    Ok(Played::since(broken))
}

/// Waits until another member takes writes, whatever the old primary thinks of itself.
pub(super) async fn another(stage: &Stage, old: usize) -> Result<usize> {
    wait::until("another primary", async || {
        for index in (0..stage.each.len()).filter(|index| *index != old) {
            let hello = stage.member(index, doc! {"hello": 1}).await?;
            if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                return Ok(index);
            }
        }
        anyhow::bail!("no other member is primary")
    })
    .await
}

/// Waits until the sidecar says that a member is down, and shows nothing else of it.
pub(super) async fn down(stage: &Stage, index: usize) -> Result<()> {
    let member = stage.set.addresses().swap_remove(index);
    wait::until("the sidecar to miss the member", async || {
        let page = stage.sidecar_page().await?;
        let of = [("member", member.as_str())];
        let up = page.value(catalog::MONGODB_UP.name, &of);
        ensure!(up == Some(0.0), "mongodb_up is {up:?}");
        let shown = page.matching(catalog::MONGODB_TRANSACTIONS_STARTED.name, &of).count();
        ensure!(shown == 0, "its numbers are still shown");
        Ok(())
    })
    .await
}
