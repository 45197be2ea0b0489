//! Callers who disconnect, handlers that panic, and more requests than connections.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use mongodb::bson::doc;
use rand::Rng;
use rand::rngs::StdRng;
use reqwest::Method;
use testkit::{FailPoint, wait};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use txnscope_catalog as catalog;

use super::FaultRun;
use crate::backend::{APPLICATION, PANIC, PANIC_INSIDE, POOL, TOKEN};
use crate::environment::Environment;

const CONSUME: &str = "POST /api/retainers/{id}/consume";
const LEAVING: usize = 200;
const PANICKING: usize = 20;

/// The commands of a transaction, for failpoints.
const COMMANDS: [&str; 6] = ["find", "findAndModify", "update", "insert", "aggregate", "commitTransaction"];

/// Delays every command of the ledger.
pub(super) async fn slowed(env: &Environment, time: Duration) -> Result<FailPoint> {
    let milliseconds = i64::try_from(time.as_millis())?;
    let data = doc! {
        "failCommands": COMMANDS.to_vec(), "blockConnection": true, "blockTimeMS": milliseconds,
    };
    FailPoint::fail_command(&env.each[env.primary().await?], APPLICATION, data).await
}

pub(super) async fn full_pool(env: &Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    let slowed = slowed(env, Duration::from_millis(700)).await?;
    let wanted = f64::from(2 * POOL);
    wait::until("twice as many operations as connections", async || {
        let page = env.ledger_page().await?;
        let now = page.sum(catalog::CONCURRENT_OPERATIONS.name, &[]);
        ensure!(now >= wanted, "{now} of {wanted}");
        Ok(())
    })
    .await?;
    slowed.off().await?;
    Ok(FaultRun::since(broken))
}

/// Sends concurrent requests whose callers disconnect at random times before, during or after the transaction.
pub(super) async fn disconnects(env: &mut Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let client = env.client();
    let mut retainers = Vec::new();
    for _ in 0..10 {
        retainers.push(client.retainer(1_000).await?);
    }
    env.record_response("POST /api/retainers", "201", 10);
    let broken = Instant::now();
    // Long enough that many are within a transaction.
    let slowed = slowed(env, Duration::from_millis(100)).await?;
    let address = env.backend.address().to_owned();
    let callers = (0..LEAVING).map(|number| {
        let request = request(&retainers[number % retainers.len()]);
        let (arrives, leaves) = (rng.random_range(0..2_000), rng.random_range(0..900));
        let address = address.clone();
        async move {
            sleep(Duration::from_millis(arrives)).await;
            let mut caller = TcpStream::connect(address).await?;
            caller.write_all(&request).await?;
            // The random delay is what is tested, not a wait for a condition.
            sleep(Duration::from_millis(leaves)).await;
            drop(caller);
            std::io::Result::Ok(())
        }
    });
    let sent = join_all(callers).await.into_iter().filter(Result::is_ok).count();
    slowed.off().await?;
    ensure!(sent == LEAVING, "{sent} of {LEAVING} were let in");
    // The response is unknown; it may have been sent.
    env.record_response(CONSUME, "gone", u64::try_from(sent)?);
    Ok(FaultRun { remark: format!("; {sent} left"), ..FaultRun::since(broken) })
}

/// Sends raw bytes, for callers who violate HTTP.
fn request(retainer: &str) -> Vec<u8> {
    let body = r#"{"amount": 1, "description": "leaves"}"#;
    format!(
        "POST /api/retainers/{retainer}/consume HTTP/1.1\r\nhost: ledger\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(super) async fn panics(env: &mut Environment) -> Result<FaultRun> {
    let client = env.client();
    let panicked = async |env: &Environment, operation: &str| {
        let page = env.ledger_page().await?;
        let of = [("operation", operation), ("outcome", "panicked"), ("reason", "panic")];
        anyhow::Ok(page.sum(catalog::TRANSACTION_FAILURES.name, &of))
    };
    let broken = Instant::now();
    for operation in [PANIC, PANIC_INSIDE] {
        let before = panicked(env, operation).await?;
        let path = operation.trim_start_matches("POST ");
        let calls = (0..PANICKING).map(|_| client.request(Method::POST, path).send());
        let answered = join_all(calls).await.into_iter().filter(Result::is_ok).count();
        ensure!(answered == 0, "{answered} were answered by a handler that panics");
        env.record_response(operation, "unanswered", u64::try_from(PANICKING)?);
        let wanted = before + f64::from(u8::try_from(PANICKING)?);
        wait::until("each panic to be counted", async || {
            let now = panicked(env, operation).await?;
            ensure!(now == wanted, "{operation}: {now} of {wanted}");
            Ok(())
        })
        .await?;
    }
    // A partial effect of these transactions would be visible here.
    let data = env.whole.database("ledger").collection::<mongodb::bson::Document>("chaos");
    let left = data.count_documents(doc! {}).await?;
    ensure!(left == 0, "{left} transactions that panicked have committed");
    Ok(FaultRun { remark: format!("; {} panics", 2 * PANICKING), ..FaultRun::since(broken) })
}
