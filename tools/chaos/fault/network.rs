//! Networks that hold, lose, slow and cut. Between any two there is the proxy of the one who is spoken to.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use testkit::ProxyMode;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::{FaultRun, members, more};
use crate::backend::APPLICATION;
use crate::environment::Environment;

/// Nobody reaches the primary. It reaches the others, and so learns that it is primary no more.
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
    apart(env, ProxyMode::HoldAll).await
}

pub(super) async fn lost_replies(env: &Environment) -> Result<FaultRun> {
    apart(env, ProxyMode::HoldReplies).await
}

/// Has that happen to the ledger alone, until callers have been told that the database is away.
async fn apart(env: &Environment, flow: ProxyMode) -> Result<FaultRun> {
    let broken = Instant::now();
    for proxy in env.set.proxies() {
        proxy.set_for(APPLICATION, flow);
    }
    more(env, &catalog::TRANSACTION_DURATION, "failed", 10.0).await?;
    for proxy in env.set.proxies() {
        // What was held is lost, as on a network whose connections have run out of time.
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
    more(env, &catalog::TRANSACTION_DURATION, "succeeded", 60.0).await?;
    for proxy in env.set.proxies() {
        proxy.set(ProxyMode::Forward);
    }
    Ok(FaultRun::since(broken))
}

/// Several times, each in the midst of whatever is under way.
pub(super) async fn cut(env: &Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let broken = Instant::now();
    for _ in 0..rng.random_range(3..6) {
        for proxy in env.set.proxies() {
            proxy.cut();
        }
        more(env, &catalog::TRANSACTION_DURATION, "succeeded", 10.0).await?;
    }
    Ok(FaultRun::since(broken))
}
