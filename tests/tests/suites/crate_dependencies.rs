//! The allowed dependencies between crates. The table below is the architecture, compared with `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The workspace crates on which each crate may depend. Dev-dependencies are not restricted, except by the next
/// table.
const ARROWS: &[(&str, &[&str])] = &[
    ("txnscope-catalog", &[]),
    ("txnscope", &["txnscope-catalog"]),
    ("txnscope-mongo", &[]),
    ("txnscope-sidecar", &["txnscope-catalog", "txnscope-checks", "txnscope-mongo"]),
    ("txnscope-checks", &["txnscope-catalog", "txnscope-mongo"]),
    ("txnscope-proxy", &["txnscope", "txnscope-catalog"]),
    ("txnscope-rollout", &[]),
    (
        "txnscope-cli",
        &[
            "txnscope-catalog",
            "txnscope-checks",
            "txnscope-mongo",
            "txnscope-proxy",
            "txnscope-rollout",
            "txnscope-sidecar",
        ],
    ),
    ("ledger", &["txnscope", "txnscope-mongo"]),
    ("testkit", &[]),
    // Its library contains clients, load and the check of queries; the tested crates are dev-dependencies.
    ("end-to-end", &["txnscope-catalog"]),
    ("cost", &["txnscope"]),
    (
        "benches",
        &[
            "end-to-end",
            "ledger",
            "testkit",
            "txnscope",
            "txnscope-catalog",
            "txnscope-checks",
            "txnscope-rollout",
            "txnscope-sidecar",
        ],
    ),
    (
        "tools",
        &[
            "end-to-end",
            "ledger",
            "testkit",
            "txnscope",
            "txnscope-catalog",
            "txnscope-checks",
            "txnscope-sidecar",
        ],
    ),
    ("xtask", &["txnscope-catalog"]),
];

/// Crates for development only: shipped crates may only have them as dev-dependencies.
const DEV_ONLY: &[&str] = &["benches", "cost", "testkit", "end-to-end", "tools", "xtask"];

/// Crates without which the bare tower layer must compile.
const OPTIONAL: &[(&str, &[&str])] = &[("txnscope", &["axum", "http", "mongodb"])];

struct Dependency {
    name: String,
    dev: bool,
    optional: bool,
}

fn workspace() -> BTreeMap<String, Vec<Dependency>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(testkit::workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let dependency = |value: &Value| Dependency {
        name: text(&value["name"]),
        dev: value["kind"] == "dev",
        optional: value["optional"] == true,
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter().map(dependency).collect();
            (text(&package["name"]), dependencies)
        })
        .collect()
}

#[test]
fn crates_depend_only_on_allowed_crates() {
    let workspace = workspace();
    let ours: BTreeSet<&str> = workspace.keys().map(String::as_str).collect();
    for (name, dependencies) in &workspace {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else {
            panic!("`{name}` has no row in the table of arrows: say what it may know")
        };
        for dependency in dependencies.iter().filter(|dependency| !dependency.dev) {
            let name_of = dependency.name.as_str();
            assert!(
                !ours.contains(name_of) || allowed.contains(&name_of),
                "`{name}` depends on `{name_of}`, which the table of arrows does not allow"
            );
            assert!(
                DEV_ONLY.contains(&name.as_str()) || !DEV_ONLY.contains(&name_of),
                "`{name}` depends on `{name_of}` other than for development"
            );
        }
    }
}

/// A URI is parsed in one place, by the driver. A part that is cut out elsewhere may be a password.
#[test]
fn only_one_crate_parses_uris() {
    let cuts = [
        "split_once(\"://\")",
        "contains(\"://\")",
        "contains(\"mongodb://",
        "ConnectionString",
        "ClientOptions::parse(",
    ];
    let product = ["crates/sidecar/src", "crates/cli/src", "examples/ledger/src", "crates/checks/src"];
    let mut folders: Vec<_> = product.iter().map(|folder| testkit::workspace().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for cut in cuts {
                assert!(
                    !text.contains(cut),
                    "{} has {cut}: that is the business of crates/mongo",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn library_and_sidecar_are_independent() {
    for (name, other) in [("txnscope", "txnscope-sidecar"), ("txnscope-sidecar", "txnscope")] {
        let known = &workspace()[name];
        assert!(
            known.iter().all(|dependency| dependency.name != other),
            "`{name}` knows `{other}`, if only in tests"
        );
    }
}

#[test]
fn bare_layer_depends_on_no_framework_or_driver() {
    let workspace = workspace();
    for (name, optional) in OPTIONAL {
        for dependency in workspace[*name].iter().filter(|dependency| !dependency.dev) {
            assert!(
                dependency.optional || !optional.contains(&dependency.name.as_str()),
                "`{name}` cannot be compiled without `{}`",
                dependency.name
            );
        }
    }
}
