//! What the same server is asked by others: the whole of `serverStatus`, as an exporter that is not choosy asks for it,
//! and Percona's exporter where it is at hand.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use end_to_end::measure::{self, quantile};
use mongodb::bson::doc;
use tempfile::TempDir;
use testkit::{Process, free_port, wait};
use tokio::time::{Instant, sleep};

use crate::wire::Wire;
use crate::{Stage, Work};

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) async fn report(stage: &Stage<'_>, exporter: Option<&Path>, work: Work) -> Result<()> {
    println!("### Beside it\n");
    println!("On the same server, with {} transactions open.\n", work.open[2]);
    println!("| | mongod, each | bytes from mongod, each | connections, each | p50 | p99 | resident |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let admin = stage.client.database("admin");
    // What any command costs at this pace, however little it says, is the floor of a poll, which is some of them.
    for (name, command) in
        [("`ping`", doc! {"ping": 1}), ("`serverStatus` with nothing left out", doc! {"serverStatus": 1})]
    {
        let ask = async || anyhow::Ok(admin.run_command(command.clone()).await?);
        let bytes = mongodb::bson::serialize_to_vec(&ask().await?)?.len();
        let (spent, seconds) = each(stage, work.polls, async || ask().await.map(drop)).await?;
        println!(
            "| {name}, by a client that is connected | {spent:.2} ms | {bytes} | 0 | {:.2} ms | {:.2} ms | |",
            quantile(&seconds, 0.5) * 1e3,
            quantile(&seconds, 0.99) * 1e3
        );
    }
    if let Some(program) = exporter {
        let wire = Wire::to(stage.address()).await?;
        let (folder, port) = (TempDir::new()?, free_port()?);
        let arguments = [
            format!("--mongodb.uri=mongodb://{}/", wire.address),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--collector.diagnosticdata".to_owned(),
            "--collector.replicasetstatus".to_owned(),
            "--collector.currentopmetrics".to_owned(),
        ];
        let process = Process::spawn(program, &arguments, folder.path().join("log")).await?;
        let url = format!("http://127.0.0.1:{port}/metrics");
        let scrape = async || anyhow::Ok(reqwest::get(&url).await?.error_for_status()?.bytes().await?);
        wait::until("the exporter's first page", async || scrape().await.map(drop)).await?;
        wire.take();
        let (spent, seconds) = each(stage, work.polls, async || scrape().await.map(drop)).await?;
        let traffic = wire.take();
        let bytes: u64 = traffic.replies.values().map(|(_, bytes)| bytes).sum();
        println!(
            "| a scrape of mongodb_exporter (diagnosticdata, replicasetstatus, currentopmetrics) | {spent:.2} ms | {} | {:.1} | {:.2} ms | {:.2} ms | {:.1} MB |",
            bytes / work.polls,
            traffic.connections as f64 / work.polls as f64,
            quantile(&seconds, 0.5) * 1e3,
            quantile(&seconds, 0.99) * 1e3,
            measure::resident(process.pid())?
        );
    }
    println!();
    Ok(())
}

/// mongod's milliseconds on the processor for one, what it does by itself taken off; and how long each took, sorted.
async fn each(stage: &Stage<'_>, times: u64, work: impl AsyncFn() -> Result<()>) -> Result<(f64, Vec<f64>)> {
    const PAUSE: Duration = crate::level::INTERVAL;
    let mut seconds = Vec::new();
    let (begin, before) = (Instant::now(), measure::on_processor(stage.pid())?);
    for _ in 0..times {
        let begin = Instant::now();
        work().await?;
        seconds.push(begin.elapsed().as_secs_f64());
        sleep(PAUSE).await;
    }
    let (took, spent) = (begin.elapsed(), measure::on_processor(stage.pid())? - before);
    let before = measure::on_processor(stage.pid())?;
    sleep(took).await;
    let idle = measure::on_processor(stage.pid())? - before;
    seconds.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, reason = "some hundred")]
    let times = times as f64;
    Ok(((spent - idle) / times, seconds))
}
