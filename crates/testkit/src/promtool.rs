//! promtool, Prometheus's checker of metrics, configurations and rules.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::binaries::Binary;

/// Checks a page of metrics: `promtool check metrics`.
///
/// # Errors
///
/// With promtool's error messages, if there are any.
pub async fn check_metrics(page: &str) -> Result<()> {
    let mut child = Command::new(Binary::Promtool.path()?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start promtool")?;
    let mut stdin = child.stdin.take().context("promtool's standard input")?;
    stdin.write_all(page.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let complaints =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if !output.status.success() || !complaints.trim().is_empty() {
        bail!("promtool complains:\n{}", complaints.trim());
    }
    Ok(())
}

/// Checks a Prometheus configuration: `promtool check config`.
///
/// # Errors
///
/// With promtool's error messages, if there are any.
pub async fn check_config(file: &Path) -> Result<()> {
    run(&["check", "config"], &[file.to_owned()]).await
}

/// Checks rule files: `promtool check rules`, with every lint.
///
/// # Errors
///
/// With promtool's error messages, if there are any.
pub async fn check_rules(files: &[PathBuf]) -> Result<()> {
    run(&["check", "rules", "--lint=all", "--lint-fatal"], files).await
}

/// Runs rule tests: `promtool test rules`.
///
/// # Errors
///
/// With the expected and the actual results, if they differ; and if a rule file is missing, for which promtool only
/// prints a warning: a test that expects no alert would pass then.
pub async fn test_rules(files: &[PathBuf]) -> Result<()> {
    run(&["test", "rules"], files).await
}

async fn run(command: &[&str], files: &[PathBuf]) -> Result<()> {
    let output = Command::new(Binary::Promtool.path()?)
        .args(command)
        .args(files)
        // A fifth less processor time: promtool allocates much and has little to keep.
        .env("GOGC", "400")
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start promtool")?;
    let complaints = [output.stdout, output.stderr].concat();
    let complaints = String::from_utf8_lossy(&complaints);
    if !output.status.success() || complaints.contains("WARNING") {
        bail!("promtool complains:\n{}", complaints.trim());
    }
    Ok(())
}
