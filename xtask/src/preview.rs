//! `cargo xtask preview`: renders the dashboards as images, without Grafana, with `dashboards/preview`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::fetch;
use crate::run::{checked, output};

pub(crate) fn run(prometheus: &str, out: &Path, arguments: &[String]) -> Result<ExitCode> {
    let folder = crate::root().join("dashboards/preview");
    output(Command::new("node").arg("--version"))
        .context("the preview needs Node.js 20 or newer, with npm, on the PATH")?;
    let chromium = fetch::chromium()?;
    // npm writes this file at the end of a successful install.
    if !folder.join("node_modules/.package-lock.json").is_file() {
        eprintln!("==> fetching Grafana's components: a few minutes, and 0.8 GB on the disk");
        checked(
            Command::new("npm")
                // Some of Grafana's packages have incompatible peer dependencies.
                .args(["ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&folder),
        )?;
    }
    checked(
        Command::new("node")
            .arg(folder.join("draw.js"))
            .arg(format!("--prometheus={prometheus}"))
            .arg(format!("--chromium={}", chromium.display()))
            .arg(format!("--out={}", out.display()))
            .args(arguments)
            .current_dir(crate::root()),
    )?;
    Ok(ExitCode::SUCCESS)
}
