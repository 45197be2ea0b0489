//! The tower layer beside its peers, and beside the floor: the same requests to the same service in one run.
//!
//! `cargo xtask bench layer` builds it with optimisation and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod floor;
mod peers;
mod sampling;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use txnscope::Metrics;

use crate::peers::Field;
use crate::sampling::{Cost, Effort, Scene};

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
    let effort = Effort { samples: flags.samples, requests: flags.requests };
    let exporter = peers::install_recorder()?;
    let metrics = Metrics::isolated()?;
    println!(
        "Nanoseconds added to a request: the median of {} samples of {} requests, each less the sample of the service \
         without a layer that was taken beside it. A request is made, driven to its response, and the response's body \
         read to its end. The floor is two reads of the standard clock and three atomic additions in a loop, without a \
         request; the last column is one thread's, one route.\n",
        effort.samples, effort.requests
    );
    let report = |title: &str, field: &Field| -> Result<()> {
        let mut scenes = Vec::new();
        for scene in Scene::ALL {
            scenes.push(sampling::measure(field, scene, effort, &exporter)?);
        }
        println!("### {title}\n");
        table(field, &scenes);
        Ok(())
    };
    report("Around a service that does nothing", &peers::around_no_op(metrics.registry()))?;
    report(&format!("On axum's router with {} routes", cost::ROUTES), &peers::on_router(metrics.registry()))
}

fn table(field: &Field, scenes: &[Vec<Cost>]) {
    let names: Vec<_> = Scene::ALL.iter().map(|scene| scene.name()).collect();
    println!("| | {} | against the floor |", names.join(" | "));
    println!("| --- |{}", " ---: |".repeat(names.len() + 1));
    let floor = scenes[0][FLOOR].all;
    for (index, contender) in field.contenders.iter().enumerate() {
        let costs = scenes.iter().map(|scene| &scene[index]);
        let cells: Vec<_> = match index {
            WITHOUT => costs.map(|cost| format!("({:.0})", cost.all)).collect(),
            FLOOR => costs.map(|cost| format!("{:.0}", cost.all)).collect(),
            _ => costs.map(|cost| format!("{:.0}", cost.added)).collect(),
        };
        let ratio = match index {
            WITHOUT => String::new(),
            FLOOR => "1.00 ×".to_owned(),
            _ => format!("{:.2} ×", scenes[0][index].added / floor),
        };
        println!("| {} | {} | {ratio} |", contender.name, cells.join(" | "));
    }
    println!();
}
