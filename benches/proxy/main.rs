//! `txnscope proxy` beside nginx as a reverse proxy, in front of the same backend, in turns: added latency, throughput,
//! processor time and memory.
//!
//! wrk makes the load. The backend is an nginx with one constant answer, which costs less than either proxy.
//! `cargo xtask bench proxy` fetches both, builds this program and `txnscope` with optimization, and runs it. It prints
//! Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod idle;
mod load;
mod report;
mod servers;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::idle::Memory;
use crate::load::{LOADS, Round};
use crate::servers::{Backend, Server};

/// Measures the proxy and nginx.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench proxy")]
struct Flags {
    /// Duration of each load on each server in each round.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    round: Duration,
    /// Number of rounds; the servers alternate.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Number of threads of the proxy, and of worker processes of nginx.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
}

/// A server, with its measurements: one for each load and round.
struct Contender {
    server: Server,
    rounds: Vec<Vec<Round>>,
    /// With no connection, with idle ones, and with idle ones after the load.
    memory: Vec<Memory>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    let busy = load::average()?;
    let backend = Backend::start().await?;
    let mut contenders = Vec::new();
    for server in [
        Server::direct(&backend),
        Server::ours(&backend, flags.workers).await?,
        Server::nginx(&backend, flags.workers).await?,
    ] {
        contenders.push(Contender { server, rounds: Vec::new(), memory: Vec::new() });
    }
    for contender in &mut contenders[1..] {
        contender.memory = idle::measure(&contender.server).await?;
    }
    for contender in &mut contenders {
        // Connections, page faults and caches of the first requests are not measured.
        load::run(&contender.server, &LOADS[0], Duration::from_secs(1)).await?;
    }
    for round in 0..flags.rounds {
        eprintln!("round {} of {}", round + 1, flags.rounds);
        for contender in &mut contenders {
            contender.rounds.push(Vec::new());
        }
        for load in &LOADS {
            for contender in &mut contenders {
                let measured = load::run(&contender.server, load, flags.round).await?;
                contender.rounds.last_mut().into_iter().for_each(|round| round.push(measured));
            }
        }
    }
    for contender in &mut contenders[1..] {
        contender.memory.extend(idle::measure(&contender.server).await?.pop());
    }
    contenders[1].server.counted_all().await?;
    report::print(&contenders, flags, (busy, load::average()?));
    Ok(())
}
