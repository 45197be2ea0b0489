//! What cargo-deny does not hold: that our crates forbid `unsafe`, and that no dependency needs a newer Rust than we say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

/// Every package that is built here for any of our crates, in the features that they have.
fn metadata(dependencies: bool) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--offline", "--locked"]);
    // Crates for other systems need not even be there.
    command.args(["--all-features", "--filter-platform=x86_64-unknown-linux-gnu"]);
    if !dependencies {
        command.arg("--no-deps");
    }
    let output = command.current_dir(testkit::workspace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().unwrap().iter()
}

/// `1.88` and `1.88.0` are the same.
fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap_or(0))
}

#[test]
fn no_dependency_needs_a_newer_rust_than_we_say() {
    let metadata = metadata(true);
    let ours = packages(&metadata).find(|package| package["name"] == "txnscope").unwrap();
    let ours = version(ours["rust_version"].as_str().unwrap());
    let newer: Vec<String> = packages(&metadata)
        .filter(|package| package["rust_version"].as_str().is_some_and(|wanted| version(wanted) > ours))
        .map(|package| {
            format!("{} {} wants {}", package["name"], package["version"], package["rust_version"])
        })
        .collect();
    assert!(newer.is_empty(), "take an older one, or raise rust-version: {newer:#?}");
}

#[test]
fn every_crate_of_ours_forbids_unsafe_code() {
    let lints = "[lints]\nworkspace = true\n";
    let metadata = metadata(false);
    assert!(packages(&metadata).count() >= 9);
    for package in packages(&metadata) {
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(manifest.contains(lints), "{} has lints of its own", package["name"]);
    }
    let workspace = std::fs::read_to_string(testkit::workspace().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
}
