//! `cargo xtask demo`: builds what the demo runs, and runs it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::fetch;
use crate::run::{cargo, checked};

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    fetch::all()?;
    eprintln!("==> building");
    checked(cargo().args(["build", "--package", "ledger", "--package", "txnscope-cli"]))?;
    example("demo", arguments)
}

/// Builds an example of the end-to-end package, and runs it to its end.
pub(crate) fn example(name: &str, arguments: &[String]) -> Result<ExitCode> {
    checked(cargo().args(["build", "--package", "end-to-end", "--example", name]))?;
    // Ctrl-C goes to the example too. It ends its servers; we only wait for it.
    ctrlc::set_handler(|| {}).context("cannot wait for Ctrl-C")?;
    let example = target().join("debug/examples").join(name);
    let status = Command::new(&example)
        .args(arguments)
        .current_dir(crate::root())
        .status()
        .with_context(|| format!("cannot run {}", example.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The folder of what is built.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), |folder| crate::root().join(folder))
}
