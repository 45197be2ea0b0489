//! `cargo xtask test words`: spelling, and the words that `typos.toml` and this file reject.
//!
//! `docs/glossary.md` says which word stands for which concept. A reader searches for the words of his field; this check
//! keeps others out of code, comments, messages, panel titles and documentation.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::fetch::{self, cargo_tools};
use crate::run::checked;
use crate::sources;

/// Phrases, which `typos` cannot hold, each with what to write in its place.
const PHRASES: &[(&str, &str)] = &[
    ("so many", "the number, or `this many`"),
    ("of ours", "`our own`"),
    ("who asks", "the client"),
    ("is told", "`is logged`, `is reported`"),
    ("how to see that it is over", "`Verifying recovery`"),
    ("what it can be told", "`Configuration`"),
    ("what is tried again", "`Retries`"),
];

/// Files with prose, by the end of their names.
const PROSE: [&str; 6] = [".rs", ".md", ".py", ".yml", ".toml", ".js"];

/// Files that must name what is rejected.
const EXEMPT: [&str; 2] = ["xtask/src/words.rs", "typos.toml"];

/// Checks all files of the repository.
pub(crate) fn check() -> Result<()> {
    let typos = fetch::cargo_tool(&cargo_tools::TYPOS)?;
    let mut command = Command::new(typos);
    command.current_dir(crate::root()).args(["--config", "typos.toml", "--format", "brief"]);
    checked(&mut command).context("typos.toml says what to write in place of a rejected word")?;
    phrases()
}

fn phrases() -> Result<()> {
    let mut found = Vec::new();
    for name in sources::files()? {
        if PROSE.iter().any(|end| name.ends_with(end)) && !EXEMPT.contains(&name.as_str()) {
            found.extend(rejected(&name, &crate::root().join(&name))?);
        }
    }
    if !found.is_empty() {
        bail!("phrases that docs/glossary.md replaces:\n{}", found.join("\n"));
    }
    Ok(())
}

fn rejected(name: &str, path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?.to_lowercase();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (phrase, instead) in PHRASES {
            let is_word = |(at, _): (usize, &str)| {
                let before = line[..at].chars().next_back();
                let after = line[at + phrase.len()..].chars().next();
                !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
            };
            if line.match_indices(phrase).any(is_word) {
                found.push(format!("{name}:{}: `{phrase}`: write {instead}", number + 1));
            }
        }
    }
    Ok(found)
}
