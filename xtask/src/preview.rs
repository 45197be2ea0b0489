//! `cargo xtask preview`: renders the dashboards as images, without Grafana, with `dashboards/preview`; or takes pictures of
//! the live page.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::fetch;
use crate::run::{cargo, checked, output};

/// The pictures come from the test that holds the page to a known situation.
const LIVE_TEST: &str = "live_page::live_page_shows_who_waits_for_whom_in_a_browser";

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

/// Takes pictures of the live page.
pub(crate) fn live() -> Result<ExitCode> {
    fetch::all()?;
    let test = ["test", "--workspace", "--all-features", "--test", "suites", LIVE_TEST, "--", "--exact"];
    checked(cargo().args(test).env("TXNSCOPE_LIVE_PICTURES", crate::root().join("docs/images")))?;
    Ok(ExitCode::SUCCESS)
}
