//! Runs the test programs of the workspace, and the checks beside them, two at a time.
//!
//! `cargo test` runs them one after another, although most tests wait: for an election, for a transaction to expire, for a
//! poll. The output of a program is only printed if it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checks::{self, Check, now};
use crate::run::{cargo, checked};

/// The number of programs that run at once, each with [`THREADS`] threads. This is more than the cores of a small
/// machine, because tests mostly wait, and leaves the servers some room.
const AT_ONCE: usize = 2;
/// The number of test threads in each program, independent of the number of cores: each test starts servers.
const THREADS: &str = "--test-threads=2";

/// A test program.
struct Suite {
    /// The name, as in `package test name`.
    name: String,
    program: PathBuf,
    /// The folder of its package, in which cargo would run it.
    folder: PathBuf,
    /// Filters for the names of its tests; all tests if there is none.
    only: &'static [&'static str],
}

/// Prefixes of the names of programs, with filters for their tests.
type Selection = [(&'static str, &'static [&'static str])];

/// The tests that depend on the server's version.
const ON_EACH_SERVER: &Selection = &[
    ("crates/sidecar test ", &[]),
    ("crates/txnscope test it", &["runner::"]),
    ("examples/ledger test it", &["accounting"]),
];

/// The suites that need no server.
const WITHOUT_SERVER: &Selection = &[
    ("crates/checks test check_suites", &["documentation::"]),
    (
        "tests test suites",
        &[
            "alerts::runbooks::",
            "crate_dependencies::",
            "dashboards::layout::",
            "dashboards::schema::",
            "grpc::",
            "supply_chain::",
        ],
    ),
];

/// What takes longest is started first, so that none of it runs alone at the end.
const LONGEST: &[&str] = &[
    "tests test suites",
    "crates/sidecar test sidecar",
    "crates/cli test cli",
    "crates/txnscope test it",
    "chaos",
    "examples/ledger test it",
    "crates/checks test check_suites",
    "instructions",
];

/// What the workers run: a test program, or a check.
struct Job<'a> {
    name: &'a str,
    run: Box<dyn Fn() -> Result<()> + Sync + 'a>,
}

/// Builds and runs all test programs, with the given checks among them, and then the examples in the documentation.
pub(crate) fn run(beside: &[Check]) -> Result<()> {
    let suites = build(&["--lib", "--bins", "--tests"])?;
    let mut jobs = jobs(&suites, None);
    jobs.extend(beside.iter().map(|check| Job { name: check.name, run: Box::new(|| checks::timed(check)) }));
    let failed = run_all(jobs);
    // A failure of the examples must not hide that of the suites.
    let examples = checked(cargo().args([
        "test",
        "--workspace",
        "--all-features",
        "--doc",
        "--no-fail-fast",
        "--quiet",
    ]));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    examples
}

/// Builds and runs the library tests and the suites that need no server.
pub(crate) fn run_quick() -> Result<()> {
    let targets = ["--lib", "--test", "suites", "--test", "check_suites"];
    let mut suites = build(&targets)?;
    let libraries: Vec<_> = suites.extract_if(.., |suite| suite.name.contains(" lib ")).collect();
    select(&mut suites, WITHOUT_SERVER);
    suites.extend(libraries);
    let failed = run_all(jobs(&suites, None));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Keeps the selected programs, and sets their filters.
fn select(suites: &mut Vec<Suite>, selection: &Selection) {
    suites.retain_mut(|suite| {
        let selected = selection.iter().find(|(name, _)| suite.name.starts_with(name));
        suite.only = selected.map_or(&[], |(_, only)| *only);
        selected.is_some()
    });
}

/// Runs the tests that depend on the server's version on each of these servers.
pub(crate) fn run_on(servers: &[(&str, PathBuf)]) -> Result<()> {
    let mut suites = build(&["--lib", "--bins", "--tests"])?;
    select(&mut suites, ON_EACH_SERVER);
    let mut failed = Vec::new();
    for (version, server) in servers {
        eprintln!("==> mongod {version}");
        let on_it = run_all(jobs(&suites, Some(server)));
        failed.extend(on_it.iter().map(|name| format!("{name} on mongod {version}")));
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The runs of programs on the given server, or on the default one.
fn jobs<'a>(suites: &'a [Suite], server: Option<&'a Path>) -> Vec<Job<'a>> {
    let job = |suite: &'a Suite| Job { name: &suite.name, run: Box::new(move || suite.run(server)) };
    suites.iter().map(job).collect()
}

/// Runs jobs, and returns the names of those that failed.
fn run_all(mut jobs: Vec<Job<'_>>) -> Vec<&str> {
    jobs.sort_by_key(|job| {
        LONGEST.iter().position(|name| job.name.starts_with(name)).unwrap_or(LONGEST.len())
    });
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = (job.run)() {
                        eprintln!("{error:#}");
                        failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(job.name);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Builds the test programs of these cargo targets.
fn build(targets: &[&str]) -> Result<Vec<Suite>> {
    let built = cargo()
        .args([
            "test",
            "--workspace",
            "--all-features",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        // No examples and no benchmarks, which clippy has compiled.
        .args(targets)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !built.status.success() {
        bail!("the tests do not compile");
    }
    let mut suites = Vec::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        if message["profile"]["test"] != true {
            continue;
        }
        let (Some(program), Some(manifest)) =
            (message["executable"].as_str(), message["manifest_path"].as_str())
        else {
            continue;
        };
        let folder = Path::new(manifest).parent().unwrap_or(Path::new("/")).to_owned();
        let package = folder.strip_prefix(crate::root()).unwrap_or(&folder).display().to_string();
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let name = format!("{package} {kind} {target}");
        suites.push(Suite { name, program: program.into(), folder, only: &[] });
    }
    if suites.is_empty() {
        bail!("cargo built no test program");
    }
    Ok(suites)
}

impl Suite {
    fn run(&self, server: Option<&Path>) -> Result<()> {
        let start = now();
        let ended = Command::new(&self.program)
            .args(self.only)
            .arg(THREADS)
            .envs(server.map(|server| ("TXNSCOPE_MONGOD", server)))
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let took: Duration = start.elapsed();
        let printed = String::from_utf8_lossy(&ended.stdout);
        if !ended.status.success() {
            let complaint = String::from_utf8_lossy(&ended.stderr);
            bail!("FAILED {} after {took:.1?}, {}\n{printed}{complaint}", self.name, ended.status);
        }
        let passed: usize = printed
            .lines()
            .filter_map(|line| {
                line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok()
            })
            .sum();
        if passed > 0 {
            eprintln!("ok     {}: {passed} passed in {took:.1?}", self.name);
        }
        Ok(())
    }
}
