//! Generates the dashboards with their Python source, which receives the names of the metrics.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::fetch;

/// Writes all dashboards. A query of a metric that is not in the catalog is an error.
pub(crate) fn generate() -> Result<()> {
    let sdk = fetch::grafana_sdk()?;
    let mut python = Command::new("python3")
        .args(["dashboards/source/generate.py", "dashboards"])
        .current_dir(crate::root())
        .env("PYTHONPATH", sdk)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run python3; is it installed?")?;
    let mut names = python.stdin.take().context("the generator's input is piped")?;
    for metric in txnscope_catalog::METRICS {
        // If the program does not read its input to the end, it prints the reason itself.
        let _ = writeln!(names, "{}", metric.name);
    }
    drop(names);
    let status = python.wait()?;
    if !status.success() {
        bail!("dashboards/source/generate.py ended with {status}");
    }
    Ok(())
}
