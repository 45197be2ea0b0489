//! Names in the documentation: every metric, recording rule, alert, type and file that a text names exists.
//!
//! The flags are checked in `crates/cli`, which declares them; the queries of the runbooks in the suite `alerts`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use txnscope_catalog as catalog;

/// Prefixes by which a word is recognized as the name of a metric.
const PREFIXES: [&str; 4] = ["mongodb_", "transaction_", "txnscope_", "concurrent_"];

/// Words with such a prefix that are not metrics of our own.
const OTHERS: [&str; 7] = [
    // The name of the Debian package.
    "txnscope_0",
    "txnscope_VERSION_ARCH",
    // The exporter that ours is compared with.
    "mongodb_exporter",
    // Collections of MongoDB and of the runner.
    "transaction_coordinators",
    "txnscope_fence",
    // The collection of a scratch transaction, with or without its random part.
    "txnscope_preflight_",
    "txnscope_preflight_6b05eaf033f684a81243aeda",
];

/// Prefixes of the metrics of Percona's exporter, in the tables of docs/migrate.md.
const THIRD_PARTY: [&str; 3] = ["mongodb_ss_", "mongodb_currentop_", "mongodb_profile_slow_"];

/// What the name of an alert begins with.
const ALERT_PREFIXES: [&str; 4] = ["MongoDB", "Transaction", "Txnscope", "Consistency"];

fn workspace() -> PathBuf {
    testkit::workspace()
}

/// All files below `folder` with that extension, without what is built or fetched.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn texts(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&workspace().join(folder), extension, &mut found);
    assert!(!found.is_empty(), "there is no .{extension} below {folder:?}");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The documentation, without what lists former names.
pub(crate) fn documentation() -> Vec<(PathBuf, String)> {
    let mut pages = texts("", "md");
    pages.retain(|(path, _)| !path.ends_with("CHANGELOG.md"));
    pages
}

fn words<'a>(text: &'a str, more: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(move |c: char| !(c.is_ascii_alphanumeric() || c == '_' || more.contains(c)))
        .filter(|word| !word.is_empty())
}

/// The values of one key in all rule files, such as `alert` or `record`.
fn in_rules(key: &str) -> BTreeSet<String> {
    let begin = format!("- {key}: ");
    texts("alerts/rules", "yml")
        .iter()
        .flat_map(|(_, text)| {
            text.lines().filter_map(|line| line.trim().strip_prefix(&begin)).map(str::to_owned)
        })
        .collect()
}

#[test]
fn every_metric_in_the_documentation_is_in_the_catalog() {
    let known: BTreeSet<&str> = catalog::METRICS.iter().map(|metric| metric.name).collect();
    let recorded = in_rules("record");
    let exists = |word: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
        // `mongodb_client_*` stands for all metrics that begin so.
        let prefix = word.ends_with('_') && known.iter().any(|name| name.starts_with(word));
        let is_value = catalog::REASONS.contains(&word);
        known.contains(word)
            || family.is_some_and(|name| known.contains(name))
            || prefix
            || is_value
            || OTHERS.contains(&word)
            || THIRD_PARTY.iter().any(|prefix| word.starts_with(prefix))
    };
    // Documentation of tests names functions as well.
    let mut functions = BTreeSet::new();
    // Examples in Rust import our crates.
    let folders = fs::read_dir(workspace().join("crates")).unwrap().map(|entry| entry.unwrap().file_name());
    functions.extend(folders.map(|name| format!("txnscope_{}", name.to_string_lossy())));
    for (_, text) in texts("", "rs") {
        functions
            .extend(text.split("fn ").skip(1).filter_map(|rest| words(rest, "").next().map(str::to_owned)));
    }
    let mut unknown = Vec::new();
    for (path, text) in documentation() {
        for word in words(&text, ":") {
            // A recorded series; a label and its value, or a time of day, have colons too.
            let parts: Vec<&str> = word.split(':').collect();
            let is_recorded = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
            if is_recorded && PREFIXES.iter().any(|prefix| parts[1].starts_with(prefix)) {
                if !recorded.contains(word) {
                    unknown.push(format!("{}: {word}", path.display()));
                }
            } else if !is_recorded {
                let names =
                    parts.iter().filter(|part| PREFIXES.iter().any(|prefix| part.starts_with(prefix)));
                unknown.extend(
                    names
                        .filter(|name| !exists(name) && !functions.contains(**name))
                        .map(|name| format!("{}: {name}", path.display())),
                );
            }
        }
    }
    assert!(unknown.is_empty(), "neither in the catalog nor recorded:\n{}", unknown.join("\n"));
}

#[test]
fn every_alert_in_the_documentation_exists() {
    let mut known = in_rules("alert");
    assert!(known.contains("MongoDBMemberDown"), "{known:?}");
    // A word in CamelCase that begins so may as well be an item of a crate.
    for (_, text) in texts("", "rs") {
        let mut words = words(&text, "");
        while let Some(word) = words.next() {
            if ["struct", "enum", "trait", "type"].contains(&word) {
                known.extend(words.next().map(str::to_owned));
            }
        }
    }
    let is_name = |word: &&str| {
        let rest = ALERT_PREFIXES.iter().find_map(|prefix| word.strip_prefix(prefix));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()) && rest.len() > 3)
    };
    let mut unknown = Vec::new();
    for (path, text) in documentation() {
        // Names stand in backticks; in prose a word such as `MongoDBs` is none.
        for quoted in text.split('`').skip(1).step_by(2) {
            let names = words(quoted, "").filter(is_name);
            unknown.extend(
                names.filter(|name| !known.contains(*name)).map(|name| format!("{}: {name}", path.display())),
            );
        }
    }
    assert!(unknown.is_empty(), "no alert and no type has this name:\n{}", unknown.join("\n"));
}

#[test]
fn every_file_that_the_documentation_links_or_names_exists() {
    // A path is that of the repository, of the page's folder, or of a crate's source.
    let root = workspace();
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut roots: Vec<PathBuf> = crates.collect();
    roots.push(root);
    let mut missing = Vec::new();
    for (path, text) in documentation() {
        let folder = path.parent().unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        for link in links {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                missing.push(format!("{}: {link}", path.display()));
            }
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = quoted.contains('/')
                && !quoted.starts_with('/')
                && [".rs", ".md", ".toml", ".yml", ".py"].iter().any(|end| quoted.ends_with(end))
                && quoted.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            let exists =
                || roots.iter().any(|root| root.join(quoted).exists()) || folder.join(quoted).exists();
            if is_path && !exists() {
                missing.push(format!("{}: {quoted}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "there is no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_anchor_that_the_documentation_links_is_a_heading() {
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            })
            .collect()
    };
    let mut missing = Vec::new();
    for (path, text) in documentation() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let Some((target, wanted)) = link.split_once('#').filter(|(target, _)| !target.contains("://"))
            else {
                continue;
            };
            let page = if target.is_empty() { path.clone() } else { path.parent().unwrap().join(target) };
            let Ok(page) = fs::read_to_string(page) else { continue };
            let mut fenced = false;
            let headings = page.lines().filter(|line| {
                fenced ^= line.starts_with("```");
                !fenced && line.starts_with('#')
            });
            let anchors: Vec<String> = headings.map(anchor).collect();
            if !anchors.iter().any(|found| found == wanted) {
                missing.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "no heading has this anchor:\n{}", missing.join("\n"));
}
