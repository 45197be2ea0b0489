//! The error rates of `txnscope verify` on simulated traffic with a known truth.

use std::io::{self, Write as _};

use clap::Parser;
use txnscope_catalog::DURATION_BUCKETS;

use txnscope_rollout::alpha_spent;
use txnscope_rollout::simulation::{Change, Decision, LIMITS, Noise, Scenario};

#[derive(Debug, Parser)]
struct Flags {
    /// Number of runs of each scenario; the seed of a run is its number.
    #[arg(long, default_value_t = 50)]
    runs: u64,
}

const SLICES: usize = 24;
const INTERIM_ANALYSES: u32 = 30;

fn main() -> io::Result<()> {
    let runs = Flags::parse().runs;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{runs} seeded runs of each scenario: 5 operations, a baseline of {SLICES} slices as long as the window, the \
         defaults of the command.\n\n\
         | what came after | noise | requests in the window, each operation | go | no-go | inconclusive |\n\
         | --- | --- | ---: | ---: | ---: | ---: |"
    )?;
    for (what, change) in [
        ("nothing", Change::None),
        ("2 % more fail", Change::Failures(0.02)),
        ("p99 doubled, by a slower tail", Change::Tail(2.0)),
        ("everything takes twice as long", Change::Slower(2.0)),
    ] {
        for (noise, requests) in
            [(Noise::Even, 5_000), (Noise::Bursty, 5_000), (Noise::Even, 500), (Noise::Even, 50)]
        {
            let scenario = Scenario { noise, change, operations: 5, slices: SLICES, requests };
            let decisions: Vec<Decision> =
                (0..runs).map(|seed| scenario.run(DURATION_BUCKETS, seed)).collect();
            let count = |of| decisions.iter().filter(|decision| **decision == of).count();
            let (go, no, unknown) =
                (count(Decision::Go), count(Decision::NoGo), count(Decision::Inconclusive));
            writeln!(out, "| {what} | {} | {requests} | {go} | {no} | {unknown} |", named(noise))?;
        }
    }
    writeln!(
        out,
        "\nWith `--wait`, {INTERIM_ANALYSES} looks at a window that fills up to 5,000 requests each:\n\n\
         | what came after | go | no-go | inconclusive | look that ended it, median |\n\
         | --- | ---: | ---: | ---: | ---: |"
    )?;
    for (what, change) in [
        ("nothing", Change::None),
        ("2 % more fail", Change::Failures(0.02)),
        ("p99 doubled, by a slower tail", Change::Tail(2.0)),
    ] {
        let scenario =
            Scenario { noise: Noise::Even, change, operations: 5, slices: SLICES, requests: 5_000 };
        let watched: Vec<(Decision, u32)> = (0..runs)
            .map(|seed| {
                scenario.watch(DURATION_BUCKETS, seed, INTERIM_ANALYSES, |look| {
                    alpha_spent(LIMITS.alpha, INTERIM_ANALYSES, look == INTERIM_ANALYSES)
                })
            })
            .collect();
        let count = |of| watched.iter().filter(|(decision, _)| *decision == of).count();
        let mut looks: Vec<u32> = watched.iter().map(|(_, look)| *look).collect();
        looks.sort_unstable();
        let median = looks.get(looks.len() / 2).copied().unwrap_or_default();
        let (go, no, unknown) = (count(Decision::Go), count(Decision::NoGo), count(Decision::Inconclusive));
        writeln!(out, "| {what} | {go} | {no} | {unknown} | {median} of {INTERIM_ANALYSES} |")?;
    }
    Ok(())
}

fn named(noise: Noise) -> &'static str {
    match noise {
        Noise::Even => "chance alone",
        Noise::Bursty => "in bursts",
    }
}
