//! Supply chain rules that cargo-deny does not cover: our crates forbid `unsafe`, no dependency needs a newer Rust
//! than declared, and the library adds only known crates to a backend.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Every package that is built for any of our crates, with its features.
fn metadata(dependencies: bool) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--offline", "--locked"]);
    // Crates for other systems need not be downloaded.
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

/// Parses a version: `1.88` and `1.88.0` are equal.
fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap_or(0))
}

#[test]
fn dependencies_support_declared_rust_version() {
    let metadata = metadata(true);
    let ours = packages(&metadata).find(|package| package["name"] == "txnscope").unwrap();
    let ours = version(ours["rust_version"].as_str().unwrap());
    let newer: Vec<String> = packages(&metadata)
        .filter(|package| package["rust_version"].as_str().is_some_and(|wanted| version(wanted) > ours))
        .map(|package| {
            format!("{} {} needs {}", package["name"], package["version"], package["rust_version"])
        })
        .collect();
    assert!(newer.is_empty(), "take an older one, or raise rust-version: {newer:#?}");
}

#[test]
fn all_crates_forbid_unsafe_code() {
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

/// The crates that the library adds to a backend: its features, cargo's names of them, and the crates that each adds.
/// Macros are included, although they run at build time; the driver's own dependencies are not.
const LIBRARY: &[(&str, &[&str], &str)] = &[
    (
        "no features",
        &["--no-default-features"],
        "
    base64 bitflags cfg-if crossbeam-epoch crossbeam-utils equivalent evmap foldhash getrandom hashbag
    hashbrown indexmap left-right libc metrics metrics-exporter-prometheus metrics-util once_cell
    pin-project-lite portable-atomic ppv-lite86 proc-macro2 quanta quote rand rand_chacha rand_core
    rand_xoshiro rapidhash raw-cpuid rustversion sketches-ddsketch slab smallvec syn thiserror thiserror-impl
    tokio tower-layer tower-service tracing tracing-core txnscope-catalog unicode-ident zerocopy
        ",
    ),
    (
        "the default features",
        &[],
        "
    axum axum-core bytes futures-core futures-task futures-util http http-body http-body-util httpdate hyper
    hyper-util itoa matchit memchr mime mio percent-encoding serde_core socket2 sync_wrapper tokio-macros
    tower
        ",
    ),
    (
        "all features",
        &["--all-features", "--prune=mongodb"],
        "
    critical-section errno futures-io futures-macro futures-sink serde serde_derive serde_json
    signal-hook-registry tokio-util zmij
        ",
    ),
];

#[test]
fn library_has_only_known_dependencies() {
    let mut known = BTreeSet::from(["txnscope"]);
    for (what, features, names) in LIBRARY {
        known.extend(names.split_whitespace());
        let mut command = Command::new(env!("CARGO"));
        command.args(["tree", "--offline", "--locked", "--package=txnscope", "--edges=normal"]);
        command.args(["--prefix=none", "--format={p}", "--target=x86_64-unknown-linux-gnu"]).args(*features);
        let output = command.current_dir(testkit::workspace()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        let found: BTreeSet<_> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
        let new: Vec<_> = found.difference(&known).collect();
        assert!(
            new.is_empty(),
            "with {what} the library now brings {new:?} into every backend. `cargo tree --package txnscope --invert \
             CRATE` says for whom. Do without it, or turn off the feature that wants it; if it earns its place, add it to \
             LIBRARY in {} and say in the commit why",
            file!()
        );
        let gone: Vec<_> = known.difference(&found).collect();
        assert!(
            gone.is_empty(),
            "with {what} the library no longer depends on {gone:?}: remove them from LIBRARY"
        );
    }
}
