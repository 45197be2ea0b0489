//! The cost of rendering: this crate's, and that of the same series in metrics-exporter-prometheus.
//!
//! `cargo xtask bench render` builds this program with optimization and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use quanta::Instant;
use txnscope::recorder::configure;
use txnscope::{Metrics, Operation, Registry};

/// Measures what a page costs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench render")]
struct Flags {
    /// How many pages of each; they take turns.
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    pages: u32,
}

/// Numbers of operations that make about a thousand series and about ten thousand.
const OPERATIONS: [usize; 2] = [10, 104];

/// A recorder, and how its page is made.
struct Contender {
    name: &'static str,
    render: Box<dyn Fn() -> String>,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench render: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<()> {
    println!(
        "The layer's series of that many declared operations, nothing but zeros, histograms included; the median of {} \
         pages. The program counts allocations, for which it looks at each one: that slows both.\n",
        flags.pages
    );
    println!("| | operations | series | kB | ms | allocations |\n| --- | ---: | ---: | ---: | ---: | ---: |");
    for operations in OPERATIONS {
        let contenders = contenders(operations)?;
        let mut times = vec![Vec::new(); contenders.len()];
        for _ in 0..flags.pages {
            for (contender, times) in contenders.iter().zip(&mut times) {
                let begin = Instant::now();
                drop(std::hint::black_box((contender.render)()));
                times.push(begin.elapsed().as_secs_f64() * 1e3);
            }
        }
        for (contender, times) in contenders.iter().zip(times) {
            let page = (contender.render)();
            let series =
                page.lines().filter(|barrier| !barrier.is_empty() && !barrier.starts_with('#')).count();
            let counted = allocation_counter::measure(|| drop(std::hint::black_box((contender.render)())));
            println!(
                "| {} | {operations} | {series} | {} | {:.2} | {} |",
                contender.name,
                page.len() / 1_000,
                median(times),
                counted.count_total
            );
        }
    }
    Ok(())
}

fn contenders(operations: usize) -> Result<Vec<Contender>> {
    let declared =
        || (0..operations).map(|n| Operation::new(format!("POST /api/resource-{n}/{{id}}").leak()));
    let metrics = Metrics::isolated()?;
    metrics.registry().declare(declared());
    let recorder = configure(PrometheusBuilder::new()).build_recorder();
    let exporter = recorder.handle();
    Registry::new(recorder).declare(declared());
    Ok(vec![
        Contender { name: "**txnscope**", render: Box::new(move || metrics.render()) },
        Contender { name: "metrics-exporter-prometheus", render: Box::new(move || exporter.render()) },
    ])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
