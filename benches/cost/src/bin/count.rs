//! Counts what the layer adds to a request: allocations itself, instructions under callgrind, which counts what runs
//! below [`measured_requests`]. Counts, in contrast to times, do not depend on the machine's load.
//!
//! `count` prints a line for each contender: its name and the allocations of one request. `count NAME` runs the
//! requests of one contender. `cargo xtask test counts` does both, and compares.

#![allow(clippy::print_stdout, reason = "counts are what it makes")]

use std::process::ExitCode;

use anyhow::{Context, Result};
use cost::{Contender, REQUESTS, measured_requests, ready};
use txnscope::Metrics;

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("count: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(only: Option<&str>) -> Result<()> {
    let metrics = Metrics::isolated()?;
    let registry = metrics.registry();
    let subjects: [(&str, Contender, bool); 5] = [
        ("service", cost::without(), true),
        ("service-routed", cost::routed(registry), true),
        ("service-named", cost::named(registry), true),
        ("router", cost::router_without(), false),
        ("router-routed", cost::on_router(registry), false),
    ];
    if let Some(only) = only {
        let known = subjects.iter().find(|(name, ..)| *name == only);
        let (_, contender, below_router) = known
            .with_context(|| format!("unknown contender `{only}`; run without an argument for the names"))?;
        let (mut worker, mut requests) = ready(contender, *below_router)?;
        measured_requests(&mut worker, &mut requests);
        return Ok(());
    }
    for (name, contender, below_router) in &subjects {
        let (mut worker, mut requests) = ready(contender, *below_router)?;
        let counted = allocation_counter::measure(|| measured_requests(&mut worker, &mut requests));
        println!("{name} {}", counted.count_total.div_ceil(u64::from(REQUESTS)));
    }
    Ok(())
}
