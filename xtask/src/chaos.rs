//! `cargo xtask chaos`: builds what is broken on purpose, and breaks it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::demo::target;
use crate::fetch;
use crate::run::{cargo, checked};

/// Plays the faults that those arguments ask for.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    fetch::all()?;
    eprintln!("==> building");
    build()?;
    // Ctrl-C goes to the example too. It ends its servers; we only wait for it.
    ctrlc::set_handler(|| {}).context("cannot wait for Ctrl-C")?;
    let code = play(arguments)?.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Plays the short form: what heals quickly, with a seed that is always the same.
pub(crate) fn short() -> Result<()> {
    build()?;
    match play(&["--short".to_owned()])? {
        Some(0) => Ok(()),
        _ => bail!("something did not hold"),
    }
}

/// With all features, as the tests are built: so nothing is built twice.
fn build() -> Result<()> {
    checked(cargo().args([
        "build",
        "--quiet",
        "--workspace",
        "--all-features",
        "--bin",
        "txnscope",
        "--example",
        "chaos",
    ]))
}

fn play(arguments: &[String]) -> Result<Option<i32>> {
    let example = target().join("debug/examples/chaos");
    let status = Command::new(&example)
        .args(arguments)
        .current_dir(crate::root())
        .status()
        .with_context(|| format!("cannot run {}", example.display()))?;
    Ok(status.code())
}
