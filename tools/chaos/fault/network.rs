//! Networks that hold, lose, delay and cut. There is a proxy in front of each member.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use testkit::ProxyMode;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::{FaultRun, members, wait_for_operations};
use crate::backend::APPLICATION;
use crate::environment::Environment;

/// The primary is unreachable. It reaches the others, and so learns that it is no longer primary.
pub(super) async fn partition_member(env: &Environment) -> Result<FaultRun> {
    let primary = env.primary().await?;
    let proxy = &env.set.proxies()[primary];
    let broken = Instant::now();
    proxy.set(ProxyMode::HoldAll);
    members::another(env, primary).await?;
    members::down(env, primary).await?;
    proxy.set(ProxyMode::Forward);
    proxy.cut();
    env.set.wait_in_sync().await?;
    Ok(FaultRun::since(broken))
}

pub(super) async fn partition_client(env: &Environment) -> Result<FaultRun> {
    partition_ledger(env, ProxyMode::HoldAll).await
}

pub(super) async fn lost_replies(env: &Environment) -> Result<FaultRun> {
    partition_ledger(env, ProxyMode::HoldReplies).await
}

/// Applies a proxy mode to the ledger alone, until callers have received errors about an unavailable database.
async fn partition_ledger(env: &Environment, flow: ProxyMode) -> Result<FaultRun> {
    let broken = Instant::now();
    for proxy in env.set.proxies() {
        proxy.set_for(APPLICATION, flow);
    }
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "failed", 10.0).await?;
    for proxy in env.set.proxies() {
        // The held bytes are lost, as with connections that have timed out.
        proxy.cut();
        proxy.set(ProxyMode::Forward);
    }
    Ok(FaultRun::since(broken))
}

pub(super) async fn slow(env: &Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let broken = Instant::now();
    for proxy in env.set.proxies() {
        proxy.set(ProxyMode::Delay(Duration::from_millis(rng.random_range(10..40))));
    }
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 60.0).await?;
    for proxy in env.set.proxies() {
        proxy.set(ProxyMode::Forward);
    }
    Ok(FaultRun::since(broken))
}

/// Several times, each at an arbitrary moment of the load.
pub(super) async fn cut(env: &Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let broken = Instant::now();
    for _ in 0..rng.random_range(3..6) {
        for proxy in env.set.proxies() {
            proxy.cut();
        }
        wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 10.0).await?;
    }
    Ok(FaultRun::since(broken))
}
