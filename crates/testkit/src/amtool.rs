//! amtool, Alertmanager's checker of configurations.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::binaries::Binary;

/// Checks a configuration: `amtool check-config`.
///
/// # Errors
///
/// With amtool's error messages, if there are any.
pub async fn check_config(file: &Path) -> Result<()> {
    run(&["check-config".as_ref(), file.as_os_str()]).await.map(|_| ())
}

/// The receivers of an alert with these labels, in order: `amtool config routes test`.
///
/// # Errors
///
/// If amtool rejects the configuration.
pub async fn receivers(file: &Path, labels: &[(&str, &str)]) -> Result<Vec<String>> {
    let config = format!("--config.file={}", file.display());
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let words = ["config", "routes", "test", &config].into_iter().chain(labels.iter().map(String::as_str));
    let printed = run(&words.map(AsRef::as_ref).collect::<Vec<_>>()).await?;
    Ok(printed.trim().split(',').map(str::to_owned).collect())
}

async fn run(arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Command::new(Binary::Amtool.path()?)
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start amtool")?;
    if !output.status.success() {
        let complaints = [output.stdout, output.stderr].concat();
        bail!("amtool complains:\n{}", String::from_utf8_lossy(&complaints).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
