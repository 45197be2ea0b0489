//! `cargo xtask demo`, and the other programs of the package `tools`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::fetch;
use crate::run::{cargo, checked};

/// Brings what chaos needs beside the servers, and runs it.
pub(crate) fn chaos(arguments: &[String]) -> Result<ExitCode> {
    fetch::faketime()?;
    run("chaos", arguments)
}

/// Brings the servers that it starts, builds that program with what it runs, and runs it to its end.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<ExitCode> {
    fetch::servers(servers(name))?;
    eprintln!("==> building");
    build(name)?;
    // Ctrl-C goes to the program too. It ends its servers; we only wait for it.
    ctrlc::set_handler(|| {}).context("cannot wait for Ctrl-C")?;
    let code = play(name, arguments)?.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What each program starts.
fn servers(name: &str) -> &'static [&'static str] {
    match name {
        "alert-drill" => &["mongod", "prometheus", "alertmanager"],
        _ => &["mongod", "prometheus"],
    }
}

/// Builds a program, and those that it starts. With all features, as the tests are built: so nothing is built
/// twice.
pub(crate) fn build(name: &str) -> Result<()> {
    let programs = ["--workspace", "--all-features", "--bin", "ledger", "--bin", "txnscope", "--bin", name];
    checked(cargo().arg("build").args(programs))
}

/// Runs a program that is built, and says with which code it ended.
pub(crate) fn play(name: &str, arguments: &[String]) -> Result<Option<i32>> {
    let program = target().join("debug").join(name);
    let status = Command::new(&program)
        .args(arguments)
        .current_dir(crate::root())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.code())
}

/// The folder of what is built.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), |folder| crate::root().join(folder))
}
