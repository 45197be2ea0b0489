//! The bookkeeping cost of one attempt without network traffic: a session, a transaction, its first statement, its
//! end; compared with the driver's calls alone.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;
use end_to_end::measure::quantile;
use mongodb::Client;
use mongodb::bson::doc;
use txnscope::{Abort, Metrics, TransactionRunner};

use crate::{options, sorted};

const EACH: u32 = 2_000;
const SAMPLES: usize = 41;

pub(crate) fn run(uri: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async {
        let client = Client::with_uri_str(uri).await?;
        client.database("admin").run_command(doc! {"ping": 1}).await?;
        anyhow::Ok(client)
    })?;
    let runner = TransactionRunner::with_registry(&client, Metrics::isolated()?.registry());
    let driver = async || -> Result<()> {
        let mut session = client.start_session().await?;
        session.start_transaction().with_options(options()).await?;
        session.commit_transaction().await?;
        Ok(())
    };
    let ours = async || -> Result<()> {
        runner
            .run_as("bench", async |mut tx| {
                black_box(tx.session());
                Ok::<_, Abort>(())
            })
            .await?;
        Ok(())
    };
    let mut times: [Vec<f64>; 2] = Default::default();
    for sample in 0..=SAMPLES {
        let measured = [runtime.block_on(measure(&driver))?, runtime.block_on(measure(&ours))?];
        // The first sample is a warm-up.
        if sample > 0 {
            times
                .iter_mut()
                .zip(measured)
                .for_each(|(times, time)| times.push(time.as_secs_f64() / f64::from(EACH)));
        }
    }
    let mut failed = None;
    let mut allocations = |work: &dyn Fn() -> Result<()>| {
        allocation_counter::measure(|| failed = failed.take().or(work().err())).count_total
    };
    let allocated = [allocations(&|| runtime.block_on(driver())), allocations(&|| runtime.block_on(ours()))];
    if let Some(error) = failed {
        return Err(error);
    }
    let [driver, ours] = times.map(|times| quantile(&sorted(times), 0.5) * 1e9);
    println!("### Bookkeeping of one attempt\n");
    println!("No statement on the wire; the median of {SAMPLES} samples of {EACH}, one thread.\n");
    println!("| | time | allocations |\n| --- | --- | --- |");
    println!("| session, transaction and commit of the driver alone | {driver:.0} ns | {} |", allocated[0]);
    println!("| the same in the runner | {ours:.0} ns | {} |", allocated[1]);
    println!(
        "| **the runner's part** | **{:.0} ns** | **{}** |\n",
        ours - driver,
        allocated[1].saturating_sub(allocated[0])
    );
    Ok(())
}

async fn measure(work: &impl AsyncFn() -> Result<()>) -> Result<Duration> {
    let begin = quanta::Instant::now();
    for _ in 0..EACH {
        work().await?;
    }
    Ok(begin.elapsed())
}
