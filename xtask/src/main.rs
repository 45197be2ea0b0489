//! The project's own commands: what `cargo test` cannot do by itself.

mod bare;
mod bench;
mod checks;
mod counts;
mod dashboards;
mod demo;
mod fetch;
mod fuzz;
mod instructions;
mod preview;
mod run;
mod sbom;
mod suites;
mod supply;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a replica set, the reference backend, the sidecar and Prometheus under load.
    Demo {
        /// What the demo takes; `cargo xtask demo -- --help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break a replica set, its data and the sidecar on purpose, and see each alert fire and end.
    Drill {
        /// What the drill takes; `cargo xtask drill -- --help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break the servers, the network and our own programs under load, and see that nothing is lost.
    Chaos {
        /// What chaos takes: --seed, --faults, --rounds; `cargo xtask chaos -- --help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run all checks, or only those named.
    Test {
        /// Names of checks.
        only: Vec<String>,
        /// Print the names of the checks and run none.
        #[arg(long)]
        list: bool,
        /// Run them so many times, until one fails: what fails now and then is a fault.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        /// Keep every core busy meanwhile: what fails on a busy machine only is a fault as well.
        #[arg(long)]
        busy: bool,
        /// Run the sidecar's tests and the books on each older version of the server instead.
        #[arg(long, conflicts_with_all = ["only", "list", "times", "busy"])]
        matrix: bool,
    },
    /// Run the README's two commands, or the one named, in a minimal Debian that has nothing else. Wants root.
    Bare {
        /// demo or test.
        only: Option<String>,
        /// Leave the machine in target/bare, to look at.
        #[arg(long)]
        keep: bool,
    },
    /// Measure, beside what it is compared with: all, or only those named.
    Bench {
        /// Names of benchmarks.
        only: Vec<String>,
        /// Put the report into docs/performance.md.
        #[arg(long)]
        write: bool,
        /// What each benchmark takes.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Fuzz what is read from outside: all targets, or only those named. Prints what ran and what it found.
    Fuzz {
        /// Names of targets.
        only: Vec<String>,
        /// How long each runs.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        seconds: u32,
    },
    /// Count what the layer adds to a request, and compare with benches/cost/counts.txt.
    Instructions {
        /// Accept the new counts: write them there.
        #[arg(long)]
        write: bool,
    },
    /// Write what is generated: docs/metrics.md from the catalogue, the dashboards from their source.
    Gen,
    /// Draw the dashboards from a live Prometheus, the demo's for example, with Grafana's own components: not Grafana.
    Preview {
        /// The Prometheus that is asked.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
        prometheus: String,
        /// Where the pictures go.
        #[arg(long, value_name = "FOLDER", default_value = "target/preview")]
        out: std::path::PathBuf,
        /// What else dashboards/preview/draw.js takes.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Write what each thing that we ship is made of, as CycloneDX: versions, licences, checksums.
    Sbom {
        /// Where the files go.
        #[arg(long, value_name = "FOLDER", default_value = "target/sbom")]
        out: PathBuf,
        /// What it is built for.
        #[arg(long, value_name = "TRIPLE", default_value = sbom::TARGET)]
        target: String,
    },
    /// Bring the servers that tests and demo need into .tools, as far as they are not there.
    Fetch,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo { arguments } => demo::run("demo", &arguments),
        Command::Drill { arguments } => demo::run("alert-drill", &arguments),
        Command::Chaos { arguments } => demo::chaos(&arguments),
        Command::Test { matrix: true, .. } => checks::matrix(),
        Command::Test { list: true, .. } => checks::list(),
        Command::Test { only, times, busy, .. } => checks::run(&only, times, busy),
        Command::Bare { only, keep } => bare::run(only.as_deref(), keep),
        Command::Bench { only, write, arguments } => bench::run(&only, write, &arguments),
        Command::Fuzz { only, seconds } => fuzz::run(&only, seconds),
        Command::Instructions { write } => {
            instructions::run(write)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Gen => {
            let page = root().join("docs/metrics.md");
            std::fs::write(&page, txnscope_catalog::markdown())
                .with_context(|| format!("cannot write {}", page.display()))?;
            dashboards::generate()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Preview { prometheus, out, arguments } => preview::run(&prometheus, &out, &arguments),
        Command::Sbom { out, target } => {
            sbom::run(&out, &target)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Fetch => {
            fetch::all()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
