//! Sequential transactions on separate documents: the overhead of the runner on a commit.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use end_to_end::measure::quantile;
use tokio::time::Instant;

use crate::{Contender, Environment, sorted};

const EACH: usize = 500;

pub(crate) async fn run(env: &Environment, rounds: u32) -> Result<()> {
    let attempts = Arc::<AtomicU64>::default();
    for contender in Contender::ALL {
        for _ in 0..EACH {
            contender.transact(env, 0, &attempts).await?;
        }
    }
    let mut samples: [Vec<f64>; 3] = Default::default();
    // The contenders alternate after every transaction, so that disturbances affect all of them equally.
    for _ in 0..EACH * rounds as usize {
        for (contender, samples) in Contender::ALL.into_iter().zip(&mut samples) {
            let begin = Instant::now();
            contender.transact(env, 0, &attempts).await?;
            samples.push(begin.elapsed().as_secs_f64());
        }
    }
    println!("### Uncontended commit\n");
    println!("One update and its commit, one client, {} transactions of each, in turns.\n", samples[0].len());
    println!("| | median | p99 | median against the driver's |\n| --- | --- | --- | --- |");
    let sorted = samples.map(sorted);
    let driver = quantile(&sorted[0], 0.5);
    for (contender, samples) in Contender::ALL.into_iter().zip(&sorted) {
        let (p50, p99) = (quantile(samples, 0.5), quantile(samples, 0.99));
        println!(
            "| {} | {:.3} ms | {:.3} ms | {:+.2} % |",
            contender.name(),
            p50 * 1e3,
            p99 * 1e3,
            (p50 / driver - 1.0) * 100.0
        );
    }
    println!();
    Ok(())
}
