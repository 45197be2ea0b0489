//! `cargo xtask demo`, and the other programs of the package `tools`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::fetch;
use crate::run::{cargo, checked};

/// Fetches the additional tools of fault injection, and runs it.
pub(crate) fn chaos(arguments: &[String]) -> Result<ExitCode> {
    fetch::faketime()?;
    run("chaos", arguments)
}

/// Fetches the servers that a program starts, builds the program with its dependencies, and runs it.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<ExitCode> {
    fetch::servers(servers(name))?;
    eprintln!("==> building");
    build(name, &[])?;
    // The program receives Ctrl-C as well and stops its servers; this process only waits for it.
    ctrlc::set_handler(|| {}).context("cannot wait for Ctrl-C")?;
    let code = play(name, arguments)?.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The servers that each program starts.
fn servers(name: &str) -> &'static [&'static str] {
    match name {
        "alert-drill" => &["mongod", "prometheus", "alertmanager"],
        _ => &["mongod", "prometheus"],
    }
}

/// Builds a program and the binaries that it starts, with all features, as for the tests, so that nothing is built
/// twice. `also` are further targets of cargo.
pub(crate) fn build(name: &str, also: &[&str]) -> Result<()> {
    let programs = ["--workspace", "--all-features", "--bin", "ledger", "--bin", "txnscope", "--bin", name];
    checked(cargo().arg("build").args(programs).args(also))
}

/// Runs a program that is built, and returns its exit code.
pub(crate) fn play(name: &str, arguments: &[String]) -> Result<Option<i32>> {
    let program = target().join("debug").join(name);
    let status = Command::new(&program)
        .args(arguments)
        .current_dir(crate::root())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.code())
}

/// The target folder.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), |folder| crate::root().join(folder))
}
