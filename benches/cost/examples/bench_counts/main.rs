//! Allocations and instructions of a request with the tower layer, its peers and the floor.
//!
//! `cargo xtask bench counts` builds this program with optimization and runs it. Without an argument it prints a line
//! for each contender: the stack, its number in it, the allocations of a request, its name. With a stack and a number
//! it runs that one's requests, for callgrind to count.

#![allow(clippy::print_stdout, reason = "counts are what it makes")]

#[path = "../bench_layer/floor.rs"]
mod floor;
#[path = "../bench_layer/peers.rs"]
mod peers;

use std::process::ExitCode;

use anyhow::{Context, Result};
use cost::{REQUESTS, measured_requests, ready};
use txnscope::Metrics;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench counts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let _exporter = peers::install_recorder()?;
    let metrics = Metrics::isolated()?;
    let registry = metrics.registry();
    let fields = [("service", peers::around_no_op(registry)), ("router", peers::on_router(registry))];
    if let [stack, number] = arguments {
        let known = fields.iter().find(|(name, _)| name == stack);
        let contender = known.and_then(|(_, set)| set.contenders.get(number.parse::<usize>().ok()?));
        let below_router = known.is_some_and(|(_, set)| set.below_router);
        let (mut worker, mut requests) =
            ready(contender.context("there is no such contender")?, below_router)?;
        measured_requests(&mut worker, &mut requests);
        return Ok(());
    }
    for (stack, set) in &fields {
        for (number, contender) in set.contenders.iter().enumerate() {
            let (mut worker, mut requests) = ready(contender, set.below_router)?;
            let counted = allocation_counter::measure(|| measured_requests(&mut worker, &mut requests));
            let allocations = counted.count_total.div_ceil(u64::from(REQUESTS));
            println!("{stack} {number} {allocations} {}", contender.name);
        }
    }
    Ok(())
}
