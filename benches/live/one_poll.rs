//! The cost of one poll, for the benchmarks of the live page and of `txnscope top`, whose polls are the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use end_to_end::measure::on_processor;
use mongodb::Client;
use mongodb::bson::doc;
use tokio::time::sleep;
use txnscope_sidecar::Target;
use txnscope_sidecar::live::{LiveMonitor, LiveSettings};

/// The CPU time of mongod for one poll, in milliseconds, with as many polls as possible: with thousands of open transactions,
/// mongod's own work varies by more than one poll in half a minute costs. `alone` is what it takes in this time without polls.
pub(crate) async fn one_poll(
    client: &Client,
    uri: &str,
    pid: u32,
    alone: f64,
    duration: Duration,
) -> Result<f64> {
    let mut settings = LiveSettings::default();
    (settings.interval, settings.max_load) = (Duration::from_millis(50), 1.0);
    let monitor = LiveMonitor::start(&Target::new(uri), &settings).await?;
    monitor.wait_for_members(Duration::from_secs(60)).await;
    let (polls_before, before) = (polls(client).await?, on_processor(pid)?);
    sleep(duration).await;
    let (polls, spent) = (polls(client).await? - polls_before, on_processor(pid)? - before);
    monitor.shutdown().await;
    ensure!(polls > 0, "no poll has ended");
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let polls = polls as f64;
    Ok((spent - alone) / polls)
}

/// How often the server has run `lockInfo`, which each poll sends once, and nothing else.
pub(crate) async fn polls(client: &Client) -> Result<i64> {
    let status = client.database("admin").run_command(doc! {"serverStatus": 1}).await?;
    let commands = status.get_document("metrics")?.get_document("commands")?;
    Ok(commands.get_document("lockInfo")?.get_i64("total")?)
}
