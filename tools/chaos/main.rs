//! Fault injection (chaos): faults are injected into the ledger, its replica set, the sidecar and Prometheus, one
//! after another, under load; after each, all invariants are verified.
//!
//! All parts are real: three members behind proxies, the ledger with layer, runner and listener, the sidecar with the
//! ledger's checks, Prometheus. The order of the faults and all random choices follow from the seed.

mod audit;
mod backend;
mod clock;
mod counters;
mod daemon;
mod environment;
mod expectations;
mod fault;
mod iteration;
#[cfg(test)]
mod mutations;
mod resource_limits;
mod soak;

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::environment::Environment;
use crate::fault::Fault;
use crate::iteration::IterationResult;
use end_to_end::table::{Table, count, seconds};

/// Injects faults, and verifies that nothing is lost.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos")]
struct Flags {
    /// Seed; a run prints its own. The same seed runs the same faults in the same order.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run only these faults, separated by commas.
    #[arg(long, value_name = "FAULTS", value_delimiter = ',', value_enum)]
    faults: Vec<Fault>,

    /// Number of rounds, each with all faults in another order.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,

    /// Requests per second.
    #[arg(long, value_name = "N", default_value_t = RATE, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,

    /// Run only short faults with a fixed seed: less than a minute.
    #[arg(long, conflicts_with_all = ["faults", "rounds"])]
    short: bool,

    /// Inject no faults: apply load for this long, and verify that no resource usage grows.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with_all = ["faults", "rounds", "short"])]
    soak: Option<Duration>,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The ledger, in a separate process.
    #[command(hide = true)]
    Backend {
        #[arg(long = "web.listen-address")]
        listen: SocketAddr,
    },
}

/// The default of requests per second.
const RATE: u32 = 30;

/// The seed of the short form.
const SEED: u64 = 7;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let ended = match flags.part {
        Some(Part::Backend { listen }) => backend::run(listen).map(|()| true),
        None => play_all(&flags),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn play_all(flags: &Flags) -> Result<bool> {
    tokio::select! {
        chaos = run(flags) => chaos,
        _ = tokio::signal::ctrl_c() => bail!("stopped before all faults were injected"),
    }
}

/// `false` if an invariant was violated.
async fn run(flags: &Flags) -> Result<bool> {
    let seed =
        flags.seed.unwrap_or_else(|| if flags.short { SEED } else { rand::random_range(0..1_000_000) });
    say(&format!("Seed {seed}. To repeat the run: {}", again(flags, seed)));
    let mut rng = StdRng::seed_from_u64(seed);
    let faults = schedule(flags, &mut rng);
    say("Starting a replica set of three members, the ledger, the sidecar and Prometheus …");
    let mut env = Environment::set().await?;
    if let Some(length) = flags.soak {
        let held = soak::run(&env, length, flags.rate, seed).await;
        if !matches!(held, Ok(true)) {
            env.show_logs();
        }
        env.shut_down().await?;
        return held;
    }
    let mut results = Vec::new();
    for fault in [Fault::Calm].into_iter().chain(faults) {
        let result = iteration::run(&mut env, fault, flags.rate, rng.random()).await;
        match result {
            Ok(result) => {
                say(&format!("  {}", result.line()));
                results.push(result);
            }
            Err(error) => {
                env.show_logs();
                return Err(error.context(format!("{} with the seed {seed}", fault.name())));
            }
        }
    }
    say(&format!("\n{}", report(seed, &results)));
    let broken: Vec<_> = results.iter().filter(|result| !result.complaints.is_empty()).collect();
    for result in &broken {
        for complaint in &result.complaints {
            say(&format!("  ✗ {}: {complaint}", result.fault.name()));
        }
    }
    if broken.is_empty() {
        say(&format!("  ✓ after each of {} faults, all invariants held; seed {seed}", results.len() - 1));
    } else {
        say(&format!(
            "  ✗ {} of {} iterations violated an invariant; to repeat the run: {}",
            broken.len(),
            results.len(),
            again(flags, seed)
        ));
        env.show_logs();
    }
    env.shut_down().await?;
    Ok(broken.is_empty())
}

/// The command that repeats the run.
fn again(flags: &Flags, seed: u64) -> String {
    let mut command = format!("cargo xtask chaos --seed {seed}");
    if flags.short {
        command.push_str(" --short");
    }
    if let Some(length) = flags.soak {
        command.push_str(&format!(
            " --soak {}",
            humantime::format_duration(length).to_string().replace(' ', "")
        ));
    }
    if !flags.faults.is_empty() {
        let names: Vec<_> = flags.faults.iter().map(|fault| fault.name()).collect();
        command.push_str(&format!(" --faults {}", names.join(",")));
    }
    if flags.rate != RATE {
        command.push_str(&format!(" --rate {}", flags.rate));
    }
    if flags.rounds != 1 {
        command.push_str(&format!(" --rounds {}", flags.rounds));
    }
    command
}

/// The faults in their order.
fn schedule(flags: &Flags, rng: &mut StdRng) -> Vec<Fault> {
    let mut faults = if flags.short {
        Fault::SHORT.to_vec()
    } else if flags.faults.is_empty() {
        Fault::all().collect()
    } else {
        flags.faults.clone()
    };
    let mut schedule = Vec::new();
    for _ in 0..flags.rounds {
        faults.shuffle(rng);
        schedule.extend(&faults);
    }
    schedule
}

fn report(seed: u64, results: &[IterationResult]) -> Table {
    let seed = format!("FAULT (SEED {seed})");
    let mut table = Table::new(&[
        &seed,
        "duration",
        "succeeded",
        "rejected",
        "failed",
        "unanswered",
        "succeeding again after",
        "idle after",
        "exporter accurate after",
    ]);
    for result in results {
        let [held, served, quiet, verified] = [result.held, result.served, result.quiet, result.verified]
            .map(|time| seconds(time.as_secs_f64()));
        let [succeeded, rejected, failed, unanswered] = result.during.map(count);
        table.row([
            result.fault.name(),
            held,
            succeeded,
            rejected,
            failed,
            unanswered,
            served,
            quiet,
            verified,
        ]);
    }
    table
}

/// A closed pipe (`| head`) is not an error.
pub(crate) fn say(line: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
