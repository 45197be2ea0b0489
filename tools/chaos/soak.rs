//! Load for a long time without faults, to find resource usage that grows.

use std::time::Duration;

use anyhow::Result;
use end_to_end::load::Load;
use testkit::Scrape;
use tokio::time::{Instant, sleep_until};

use crate::counters::Counters;
use crate::environment::Environment;
use crate::resource_limits::ResourceUsage;
use crate::{expectations, say};
use end_to_end::table::{Table, count, seconds};

/// The number of measurements.
const MEASUREMENTS: u32 = 12;

/// One measurement.
struct Measurement {
    after: Duration,
    answered: f64,
    held: ResourceUsage,
    series: [usize; 2],
}

/// Applies load for that long, and verifies that all usage stays at its level after a sixth of the time.
pub(crate) async fn run(env: &Environment, length: Duration, rate: u32, seed: u64) -> Result<bool> {
    let (client, load, begun) = (env.client(), Load::default(), Instant::now());
    let measurements = async {
        let mut measurements = Vec::new();
        for turn in 1..=MEASUREMENTS {
            sleep_until(begun + length * turn / MEASUREMENTS).await;
            let answered: u64 = load.responses().values().sum();
            let measurement = measure(env, begun.elapsed(), crate::audit::number(answered)).await?;
            say(&format!("  {:.0?}: {answered} answered; {}", measurement.after, measurement.held.line()));
            measurements.push(measurement);
        }
        anyhow::Ok(measurements)
    };
    let work = load.run_in_shifts(&client, rate, sleep_until(begun + length), seed);
    let (measurements, ()) = tokio::try_join!(measurements, work)?;
    drop(client);
    let mut complaints = Vec::new();
    let after = Counters::quiet(env).await?;
    expectations::sidecar(env, &after, &mut complaints).await?;
    expectations::checks(env, &mut complaints).await?;
    let (first, last) = (&measurements[1], &measurements[measurements.len() - 1]);
    complaints.extend(last.held.excess(&first.held, env).await?);
    for (page, first, last) in [
        ("the ledger's page", first.series[0], last.series[0]),
        ("the sidecar's page", first.series[1], last.series[1]),
    ] {
        // An application that connects or disconnects changes the number of its series; a leak adds one per
        // transaction.
        if last > first + first / 10 {
            complaints.push(format!("{page} has {last} series, and had {first}"));
        }
    }
    say(&format!("\n{}", report(&measurements)));
    for complaint in &complaints {
        say(&format!("  ✗ {complaint}"));
    }
    if complaints.is_empty() {
        say("  ✓ nothing grew, and all that should hold holds");
    }
    Ok(complaints.is_empty())
}

fn series(page: &Scrape) -> usize {
    page.families().iter().map(|family| family.series.len()).sum()
}

async fn measure(env: &Environment, after: Duration, answered: f64) -> Result<Measurement> {
    let series = [series(&env.ledger_page().await?), series(&env.sidecar_page().await?)];
    Ok(Measurement { after, answered, held: ResourceUsage::now(env)?, series })
}

fn report(measurements: &[Measurement]) -> Table {
    let mut table =
        Table::new(&["AFTER", "answered", "ledger MiB", "files", "series", "sidecar MiB", "files", "series"]);
    for measurement in measurements {
        let [ledger, sidecar] = measurement.held.figures();
        table.row([
            seconds(measurement.after.as_secs_f64()),
            count(measurement.answered),
            format!("{:.1}", ledger.0),
            count(ledger.1),
            measurement.series[0].to_string(),
            format!("{:.1}", sidecar.0),
            count(sidecar.1),
            measurement.series[1].to_string(),
        ]);
    }
    table
}
