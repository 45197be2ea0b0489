//! The cost of the live page: the CPU time of mongod while the page is open, and the time for which the page blocks the
//! browser's main thread.
//!
//! `cargo xtask bench live` builds this program with optimization and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod one_poll;

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use end_to_end::measure::on_processor;
use mongodb::bson::doc;
use mongodb::{Client, ClientSession};
use testkit::{ReplicaSetOptions, browser_script};
use tokio::time::{Instant, sleep, timeout};
use txnscope_sidecar::{Config, Sidecar};

use crate::one_poll::one_poll;

/// The numbers of open transactions.
const OPEN: [usize; 3] = [0, 1_000, 5_000];

/// How long mongod takes to settle after many transactions have begun.
const SETTLING: Duration = Duration::from_secs(5);

/// Measures the cost of the live page.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench live")]
struct Flags {
    /// The duration of each measurement, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Leave out the browser.
    #[arg(long)]
    server_only: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench live: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    server(Duration::from_secs(flags.seconds)).await?;
    if flags.server_only {
        return Ok(());
    }
    println!("\nIn the browser, with a new report each second, while a script scrolls, filters and sorts:\n");
    let mut script = browser_script("live-bench.js")?;
    let status = script.arg(format!("--seconds={}", flags.seconds)).stdout(Stdio::inherit()).status()?;
    ensure!(status.success(), "the script in the browser ended with {status}");
    Ok(())
}

/// The cost on the server.
async fn server(duration: Duration) -> Result<()> {
    let set = ReplicaSetOptions::new(1).parameter("transactionLifetimeLimitSeconds", 3_600).start().await?;
    let client = set.client().await?;
    client.database("bench").create_collection("items").await?;
    let mut config = Config::new(set.uri());
    config.listen_addresses = vec!["127.0.0.1:0".parse()?];
    // The regular polls are measured by `bench sidecar`.
    config.poll_interval = Duration::from_secs(24 * 3_600);
    let sidecar = Sidecar::start(config).await?;
    let events = format!("http://{}/live/events", sidecar.local_addr());
    let pid = set.members()[0].pid();
    println!(
        "| open transactions | mongod, one poll | mongod, of one core | reports per minute | bytes of a report |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let mut open = Vec::new();
    for wanted in OPEN {
        begin(&client, &mut open, wanted).await?;
        sleep(SETTLING).await;
        let before = on_processor(pid)?;
        sleep(duration).await;
        let alone = on_processor(pid)? - before;
        let poll = one_poll(&client, &set.uri(), pid, alone, duration).await?;
        let Viewed { cost, reports, bytes } = view(&events, pid, duration).await?;
        let seconds = duration.as_secs_f64();
        let percent = (cost - alone) / seconds / 10.0;
        #[allow(clippy::cast_precision_loss, reason = "small counts")]
        let (per_minute, each) = (reports as f64 * 60.0 / seconds, bytes as f64 / reports.max(1) as f64);
        println!("| {wanted} | {poll:.1} ms | {percent:.2} % | {per_minute:.0} | {each:.0} |");
        // The page is no longer polled for when the next measurement begins.
        sleep(2 * SETTLING).await;
    }
    for mut session in open {
        session.abort_transaction().await?;
    }
    sidecar.shutdown().await;
    Ok(())
}

async fn begin(client: &Client, open: &mut Vec<ClientSession>, wanted: usize) -> Result<()> {
    let items = client.database("bench").collection("items");
    while open.len() < wanted {
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        items.insert_one(doc! {"n": 0}).session(&mut session).await?;
        open.push(session);
    }
    Ok(())
}

struct Viewed {
    /// CPU time of mongod, in milliseconds.
    cost: f64,
    reports: usize,
    bytes: usize,
}

/// Reads the events for some time, as a browser does.
async fn view(events: &str, pid: u32, duration: Duration) -> Result<Viewed> {
    let mut response = reqwest::get(events).await?;
    // Opening the connections is no cost of polling.
    sleep(SETTLING).await;
    while timeout(Duration::from_millis(50), response.chunk()).await.is_ok() {}
    let (before, end) = (on_processor(pid)?, Instant::now() + duration);
    let (mut reports, mut bytes) = (0, 0);
    while let Ok(piece) = tokio::time::timeout_at(end, response.chunk()).await {
        let piece = piece?.context("the events have ended")?;
        bytes += piece.len();
        reports += piece.windows(13).filter(|window| window == b"event: report").count();
    }
    Ok(Viewed { cost: on_processor(pid)? - before, reports, bytes })
}
