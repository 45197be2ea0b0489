//! Thirty-two writers of one document: the amount of wasted work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use end_to_end::measure::quantile;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Contender, Environment, sorted};

const WRITERS: usize = 32;

#[derive(Default)]
struct Totals {
    rates: Vec<f64>,
    commits: u64,
    attempts: u64,
    latencies: Vec<f64>,
}

pub(crate) async fn run(env: &Environment, rounds: u32, length: Duration) -> Result<()> {
    let mut all: [Totals; 3] = Default::default();
    for _ in 0..rounds {
        for (contender, totals) in Contender::ALL.into_iter().zip(&mut all) {
            round(env, contender, length, totals).await?;
        }
    }
    println!("### {WRITERS} writers on one document\n");
    println!(
        "{rounds} rounds of {length:?} of each, in turns. An attempt that did not commit is wasted. The rate is that of the median round.\n"
    );
    println!(
        "| | commits/s | against the driver's | wasted attempts per commit | against the driver's | p50 | p99 |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    let mut driver = None;
    for (contender, totals) in Contender::ALL.into_iter().zip(all) {
        let rate = quantile(&sorted(totals.rates), 0.5);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let wasted = (totals.attempts - totals.commits) as f64 / totals.commits as f64;
        let (driver_rate, driver_wasted) = *driver.get_or_insert((rate, wasted));
        let latencies = sorted(totals.latencies);
        println!(
            "| {} | {rate:.0} | {:.2} × | {wasted:.3} | {:.2} × | {:.1} ms | {:.1} ms |",
            contender.name(),
            rate / driver_rate,
            wasted / driver_wasted,
            quantile(&latencies, 0.5) * 1e3,
            quantile(&latencies, 0.99) * 1e3,
        );
    }
    println!();
    Ok(())
}

async fn round(env: &Environment, contender: Contender, length: Duration, totals: &mut Totals) -> Result<()> {
    let (attempts, begin) = (Arc::<AtomicU64>::default(), Instant::now());
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let attempts = Arc::clone(&attempts);
        let env =
            Environment { client: env.client.clone(), runner: env.runner.clone(), items: env.items.clone() };
        writers.spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < length {
                let asked = Instant::now();
                contender.transact(&env, 1, &attempts).await?;
                latencies.push(asked.elapsed().as_secs_f64());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut commits = 0;
    while let Some(writer) = writers.join_next().await {
        let latencies = writer??;
        commits += latencies.len();
        totals.latencies.extend(latencies);
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    totals.rates.push(commits as f64 / begin.elapsed().as_secs_f64());
    totals.commits += u64::try_from(commits)?;
    totals.attempts += attempts.load(Relaxed);
    Ok(())
}
