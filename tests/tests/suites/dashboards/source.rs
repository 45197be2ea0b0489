//! The dashboard files match their source.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::page::{UIDS, folder};

#[test]
fn generated_dashboards_are_up_to_date() {
    let made = tempfile::tempdir().unwrap();
    let sdk = testkit::workspace().join(".tools/grafana-sdk");
    assert!(sdk.is_dir(), "{} is not there; run `cargo xtask fetch`", sdk.display());
    let mut python = Command::new("python3")
        .arg(folder().join("source/generate.py"))
        .arg(made.path())
        .env("PYTHONPATH", sdk)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let names: Vec<_> = txnscope_catalog::METRICS.iter().map(|metric| metric.name).collect();
    python.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
    for uid in UIDS {
        let file = format!("{uid}.json");
        let [made, kept] =
            [made.path(), &folder()].map(|folder| std::fs::read_to_string(folder.join(&file)).unwrap());
        assert!(made == kept, "dashboards/{file} is not what dashboards/source says; run `cargo xtask gen`");
    }
    let kept = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.file_name().into_string().unwrap()));
    let dashboards: Vec<_> = kept.filter(|name| name.ends_with(".json")).collect();
    assert_eq!(dashboards.len(), UIDS.len(), "{dashboards:?}");
}

/// A name that is not in the catalog must not reach a file.
#[test]
fn unknown_metric_fails_generation() {
    let made = tempfile::tempdir().unwrap();
    let mut python = Command::new("python3")
        .arg(folder().join("source/generate.py"))
        .arg(made.path())
        .env("PYTHONPATH", testkit::workspace().join(".tools/grafana-sdk"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let all_but_one = txnscope_catalog::METRICS.iter().filter(|metric| metric.name != "mongodb_up");
    let names: Vec<_> = all_but_one.map(|metric| metric.name).collect();
    python.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("`mongodb_up` is not in the catalog"), "{said}");
}
