//! The demo: real servers, real processes and real load; then the counters of both sides are compared.
//!
//! `cargo xtask demo` builds the binaries that the demo starts, and runs it.

mod counters;
mod environment;
mod grafana;

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use end_to_end::load::Load;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::counters::Counters;
use crate::environment::Environment;

/// Shows the callers' and the server's view of transactions that move money, on real servers under real load.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo")]
struct Flags {
    /// Duration, such as 60s or 5m. Without it, the demo runs until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    length: Option<Duration>,

    /// Requests per second.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false` if the counters do not match.
async fn run(flags: &Flags) -> Result<bool> {
    let mut stop = Stop::listen()?;
    // Dropping the values here ends the processes and removes the folders.
    let mut env = tokio::select! {
        env = Environment::set(say) => env?,
        () = stop.requested() => bail!("stopped before everything was started"),
    };
    say(&env.introduction());

    let (client, load) = (env.client(), Load::default());
    let until = async {
        match flags.length {
            Some(length) => tokio::select! { () = sleep(length) => {}, () = stop.requested() => {} },
            None => stop.requested().await,
        }
    };
    tokio::select! {
        ended = load.run_in_shifts(&client, flags.rate, until, rand::random()) => ended?,
        end = watch(&mut env) => end?,
    }

    say("\n\nThe load has ended. Waiting until the counters of both sides are final …\n");
    tokio::select! {
        matched = conclude(env) => matched,
        () = stop.requested() => bail!("stopped before the counters were compared"),
    }
}

/// Prints a line every second, replacing the last one on a terminal. Returns only with an error.
async fn watch(env: &mut Environment) -> Result<()> {
    let terminal = stdout().is_terminal();
    let start = Instant::now();
    let mut ticks = interval(Duration::from_secs(if terminal { 1 } else { 5 }));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        env.check()?;
        // An election or a slow poll must not end the demo: the line shows what is available.
        let line = match Counters::read(env).await {
            Ok(counters) => counters.line(),
            Err(error) => format!("{error:#}"),
        };
        let seconds = start.elapsed().as_secs();
        if terminal {
            print(&format!("\r\x1b[2K{seconds:>4}s  {line}"));
        } else {
            say(&format!("{seconds:>4}s  {line}"));
        }
    }
}

/// Prints the tables, compares the counters, and shuts everything down.
async fn conclude(env: Environment) -> Result<bool> {
    let counters = Counters::wait_idle(&env).await?;
    say(&counters.tables(&env.percentiles().await?));
    let checks = counters.checks(&env).await?;
    for check in &checks {
        say(&format!("  {} {}", if check.holds { "✓" } else { "✗" }, check.what));
    }
    env.shut_down().await?;
    say("\nAll processes have ended.");
    Ok(checks.iter().all(|check| check.holds))
}

fn say(line: &str) {
    print(&format!("{line}\n"));
}

/// A closed pipe (`| head`) is not an error.
fn print(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Ctrl-C, and the equivalent signals of terminals and supervisors.
struct Stop([Signal; 3]);

impl Stop {
    fn listen() -> Result<Self> {
        let listen = |kind: SignalKind| signal(kind);
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
    }
}
