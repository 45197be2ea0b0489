//! Compares the tower layer with its peers, and with the floor: the same requests to the same service in one run.
//!
//! `cargo xtask bench layer` builds this program with optimization and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod floor;
mod peers;
mod sampling;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use txnscope::Metrics;

use crate::peers::ContenderSet;
use crate::sampling::{Cost, SampleSize, Workload};

/// The contender without a layer, and the one without a service.
const WITHOUT: usize = 0;
const FLOOR: usize = 1;

/// Compares the tower layer with its peers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench layer")]
struct Flags {
    /// How many samples of each contender; they take turns.
    #[arg(long, default_value_t = 101)]
    samples: usize,
    /// How many requests each thread makes in one sample.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(10..))]
    requests: u32,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench layer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<()> {
    let size = SampleSize { samples: flags.samples, requests: flags.requests };
    let exporter = peers::install_recorder()?;
    let metrics = Metrics::isolated()?;
    println!(
        "Nanoseconds added to a request: the median of {} samples of {} requests, each less the sample of the service \
         without a layer that was taken beside it. A request is made, driven to its response, and the response's body \
         read to its end. The floor is two reads of the standard clock and three atomic additions in a loop, without a \
         request; the last column is one thread's, one route.\n",
        size.samples, size.requests
    );
    let report = |title: &str, set: &ContenderSet| -> Result<()> {
        let mut workloads = Vec::new();
        for workload in Workload::ALL {
            workloads.push(sampling::measure(set, workload, size, &exporter)?);
        }
        println!("### {title}\n");
        table(set, &workloads);
        Ok(())
    };
    report("Around a service that does nothing", &peers::around_no_op(metrics.registry()))?;
    report(&format!("On axum's router with {} routes", cost::ROUTES), &peers::on_router(metrics.registry()))
}

fn table(set: &ContenderSet, workloads: &[Vec<Cost>]) {
    let names: Vec<_> = Workload::ALL.iter().map(|workload| workload.name()).collect();
    println!("| | {} | against the floor |", names.join(" | "));
    println!("| --- |{}", " ---: |".repeat(names.len() + 1));
    let floor = workloads[0][FLOOR].all;
    for (index, contender) in set.contenders.iter().enumerate() {
        let costs = workloads.iter().map(|workload| &workload[index]);
        let cells: Vec<_> = match index {
            WITHOUT => costs.map(|cost| format!("({:.0})", cost.all)).collect(),
            FLOOR => costs.map(|cost| format!("{:.0}", cost.all)).collect(),
            _ => costs.map(|cost| format!("{:.0}", cost.added)).collect(),
        };
        let ratio = match index {
            WITHOUT => String::new(),
            FLOOR => "1.00 ×".to_owned(),
            _ => format!("{:.2} ×", workloads[0][index].added / floor),
        };
        println!("| {} | {} | {ratio} |", contender.name, cells.join(" | "));
    }
    println!();
}
