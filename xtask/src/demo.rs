//! `cargo xtask demo`: builds what the demo runs, and runs it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::fetch;
use crate::run::{cargo, checked};

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    fetch::all()?;
    eprintln!("==> building");
    checked(cargo().args(["build", "--package", "ledger", "--package", "txnscope-cli"]))?;
    checked(cargo().args(["build", "--package", "end-to-end", "--example", "demo"]))?;
    // Ctrl-C goes to the demo too. It ends its servers; we only wait for it.
    ctrlc::set_handler(|| {}).context("cannot wait for Ctrl-C")?;
    let demo = target().join("debug/examples/demo");
    let status = Command::new(&demo)
        .args(arguments)
        .current_dir(crate::root())
        .status()
        .with_context(|| format!("cannot run {}", demo.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The folder of what is built.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), |folder| crate::root().join(folder))
}
