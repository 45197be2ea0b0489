//! `cargo xtask test`: all checks, in the order in which they fail fastest.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, checked};
use crate::{demo, fetch, instructions, package, suites, supply, words};

pub(crate) struct Check {
    pub(crate) name: &'static str,
    what: &'static str,
    run: fn() -> Result<()>,
}

const FMT: Check =
    Check { name: "fmt", what: "the code is formatted", run: || cargo_with("fmt --all --check") };
const CLIPPY: Check = Check {
    name: "clippy",
    what: "clippy reports no warning",
    run: || cargo_with("clippy --workspace --all-targets --all-features -- -D warnings"),
};

const WORDS: Check =
    Check { name: "words", what: "the words of docs/glossary.md, and American spelling", run: words::check };

const INSTRUCTIONS: Check = Check {
    name: "instructions",
    what: "the allocations and instructions per request are unchanged",
    run: || instructions::run(false),
};
const TEST: Check = Check {
    name: "test",
    what: "unit, documentation and end-to-end tests pass, on real servers",
    run: || suites::run(&[]),
};
const CHAOS: Check =
    Check { name: "chaos", what: "the invariants hold after injected faults under load", run: chaos };

/// A run of all checks performs these among the test programs: one mostly waits, and the other one uses one core.
const BESIDE_TESTS: &[Check] = &[CHAOS, INSTRUCTIONS];

const CHECKS: &[Check] = &[
    FMT,
    WORDS,
    Check { name: "fetch", what: "the servers for the tests are installed", run: fetch::all },
    CLIPPY,
    Check { name: "supply", what: "deny.toml allows all dependencies", run: supply::check },
    Check { name: "features", what: "the library compiles with each set of features", run: features },
    Check { name: "doc", what: "the documentation has no broken link", run: doc },
    INSTRUCTIONS,
    TEST,
    Check {
        name: "package",
        what: "packages, chart and crates have their contents, from the program that the tests have run",
        run: package::quick,
    },
    CHAOS,
];

/// The checks for the inner development loop.
const QUICK: &[Check] = &[
    FMT,
    CLIPPY,
    Check {
        name: "quick tests",
        what: "the library tests and the suites that need no server pass",
        run: suites::run_quick,
    },
];

/// Prints the names of the checks.
pub(crate) fn list() -> Result<ExitCode> {
    for check in CHECKS {
        eprintln!("{:<14}{}", check.name, check.what);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs all checks, or the given ones, `times` times, optionally with load on every core.
pub(crate) fn run(only: &[String], times: u32, busy: bool) -> Result<ExitCode> {
    if let Some(unknown) = only.iter().find(|name| CHECKS.iter().all(|check| check.name != name.as_str())) {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        bail!("there is no check `{unknown}`; valid names are {}", names.join(", "));
    }
    if busy {
        // The threads end with this process.
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
    }
    repeat(CHECKS, only, times)
}

/// Runs the fast checks `times` times.
pub(crate) fn quick(times: u32) -> Result<ExitCode> {
    repeat(QUICK, &[], times)
}

fn repeat(checks: &[Check], only: &[String], times: u32) -> Result<ExitCode> {
    for time in 1..=times {
        let begin = now();
        once(checks, only).with_context(|| format!("run {time} of {times} failed"))?;
        let which = if times == 1 { String::new() } else { format!(", run {time} of {times}") };
        eprintln!("==> all checks passed in {:.0?}{which}", begin.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

fn once(checks: &[Check], only: &[String]) -> Result<()> {
    let named = |check: &&Check| only.iter().any(|name| name == check.name);
    let beside = |check: &&Check| BESIDE_TESTS.iter().any(|other| other.name == check.name);
    let chosen = |check: &&Check| if only.is_empty() { !beside(check) } else { named(check) };
    for check in checks.iter().filter(chosen) {
        if only.is_empty() && check.name == TEST.name {
            timed(&Check { run: || suites::run(BESIDE_TESTS), ..TEST })?;
        } else {
            timed(check)?;
        }
    }
    Ok(())
}

/// Runs one check, and prints what it is and how long it took.
pub(crate) fn timed(check: &Check) -> Result<()> {
    eprintln!("==> {}: {}", check.name, check.what);
    let start = now();
    if let Err(error) = (check.run)() {
        eprintln!("==> {} FAILED after {:.0?}", check.name, start.elapsed());
        if CHECKS.iter().any(|other| other.name == check.name) {
            eprintln!("==> to run it alone: cargo xtask test {}", check.name);
        }
        return Err(error);
    }
    eprintln!("==> {}: {:.1?}", check.name, start.elapsed());
    Ok(())
}

/// Runs the tests that depend on the server's version on each available older version.
pub(crate) fn matrix() -> Result<ExitCode> {
    suites::run_on(&fetch::matrix()?)?;
    eprintln!("==> all versions passed");
    Ok(ExitCode::SUCCESS)
}

fn cargo_with(arguments: &str) -> Result<()> {
    checked(cargo().args(arguments.split(' ')))
}

/// Runs `cargo check` with each set of features of the library; the default features are covered by the workspace.
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

/// Runs fault injection in its short form: short faults, with a fixed seed.
fn chaos() -> Result<()> {
    // With a test among the targets, cargo uses the dependencies with the features that the tests have been built with.
    demo::build("chaos", &["--test", "fake_member"])?;
    match demo::play("chaos", &["--short".to_owned()])? {
        Some(0) => Ok(()),
        _ => bail!("an invariant was violated"),
    }
}

fn doc() -> Result<()> {
    let mut command: Command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-D warnings");
    checked(&mut command)
}

#[allow(clippy::disallowed_methods, reason = "durations that are printed")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
