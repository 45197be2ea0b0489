//! `cargo xtask test`: every check there is, in the order in which they fail fastest.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, checked};
use crate::{demo, fetch, instructions, suites, supply};

struct Check {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { name: "fmt", what: "the code is formatted", run: || cargo_with("fmt --all --check") },
    Check { name: "fetch", what: "the servers are there", run: fetch::all },
    Check {
        name: "clippy",
        what: "no lint complains",
        run: || cargo_with("clippy --workspace --all-targets --all-features -- -D warnings"),
    },
    Check { name: "supply", what: "nothing is built from what deny.toml does not allow", run: supply::check },
    Check { name: "features", what: "the library compiles with each set of features", run: features },
    Check { name: "doc", what: "the documentation has no broken link", run: doc },
    Check {
        name: "instructions",
        what: "a request costs what it did, in allocations and instructions",
        run: || instructions::run(false),
    },
    Check {
        name: "test",
        what: "unit, documentation and end-to-end tests pass, on real servers",
        run: suites::run,
    },
    Check { name: "chaos", what: "what is broken on purpose under load leaves nothing behind", run: chaos },
];

/// Prints their names.
pub(crate) fn list() -> Result<ExitCode> {
    for check in CHECKS {
        eprintln!("{:<14}{}", check.name, check.what);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs them, or those named, so many times, beside a load on every core if asked for.
pub(crate) fn run(only: &[String], times: u32, busy: bool) -> Result<ExitCode> {
    if let Some(unknown) = only.iter().find(|name| CHECKS.iter().all(|check| check.name != name.as_str())) {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        bail!("there is no check `{unknown}`; there are {}", names.join(", "));
    }
    if busy {
        // Until this process ends.
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
    }
    for time in 1..=times {
        let begin = now();
        once(only).with_context(|| format!("run {time} of {times} failed"))?;
        let which = if times == 1 { String::new() } else { format!(", run {time} of {times}") };
        eprintln!("==> all checks passed in {:.0?}{which}", begin.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

fn once(only: &[String]) -> Result<()> {
    for check in CHECKS.iter().filter(|check| only.is_empty() || only.iter().any(|name| name == check.name)) {
        eprintln!("==> {}: {}", check.name, check.what);
        let start = now();
        if let Err(error) = (check.run)() {
            eprintln!(
                "==> {} FAILED after {:.0?}; to run it alone: cargo xtask test {0}",
                check.name,
                start.elapsed()
            );
            return Err(error);
        }
        eprintln!("==> {}: {:.1?}", check.name, start.elapsed());
    }
    Ok(())
}

/// Runs the tests that depend on the server's version on each older version that can be had.
pub(crate) fn matrix() -> Result<ExitCode> {
    suites::run_on(&fetch::matrix()?)?;
    eprintln!("==> all versions passed");
    Ok(ExitCode::SUCCESS)
}

fn cargo_with(arguments: &str) -> Result<()> {
    checked(cargo().args(arguments.split(' ')))
}

/// `cargo check` without a lock on what the other steps built; the default features are the workspace's business.
fn features() -> Result<()> {
    for features in ["", "http", "axum", "mongodb"] {
        checked(cargo().args([
            "check",
            "--quiet",
            "--package",
            "txnscope",
            "--no-default-features",
            "--features",
            features,
        ]))?;
    }
    Ok(())
}

/// The short form: what heals quickly, with a seed that is always the same.
fn chaos() -> Result<()> {
    demo::build("chaos")?;
    match demo::play("chaos", &["--short".to_owned()])? {
        Some(0) => Ok(()),
        _ => bail!("something did not hold"),
    }
}

fn doc() -> Result<()> {
    let mut command: Command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-D warnings");
    checked(&mut command)
}

#[allow(clippy::disallowed_methods, reason = "how long something took, for people to read")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
