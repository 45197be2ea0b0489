//! Tells the program which commit and which target it is built for: `txnscope --version`.
//!
//! The commit is the one that `TXNSCOPE_COMMIT` names, as `cargo xtask package` sets it, or else the one that cargo wrote into the
//! published crate. The repository is not asked: a build in a working copy would then be repeated after each commit, and would
//! name a commit without the changes that are not committed.

use std::env;
use std::path::Path;

const VARIABLE: &str = "TXNSCOPE_COMMIT";

/// `cargo package` writes it: `{"git": {"sha1": "..."}, ...}`, with `"dirty": true` if files had been changed.
const VCS_INFO: &str = ".cargo_vcs_info.json";

/// The number of characters of a commit that are shown.
const LENGTH: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let set = env::var(VARIABLE).ok().filter(|commit| !commit.trim().is_empty());
    let commit = shortened(&set.or_else(packaged).unwrap_or_default());
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION");
    let details = if commit.is_empty() { target } else { format!("{commit}, {target}") };
    println!("cargo::rustc-env=TXNSCOPE_REVISION={commit}");
    println!("cargo::rustc-env=TXNSCOPE_LONG_VERSION={version} ({details})");
}

/// The commit of a published crate. Its working copy has no such file.
fn packaged() -> Option<String> {
    let file = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join(VCS_INFO);
    let text = std::fs::read_to_string(file).ok()?;
    println!("cargo::rerun-if-changed={VCS_INFO}");
    let (_, rest) = text.split_once("\"sha1\": \"")?;
    let dirty = if text.contains("\"dirty\": true") { "-dirty" } else { "" };
    Some(format!("{}{dirty}", rest.split('"').next()?))
}

/// The first characters of a commit, with `-dirty` if it has that, which stands for changes that are not committed.
fn shortened(text: &str) -> String {
    let (commit, dirty) = match text.trim().strip_suffix("-dirty") {
        Some(commit) => (commit, "-dirty"),
        None => (text.trim(), ""),
    };
    if !commit.chars().all(|c| c.is_ascii_hexdigit()) {
        println!(
            "cargo::error={VARIABLE} is no commit: set it to the output of `git rev-parse HEAD`, or unset it"
        );
    }
    commit.chars().take(LENGTH).chain(dirty.chars()).collect()
}
