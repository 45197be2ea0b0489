//! The end-to-end overhead of the layer, the runner and the listener in a backend under load: one operation of the
//! ledger, with the same statements in each variant, in a separate process, on a real replica set.
//!
//! The load is open: requests arrive at a fixed rate, whether or not earlier ones have been answered, and each is
//! timed from its due time. `cargo xtask bench ledger` builds this program with optimization and runs it. It prints
//! Markdown. With `--history` (`cargo xtask bench history`) it measures how the cost of a consumption depends on the
//! number of earlier ones.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod backend;
mod history;
mod load;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use testkit::ReplicaSet;

use crate::backend::{Backend, Variant};
use crate::load::Round;

/// Measures a backend with and without instrumentation.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench ledger")]
struct Flags {
    /// Requests per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Duration of the load on each variant in each round.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    round: Duration,
    /// Number of rounds; the variants alternate.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure instead a consumption of a retainer with a short history and of one with a long history.
    #[arg(long)]
    history: bool,
    /// Number of consumptions before those of the long history that are measured.
    #[arg(long, default_value_t = 100_000, requires = "history")]
    consumptions: u32,
    /// Run as the backend, in the process that the benchmark starts.
    #[arg(long, hide = true, requires = "uri")]
    serve: Option<Variant>,
    #[arg(long, hide = true)]
    uri: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let done = match (flags.serve, &flags.uri) {
        (Some(variant), Some(uri)) => backend::serve(variant, uri).await,
        _ if flags.history => history::run(flags.consumptions, flags.rounds).await,
        _ => run(&flags).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench ledger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    let set = ReplicaSet::start(1).await?;
    backend::fill(&set.uri()).await?;
    let mut contenders = Vec::new();
    for variant in Variant::ALL {
        let backend = Backend::start(variant, &set.uri()).await?;
        // Connections, page faults and query planning of the first requests are not measured.
        Round::run(&backend, set.members()[0].pid(), flags.rate, Duration::from_secs(2)).await?;
        contenders.push((backend, Vec::new()));
    }
    for _ in 0..flags.rounds {
        for (backend, rounds) in &mut contenders {
            rounds.push(Round::run(backend, set.members()[0].pid(), flags.rate, flags.round).await?);
        }
    }
    println!(
        "Consuming a retainer: an update and two lines of the general ledger in one transaction, {} retainers. {} \
         requests a second arrive, {} rounds of {} of each variant, in turns.\n",
        backend::RETAINERS,
        flags.rate,
        flags.rounds,
        humantime::format_duration(flags.round)
    );
    load::report(
        &contenders.iter().map(|(backend, rounds)| (backend.variant, rounds.as_slice())).collect::<Vec<_>>(),
    );
    Ok(())
}
