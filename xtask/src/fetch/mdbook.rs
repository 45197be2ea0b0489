//! mdBook, which makes the site of the documentation: `.tools/mdbook-VERSION`. No registry has it compiled, so that cargo
//! compiles it once, in a few minutes, with the dependencies of its own lock file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{cargo, checked};

const VERSION: &str = "0.5.4";

/// The variable that names another binary to use instead.
const VARIABLE: &str = "TXNSCOPE_MDBOOK";

/// Compiles mdBook if this version is missing, and returns its path.
pub(super) fn bring(tools: &Path) -> Result<PathBuf> {
    if let Some(file) = std::env::var_os(VARIABLE) {
        return Ok(file.into());
    }
    let folder = tools.join(format!("mdbook-{VERSION}"));
    let program = folder.join("bin/mdbook");
    if !program.is_file() {
        eprintln!("==> compiling mdBook {VERSION}");
        // Without the web server and the watcher of files.
        let features = ["--no-default-features", "--features", "search"];
        let mut install = cargo();
        install.args(["install", "mdbook", "--locked", "--version"]).arg(format!("={VERSION}"));
        install
            .args(features)
            .arg("--root")
            .arg(&folder)
            .arg("--target-dir")
            .arg(crate::root().join("target/mdbook"));
        checked(&mut install).with_context(|| {
            format!("cannot compile mdBook; install it yourself and set {VARIABLE} to it")
        })?;
        // What was compiled on the way is not needed again.
        let _ = std::fs::remove_dir_all(crate::root().join("target/mdbook"));
    }
    Ok(program)
}
