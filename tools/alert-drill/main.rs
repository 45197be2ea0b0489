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
use crate::scenarios::{Told, play};
use end_to_end::table::Table;

/// Injects faults, and verifies that each alert fires, reaches its receiver, and is resolved.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask drill")]
struct Flags {
    /// Run only the scenarios with these names.
    #[arg(long = "scene", value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(scenarios::NAMES))]
    scenes: Vec<String>,

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
    let scenes = async {
        let told = play(&mut env, &flags.scenes, say).await;
        drop(stop);
        told
    };
    let (told, ()) = tokio::join!(scenes, load.run(&client, &targets, flags.rate, until, rand::random()));
    let told = told?;
    if told.is_empty() {
        bail!("no scene was played");
    }
    say(&format!("\n{}", report(&told)));
    let others = env.listener.others(&told);
    if !others.is_empty() {
        say(&format!("  Also told: {}", others.join(", ")));
    }
    let failed = told.iter().filter(|told| !told.holds()).count();
    say(&match failed {
        0 => format!("  ✓ all {} alerts fired, reached their receiver, and ended", told.len()),
        failed => format!("  ✗ {failed} of {} alerts did not", told.len()),
    });
    env.strike().await?;
    Ok(failed == 0)
}

fn report(told: &[Told]) -> Table {
    let seconds = |time: Option<std::time::Duration>| {
        time.map_or_else(|| "never".to_owned(), |time| format!("{:.1}s", time.as_secs_f64()))
    };
    let mut table =
        Table::new(&["WHAT WAS DONE", "alert", "told to", "fired after", "ended after", "labels"]);
    for told in told {
        table.row([
            told.scene.to_owned(),
            told.alert.to_owned(),
            told.receiver.clone().unwrap_or_default(),
            seconds(told.fired),
            seconds(told.ended),
            told.labels.clone(),
        ]);
    }
    table
}

/// A closed pipe (`| head`) is not an error.
fn say(line: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
