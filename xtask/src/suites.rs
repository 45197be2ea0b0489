//! Runs the test programs of the workspace, two at a time.
//!
//! `cargo test` runs them one after another, and most of a suite's time is spent waiting: for an election, for a
//! transaction to expire, for a poll. What a suite prints is shown when it has failed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checks::now;
use crate::run::{cargo, checked};

/// As many as cores on the machines that run this, which leaves the servers some room: a suite mostly waits.
const AT_ONCE: usize = 2;

/// A program with tests in it.
struct Suite {
    /// As in `package tests/name`.
    name: String,
    program: PathBuf,
    /// Where cargo would run it.
    folder: PathBuf,
    /// The tests whose names have one of these in them, if not all.
    only: &'static [&'static str],
}

/// What depends on the server's version: the beginnings of the suites' names, and which of their tests.
const ON_EACH_SERVER: &[(&str, &[&str])] = &[
    ("crates/sidecar test ", &[]),
    ("crates/txnscope test it", &["runner::"]),
    ("examples/ledger test it", &["books"]),
];

/// Builds and runs everything but the examples of the documentation, which cargo runs afterwards.
pub(crate) fn run() -> Result<()> {
    let failed = run_all(&build()?, None);
    // Their failure must not hide that of the suites.
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

/// Runs what depends on the server's version on each of these servers, and says what has failed where.
pub(crate) fn run_on(servers: &[(&str, PathBuf)]) -> Result<()> {
    let mut suites = build()?;
    suites.retain_mut(|suite| {
        let wanted = ON_EACH_SERVER.iter().find(|(name, _)| suite.name.starts_with(name));
        suite.only = wanted.map_or(&[], |(_, only)| *only);
        wanted.is_some()
    });
    let mut failed = Vec::new();
    for (version, server) in servers {
        eprintln!("==> mongod {version}");
        failed
            .extend(run_all(&suites, Some(server)).iter().map(|name| format!("{name} on mongod {version}")));
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs them on that server, or on the newest, and returns the names of those that have failed.
fn run_all(suites: &[Suite], server: Option<&Path>) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(suite) = suites.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = suite.run(server) {
                        eprintln!("{error:#}");
                        failed
                            .lock()
                            .unwrap_or_else(|poisoned| poisoned.into_inner())
                            .push(suite.name.clone());
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn build() -> Result<Vec<Suite>> {
    let built = cargo()
        .args([
            "test",
            "--workspace",
            "--all-features",
            // No examples and no benchmarks, which clippy has compiled.
            "--lib",
            "--bins",
            "--tests",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
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
            eprintln!("ok     {}: {passed} in {took:.1?}", self.name);
        }
        Ok(())
    }
}
