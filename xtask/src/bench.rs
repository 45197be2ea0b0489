//! `cargo xtask bench`: runs benchmarks, and with `--write` puts the results into `docs/performance.md`.
//!
//! Each benchmark is a separate program that prints Markdown. It also runs what txnscope is compared with, on the
//! same work.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::demo::target;
use crate::run::{cargo, checked, output};
use crate::{counts, fetch};

/// A benchmark: its program, the package of the program, and the package whose binary it runs.
struct Bench {
    name: &'static str,
    program: &'static str,
    package: &'static str,
    /// Whether it is an example of its package and not a binary, so that it uses the package's dev-dependencies.
    example: bool,
    /// Arguments that select this benchmark, if its program has several.
    selected_by: &'static [&'static str],
    runs: Option<&'static str>,
    /// Fetches the programs that it starts, each with the variable by which it finds it.
    fetches: Option<fn() -> Result<fetch::Programs>>,
    /// Creates the report, if the program does not do this by itself.
    report: Option<fn(&Path) -> Result<String>>,
}

impl Bench {
    const fn new(name: &'static str, program: &'static str) -> Self {
        Self {
            name,
            program,
            package: "benches",
            example: false,
            selected_by: &[],
            runs: None,
            fetches: None,
            report: None,
        }
    }

    /// A benchmark in the package `cost`, which needs few dependencies.
    const fn of_cost(name: &'static str, program: &'static str) -> Self {
        Self { package: "cost", example: true, ..Self::new(name, program) }
    }

    const fn reported_by(mut self, report: fn(&Path) -> Result<String>) -> Self {
        self.report = Some(report);
        self
    }

    const fn selected_by(mut self, arguments: &'static [&'static str]) -> Self {
        self.selected_by = arguments;
        self
    }

    const fn fetching(mut self, programs: fn() -> Result<fetch::Programs>) -> Self {
        self.fetches = Some(programs);
        self
    }

    const fn running(mut self, package: &'static str) -> Self {
        self.runs = Some(package);
        self
    }
}

const BENCHES: &[Bench] = &[
    Bench::of_cost("layer", "bench_layer"),
    Bench::of_cost("counts", "bench_counts").reported_by(counts::measure),
    Bench::of_cost("render", "bench_render"),
    Bench::new("ledger", "bench-ledger"),
    Bench::new("history", "bench-ledger").selected_by(&["--history"]),
    Bench::new("runner", "bench-runner"),
    Bench::new("listener", "bench-listener"),
    Bench::new("sidecar", "bench-sidecar").running("txnscope-cli"),
    Bench::new("proxy", "bench-proxy").running("txnscope-cli").fetching(fetch::proxy_bench),
    Bench::new("top", "bench-sidecar").selected_by(&["--top"]).running("txnscope-cli"),
    Bench::new("live-memory", "bench-sidecar")
        .selected_by(&["--live-memory"])
        .running("txnscope-cli")
        .fetching(fetch::live_bench),
    Bench::new("live", "bench-live").fetching(fetch::live_bench),
    Bench::new("checks", "bench-checks"),
    Bench::new("verify", "bench-verify"),
];

const PAGE: &str = "docs/performance.md";

/// Runs the given benchmarks, or all. `arguments` are passed to each.
pub(crate) fn run(only: &[String], write: bool, arguments: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = only.iter().find(|name| BENCHES.iter().all(|bench| bench.name != name.as_str())) {
        let names: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no benchmark `{unknown}`; valid names are {}", names.join(", "));
    }
    fetch::servers(&["mongod"])?;
    for bench in BENCHES.iter().filter(|bench| only.is_empty() || only.iter().any(|name| name == bench.name))
    {
        // What cannot be fetched is reported before anything is built.
        let programs = bench.fetches.map_or_else(|| Ok(fetch::Programs::new()), |programs| programs())?;
        eprintln!("==> bench {}: building with optimization", bench.name);
        checked(cargo().args([
            "build",
            "--release",
            "--package",
            bench.package,
            if bench.example { "--example" } else { "--bin" },
            bench.program,
        ]))?;
        if let Some(package) = bench.runs {
            checked(cargo().args(["build", "--release", "--package", package, "--bins"]))?;
        }
        let folder = if bench.example { "release/examples" } else { "release" };
        let program = target().join(folder).join(bench.program);
        let report = match bench.report {
            Some(report) => {
                let report = report(&program)?;
                let _ = writeln!(std::io::stdout().lock(), "{report}");
                report
            }
            None => measure(bench, &program, arguments, &programs)?,
        };
        if write {
            put(bench.name, &report)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the benchmark, prints its output, and returns it.
fn measure(
    bench: &Bench,
    program: &Path,
    arguments: &[String],
    programs: &fetch::Programs,
) -> Result<String> {
    let mut child = Command::new(program)
        .args(bench.selected_by)
        .args(arguments)
        .envs(programs.iter().map(|(variable, program)| (variable, program)))
        .current_dir(crate::root())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let printed = child.stdout.take().context("the benchmark's output is piped")?;
    let mut report = String::new();
    for line in BufReader::new(printed).lines() {
        let line = line.context("the benchmark prints text")?;
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        report.push_str(&line);
        report.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("bench {} ended with {status}", bench.name);
    }
    Ok(report)
}

/// Replaces the text between the benchmark's two markers in the page.
fn put(name: &str, report: &str) -> Result<()> {
    let path = crate::root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let (begin, end) = (format!("<!-- bench {name} -->\n"), format!("<!-- end of bench {name} -->"));
    let missing = || format!("{PAGE} has no `{}` … `{end}`", begin.trim());
    let (head, rest) = page.split_once(&begin).with_context(missing)?;
    let (_, tail) = rest.split_once(&end).with_context(missing)?;
    let machine = machine()?;
    let section = format!("{head}{begin}\n{machine}\n\n{}\n\n{end}{tail}", report.trim());
    fs::write(&path, section).with_context(|| format!("cannot write {PAGE}"))
}

/// A description of this machine.
fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rustc = output(Command::new("rustc").arg("--version"))?;
    let version = rustc.split(' ').nth(1).unwrap_or("unknown");
    let date = output(Command::new("date").arg("+%Y-%m-%d"))?;
    Ok(format!(
        "Measured on {}: {model}, {cores} cores; rustc {version}, release profile; mongod 6.0.5.",
        date.trim()
    ))
}
