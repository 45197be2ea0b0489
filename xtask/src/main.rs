//! The project's own commands, for tasks that cargo does not cover.

mod bare;
mod bench;
mod checks;
mod counts;
mod dashboards;
mod demo;
mod fetch;
mod fuzz;
mod instructions;
mod package;
mod preview;
mod run;
mod sbom;
mod site;
mod sources;
mod suites;
mod supply;
mod words;

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
        /// Arguments of the demo; `cargo xtask demo -- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Inject the faults behind the alerts into a replica set, its data and the sidecar, and wait for each alert to
    /// fire and end.
    Drill {
        /// Arguments of the alert drill; `cargo xtask drill -- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Inject faults into the servers, the network and our own programs under load, and verify the invariants.
    Chaos {
        /// Arguments of fault injection, such as --seed, --faults, --rounds; `cargo xtask chaos -- --help` lists
        /// them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run all checks, or only the given ones.
    Test {
        /// Names of checks.
        only: Vec<String>,
        /// Print the names of the checks and run none.
        #[arg(long)]
        list: bool,
        /// Number of runs; stops at the first failure, to find flaky tests.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        /// Keep every core busy meanwhile, to find tests that depend on timing.
        #[arg(long)]
        busy: bool,
        /// Run the sidecar's tests and the accounting on each older version of the server instead.
        #[arg(long, conflicts_with_all = ["only", "list", "times", "busy"])]
        matrix: bool,
        /// Run only the fast checks: fmt, clippy, the library tests, and the suites that need no server.
        #[arg(long, conflicts_with_all = ["only", "list", "busy", "matrix"])]
        quick: bool,
    },
    /// Run the README's two commands, or the given one, in a minimal Debian. Needs root.
    Bare {
        /// demo or test.
        only: Option<String>,
        /// Keep the machine in target/bare for inspection.
        #[arg(long)]
        keep: bool,
    },
    /// Run all benchmarks with their alternatives, or only the given ones.
    Bench {
        /// Names of benchmarks.
        only: Vec<String>,
        /// Write the report to docs/performance.md.
        #[arg(long)]
        write: bool,
        /// Arguments of each benchmark.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Fuzz all parsers of external input, or only the given targets, and print the results.
    Fuzz {
        /// Names of targets.
        only: Vec<String>,
        /// Duration of each target.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        seconds: u32,
    },
    /// Count the allocations and instructions that the layer adds, and compare them with benches/cost/counts.txt.
    Instructions {
        /// Accept the new counts and write them to the file.
        #[arg(long)]
        write: bool,
    },
    /// Generate docs/metrics.md from the catalog, docs/configuration.md from the settings, and the dashboards from their
    /// source.
    Gen,
    /// Render the dashboards with data of a live Prometheus, such as the demo's, with Grafana's components but
    /// without Grafana; or take pictures of the live page.
    Preview {
        /// Take pictures of the live page instead, with a replica set under load, into docs/images: two minutes.
        #[arg(long, conflicts_with_all = ["prometheus", "out", "arguments"])]
        live: bool,
        /// URL of the Prometheus.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
        prometheus: String,
        /// Folder of the images.
        #[arg(long, value_name = "FOLDER", default_value = "target/preview")]
        out: std::path::PathBuf,
        /// Further arguments of dashboards/preview/draw.js.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Write the bill of materials of each shipped artifact as CycloneDX: versions, licenses, checksums.
    Sbom {
        /// Folder of the files.
        #[arg(long, value_name = "FOLDER", default_value = "target/sbom")]
        out: PathBuf,
        /// Target triple.
        #[arg(long, value_name = "TRIPLE", default_value = sbom::TARGET)]
        target: String,
    },
    /// Build the documentation as a site with search in target/site. Fails if a link leads nowhere.
    Site,
    /// Build the archives, packages, container image, chart and manifests of a release in target/package-dist.
    Package {
        /// Names of parts: program, deb, rpm, image, chart, monitoring, sbom. All of them by default.
        only: Vec<String>,
        /// Test what was built: install, start, upgrade and purge it, each in a root folder of its own. Needs root.
        #[arg(long)]
        check: bool,
        /// Target triple.
        #[arg(long, value_name = "TRIPLE", default_value = sbom::TARGET)]
        target: String,
        /// Package this program instead of building one for release.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Fetch the missing servers for tests and demo into .tools.
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
        Command::Test { quick: true, times, .. } => checks::quick(times),
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
            let settings = root().join("docs/configuration.md");
            let catalog = ["run", "--quiet", "--package=txnscope-cli", "--", "catalog", "--format=settings"];
            std::fs::write(&settings, run::output(run::cargo().args(catalog))?)
                .with_context(|| format!("cannot write {}", settings.display()))?;
            dashboards::generate()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Preview { live: true, .. } => preview::live(),
        Command::Preview { prometheus, out, arguments, .. } => preview::run(&prometheus, &out, &arguments),
        Command::Sbom { out, target } => {
            sbom::run(&out, &target)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Site => {
            site::build()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Package { only, check, target, program } => package::run(&only, target, program, check),
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
