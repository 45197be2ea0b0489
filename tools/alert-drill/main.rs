//! The alert drill: faults are injected into a replica set, its data and the sidecar, one after the other, under
//! load. Each alert for such a fault must reach its receiver, and be resolved after the fault has ended.
//!
//! All parts are real: three members, the ledger, the sidecar with its checks, Prometheus with the rules of
//! `alerts/rules`, Alertmanager with `alerts/alertmanager.yml`, and a receiver. Only durations are shorter: see
//! `fast_rules`.

mod environment;
mod fast_rules;
mod listener;
mod scenarios;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use end_to_end::load::{Load, Targets};
use tokio::sync::oneshot;

use crate::environment::Environment;
use crate::scenarios::{AlertResult, run as run_scenarios};
use end_to_end::table::Table;

/// Injects faults, and verifies that each alert fires, reaches its receiver, and is resolved.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask drill")]
struct Flags {
    /// Run only the scenarios with these names.
    #[arg(long = "scenario", value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(scenarios::NAMES))]
    scenarios: Vec<String>,

    /// Requests per second, in addition to those of the scenarios.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let drill = tokio::select! {
        drill = run(&flags) => drill,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped before the end")),
    };
    match drill {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false` if an alert did not fire or was not resolved.
async fn run(flags: &Flags) -> Result<bool> {
    say("Starting a replica set of three members, the ledger, the sidecar, Prometheus and Alertmanager …");
    let mut env = Environment::set().await?;
    let (client, load) = (env.client(), Load::default());
    let targets = Targets::open(&client).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await;
    };
    let runs = async {
        let results = run_scenarios(&mut env, &flags.scenarios, say).await;
        drop(stop);
        results
    };
    let (results, ()) = tokio::join!(runs, load.run(&client, &targets, flags.rate, until, rand::random()));
    let results = results?;
    if results.is_empty() {
        bail!("no scenario was run");
    }
    say(&format!("\n{}", report(&results)));
    let others = env.listener.others(&results);
    if !others.is_empty() {
        say(&format!("  Other notifications: {}", others.join(", ")));
    }
    let failed = results.iter().filter(|result| !result.holds()).count();
    say(&match failed {
        0 => format!("  ✓ all {} alerts fired, reached their receiver, and were resolved", results.len()),
        failed => format!(
            "  ✗ {failed} of {} alerts did not fire, reach their receiver, or were not resolved",
            results.len()
        ),
    });
    env.shut_down().await?;
    Ok(failed == 0)
}

fn report(results: &[AlertResult]) -> Table {
    let seconds = |time: Option<std::time::Duration>| {
        time.map_or_else(|| "never".to_owned(), |time| format!("{:.1}s", time.as_secs_f64()))
    };
    let mut table = Table::new(&["SCENARIO", "alert", "receiver", "fired after", "resolved after", "labels"]);
    for result in results {
        table.row([
            result.scenario.to_owned(),
            result.alert.to_owned(),
            result.receiver.clone().unwrap_or_default(),
            seconds(result.fired),
            seconds(result.ended),
            result.labels.clone(),
        ]);
    }
    table
}

/// A closed pipe (`| head`) is not an error.
fn say(line: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
