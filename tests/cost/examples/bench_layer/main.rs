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
use crate::sampling::{Effort, Scene};

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
    let report = |field: &Field, floor| -> Result<()> {
        let mut scenes = Vec::new();
        for scene in Scene::ALL {
            scenes.push(sampling::measure(field, scene, effort, &exporter)?);
        }
        table(field, &scenes, floor);
        Ok(())
    };
    println!(
        "Nanoseconds added to a request: the median of {} samples of {} requests, less the same of the service without \
         a layer. A request is made, driven to its response, and the response's body read to its end.\n",
        effort.samples, effort.requests
    );
    let floor = sampling::floor(effort);
    println!(
        "The floor, two reads of the standard clock and three atomic additions in a loop: **{floor:.0} ns**.\n"
    );
    println!("### Around a service that does nothing\n");
    report(&peers::around_no_op(metrics.registry()), floor)?;
    println!("### On axum's router with {} routes\n", cost::ROUTES);
    report(&peers::on_router(metrics.registry()), floor)
}

fn table(field: &Field, scenes: &[Vec<f64>], floor: f64) {
    let names: Vec<_> = Scene::ALL.iter().map(|scene| scene.name()).collect();
    println!("| | {} | against the floor |", names.join(" | "));
    println!("| --- |{}", " ---: |".repeat(names.len() + 1));
    for (index, contender) in field.contenders.iter().enumerate() {
        let added = |scene: &Vec<f64>| scene[index] - scene[0];
        let cells: Vec<_> = match index {
            0 => scenes.iter().map(|scene| format!("({:.0})", scene[0])).collect(),
            _ => scenes.iter().map(|scene| format!("{:.0}", added(scene))).collect(),
        };
        let ratio = if index == 0 { String::new() } else { format!("{:.2} ×", added(&scenes[0]) / floor) };
        println!("| {} | {} | {ratio} |", contender.name, cells.join(" | "));
    }
    println!();
}
