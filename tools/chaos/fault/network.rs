//! Networks that hold, lose, slow and cut. Between any two there is the proxy of the one who is spoken to.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use testkit::ProxyMode;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::{Played, members, more};
use crate::backend::APPLICATION;
use crate::stage::Stage;

/// Nobody reaches the primary. It reaches the others, and so learns that it is primary no more.
pub(super) async fn partition_member(stage: &Stage) -> Result<Played> {
    let primary = stage.primary().await?;
    let proxy = &stage.set.proxies()[primary];
    let broken = Instant::now();
    proxy.set(ProxyMode::HoldAll);
    members::another(stage, primary).await?;
    members::down(stage, primary).await?;
    proxy.set(ProxyMode::Forward);
    proxy.cut();
    stage.set.wait_in_sync().await?;
    Ok(Played::since(broken))
}

pub(super) async fn partition_client(stage: &Stage) -> Result<Played> {
    apart(stage, ProxyMode::HoldAll).await
}

pub(super) async fn lost_replies(stage: &Stage) -> Result<Played> {
    apart(stage, ProxyMode::HoldReplies).await
}

/// Has that happen to the ledger alone, until callers have been told that the database is away.
async fn apart(stage: &Stage, flow: ProxyMode) -> Result<Played> {
    let broken = Instant::now();
    for proxy in stage.set.proxies() {
        proxy.set_for(APPLICATION, flow);
    }
    more(stage, &catalog::TRANSACTION_DURATION, "failed", 10.0).await?;
    for proxy in stage.set.proxies() {
        // What was held is lost, as on a network whose connections have run out of time.
        proxy.cut();
        proxy.set(ProxyMode::Forward);
    }
    Ok(Played::since(broken))
}

pub(super) async fn slow(stage: &Stage, dice: &mut StdRng) -> Result<Played> {
    let broken = Instant::now();
    for proxy in stage.set.proxies() {
        proxy.set(ProxyMode::Delay(Duration::from_millis(dice.random_range(10..40))));
    }
    more(stage, &catalog::TRANSACTION_DURATION, "succeeded", 60.0).await?;
    for proxy in stage.set.proxies() {
        proxy.set(ProxyMode::Forward);
    }
    Ok(Played::since(broken))
}

/// Several times, each in the midst of whatever is under way.
pub(super) async fn cut(stage: &Stage, dice: &mut StdRng) -> Result<Played> {
    let broken = Instant::now();
    for _ in 0..dice.random_range(3..6) {
        for proxy in stage.set.proxies() {
            proxy.cut();
        }
        more(stage, &catalog::TRANSACTION_DURATION, "succeeded", 10.0).await?;
    }
    Ok(Played::since(broken))
}
