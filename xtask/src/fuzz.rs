//! `cargo xtask fuzz`: runs every target of `fuzz/` for a while, one after the other, and prints a table of the
//! results.
//!
//! The instrumentation needs a nightly compiler. `RUSTC_BOOTSTRAP=1` enables it in a stable one, for the fuzzer alone
//! and for nothing that is shipped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::checks::now;
use crate::fetch::{self, cargo_tools};
use crate::run::checked;

/// Files of the repository that serve as seeds in addition to `fuzz/seeds`.
const SEEDS: &[(&str, &str)] = &[
    ("checks", "examples/ledger/checks.toml"),
    ("checks", "examples/node-backend/checks.toml"),
    ("scenarios", "examples/ledger/scenarios.toml"),
    ("reply", "crates/sidecar/fixtures/mongod-4.2.json"),
    ("reply", "crates/sidecar/fixtures/mongod-7.0.json"),
    ("reply", "crates/sidecar/fixtures/mongod-8.0.json"),
    ("reply", "crates/sidecar/fixtures/mongod-8.3.json"),
    ("reply", "crates/sidecar/fixtures/mongos.json"),
];

/// Runs the given targets, or all, for that time each.
pub(crate) fn run(only: &[String], seconds: u32) -> Result<ExitCode> {
    let all = targets()?;
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; valid names are {}", all.join(", "));
    }
    let tool = fetch::cargo_tool(&cargo_tools::FUZZ)?;
    eprintln!("==> building with the fuzzer's instrumentation");
    checked(&mut fuzzer(&tool, "build"))?;
    let mut rows = Vec::new();
    for target in all.iter().filter(|name| only.is_empty() || only.contains(name)) {
        rows.push(fuzz(&tool, target, seconds)?);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "| target | inputs | per second | edges | found |\n| --- | ---: | ---: | ---: | --- |")?;
    for row in &rows {
        let Row { target, inputs, seconds, edges, found } = row;
        let found = found.as_deref().unwrap_or("-");
        writeln!(out, "| `{target}` | {inputs} | {} | {edges} | {found} |", inputs / (*seconds).max(1))?;
    }
    Ok(if rows.iter().any(|row| row.found.is_some()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The result of a target.
struct Row {
    target: String,
    inputs: u64,
    seconds: u64,
    /// The number of covered edges of the control flow.
    edges: u64,
    found: Option<String>,
}

fn fuzz(tool: &Path, target: &str, seconds: u32) -> Result<Row> {
    let corpus = corpus(target)?;
    eprintln!("==> {target}: {seconds} s");
    let began = now();
    let mut child = fuzzer(tool, "run")
        .arg(target)
        .arg(&corpus)
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        // The memory and time that one input may take: what a poll or a request can afford.
        .args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"])
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo-fuzz")?;
    let mut row = Row { target: target.to_owned(), inputs: 0, seconds: 0, edges: 0, found: None };
    let said = child.stderr.take().context("the fuzzer's words are piped")?;
    for line in BufReader::new(said).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            row.inputs = count.trim().parse().unwrap_or_default();
        } else if let Some((_, rest)) = line.split_once(" cov: ") {
            row.edges = rest.split(' ').next().and_then(|edges| edges.parse().ok()).unwrap_or(row.edges);
        } else {
            eprintln!("{line}");
        }
        if line.contains("panicked at") || line.contains("ERROR: libFuzzer") {
            row.found.get_or_insert(line);
        }
    }
    row.seconds = began.elapsed().as_secs();
    if !child.wait()?.success() {
        row.found.get_or_insert_with(|| "it ended with an error".to_owned());
    }
    Ok(row)
}

/// The corpus of earlier runs, with the seeds added.
fn corpus(target: &str) -> Result<PathBuf> {
    let corpus = crate::root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let mut seeds: Vec<PathBuf> =
        SEEDS.iter().filter(|(of, _)| *of == target).map(|(_, file)| crate::root().join(file)).collect();
    if let Ok(entries) = fs::read_dir(crate::root().join("fuzz/seeds").join(target)) {
        seeds.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    for seed in seeds {
        let name = seed.file_name().unwrap_or_default();
        fs::copy(&seed, corpus.join(name)).with_context(|| format!("cannot copy {}", seed.display()))?;
    }
    Ok(corpus)
}

/// The names of the files in `fuzz/targets`.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(crate::root().join("fuzz/targets")).context("cannot read fuzz/targets")?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The workspace has no unsafe code, so no sanitizer is needed: panics, timeouts and memory limits are detected
/// without one, at twice the speed.
fn fuzzer(tool: &Path, verb: &str) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(crate::root()).env("RUSTC_BOOTSTRAP", "1");
    command.args(["fuzz", verb, "--sanitizer=none", "--codegen-units=16"]);
    command
}
