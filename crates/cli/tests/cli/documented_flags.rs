//! Flags in the documentation: every flag that a text names belongs to one of our own commands, or to a named third-party program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags of programs that the documentation shows beside ours: cargo, `cargo xtask`, mongod, curl, systemd, promtool, pip.
const OTHERS: &[&str] = &[
    // `cargo xtask` and the programs that it runs.
    "--busy",
    "--consumptions",
    "--documents",
    "--faults",
    "--for",
    "--history",
    "--list",
    "--live",
    "--matrix",
    "--out",
    "--quick",
    "--seconds",
    "--short",
    "--soak",
    "--times",
    "--write",
    // cargo and libtest.
    "--all-features",
    "--dry-run",
    "--example",
    "--features",
    "--locked",
    "--nocapture",
    "--package",
    "--path",
    "--release",
    "--target",
    "--test",
    // npm.
    "--omit-lockfile-registry-resolved",
    "--package-lock-only",
    "--workspace",
    // Container engines, Helm, kubectl, systemctl, useradd, sha256sum and gh, in docs/install.md and docs/releasing.md.
    "--cap-drop",
    "--check",
    "--env",
    "--file",
    "--filename",
    "--from-file",
    "--ignore-missing",
    "--now",
    "--publish",
    "--read-only",
    "--repo",
    "--set",
    "--strict",
    "--system",
    // mongod (`--bind_ip`, `--replSet`) and mongosh, in docs/tutorial.md.
    "--bind",
    "--dbpath",
    "--eval",
    "--repl",
    // curl, date, journalctl, mongodump, Prometheus, and the exporter that ours is compared with.
    "--archive",
    "--collect-all",
    "--collector.currentopmetrics",
    "--collector.diagnosticdata",
    "--collector.replicasetstatus",
    "--db",
    "--mongodb.direct-connect",
    "--gzip",
    "--silent",
    "--since",
    "--storage.tsdb.retention.time",
    "--uri",
    "--utc",
    "--write-out",
];

/// The flags in this text, without their values; `--collector.*` stands for all that begin so.
fn flags(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (index, _) in text.match_indices("--") {
        let before = text[..index].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "-.<!".contains(c)) {
            continue;
        }
        let rest = &text[index + 2..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)));
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        // A URI in the place of a flag is an example of a mistake.
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() < 2 || after.starts_with("://") {
            continue;
        }
        if name.ends_with('.') && after.starts_with('*') {
            found.insert(format!("--{name}*"));
        } else {
            found.insert(format!("--{}", name.trim_end_matches(['.', '-'])));
        }
    }
    found
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_txnscope")).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The flags of a command and of those below it.
fn declared(command: &[&str], found: &mut BTreeSet<String>) {
    let text = help(command);
    found.extend(flags(&text));
    let Some((_, rest)) = text.split_once("Commands:\n") else { return };
    for line in rest.lines().take_while(|line| line.starts_with("  ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" && line.starts_with("  ") && !line.starts_with("    ") {
            declared(&[command, &[name]].concat(), found);
        }
    }
}

pub(crate) fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            pages(&path, found);
        } else if name.ends_with(".md") && name != "CHANGELOG.md" {
            found.push(path);
        }
    }
}

#[test]
fn every_flag_in_the_documentation_is_declared() {
    let mut known: BTreeSet<String> = OTHERS.iter().map(|&flag| flag.to_owned()).collect();
    declared(&[], &mut known);
    assert!(known.contains("--mongodb.uri") && known.contains("--rounds"), "{known:?}");
    let mut found = Vec::new();
    pages(&testkit::workspace(), &mut found);
    let mut unknown = Vec::new();
    for page in found {
        let text = std::fs::read_to_string(&page).unwrap();
        let exists = |flag: &str| match flag.strip_suffix('*') {
            Some(prefix) => known.iter().any(|known| known.starts_with(prefix)),
            None => known.contains(flag),
        };
        let unknown_here = flags(&text).into_iter().filter(|flag| !exists(flag));
        unknown.extend(unknown_here.map(|flag| format!("{}: {flag}", page.display())));
    }
    assert!(unknown.is_empty(), "no command has these flags:\n{}", unknown.join("\n"));
}
