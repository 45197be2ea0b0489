//! `cargo xtask site`: the documentation as a site with search, in `target/site`, by mdBook.
//!
//! The pages stay plain Markdown, and docs/README.md is the table of contents: the pages of its sections are the chapters.
//! Links to files that are not pages lead to the repository. A broken link or anchor is an error.

mod links;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::links::{Target, rewrite};
use crate::run::checked;
use crate::{fetch, sources};

/// What begins with one of these is a page.
const PAGES: [&str; 7] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/",
    "alerts/",
    "dashboards/README.md",
];

const INDEX: &str = "docs/README.md";

const RUNBOOKS: &str = "alerts/runbooks/";

const SETTINGS: &str = r#"[book]
title = "txnscope"
description = "Observability for MongoDB transactions"
language = "en"
src = "src"

[build]
use-default-preprocessors = false # braces in queries and templates stay as they are

[output.html]
git-repository-url = "https://github.com/txnscope/txnscope"
no-section-label = true
smart-punctuation = false
playground = { runnable = false }
fold = { enable = true, level = 1 }
"#;

/// Builds the site.
pub(crate) fn build() -> Result<()> {
    let source = crate::root().join("target/site-source");
    if source.is_dir() {
        fs::remove_dir_all(&source).with_context(|| format!("cannot remove {}", source.display()))?;
    }
    prepare(&source)?;
    let site = crate::root().join("target/site");
    let mdbook = fetch::mdbook()?;
    checked(Command::new(mdbook).arg("build").arg(&source).arg("--dest-dir").arg(&site))?;
    links::check_site(&site)?;
    eprintln!("==> target/site/index.html");
    Ok(())
}

/// Writes the sources of the site into a folder.
fn prepare(source: &Path) -> Result<()> {
    let listed = sources::files()?;
    let files: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
    let is_page = |name: &str| name.ends_with(".md") && PAGES.iter().any(|page| name.starts_with(page));
    let pages: BTreeSet<&str> = files.iter().copied().filter(|name| is_page(name)).collect();
    let mut images = BTreeSet::new();
    for page in &pages {
        let text = read(page)?;
        let rewritten = rewrite(page, &text, &mut |path| {
            if pages.contains(path) {
                Ok(Target::Page)
            } else if path.ends_with(".png") && files.contains(path) {
                images.insert(path.to_owned());
                Ok(Target::Image)
            } else if files.contains(path) {
                Ok(Target::File)
            } else if files.iter().any(|file| file.starts_with(&format!("{path}/"))) {
                Ok(Target::Folder)
            } else {
                bail!("{page}: there is no {path}")
            }
        })?;
        write(&source.join("src").join(site_name(page)), &rewritten)?;
    }
    for image in images {
        let to = source.join("src").join(&image);
        fs::create_dir_all(to.parent().unwrap_or(&to)).context("cannot create a folder of the site")?;
        fs::copy(crate::root().join(&image), &to).with_context(|| format!("cannot copy {image}"))?;
    }
    write(&source.join("src/SUMMARY.md"), &summary(&pages)?)?;
    write(&source.join("book.toml"), SETTINGS)
}

/// The page of a folder is its index.
fn site_name(page: &str) -> PathBuf {
    let path = Path::new(page);
    if path.file_name().is_some_and(|name| name == "README.md") {
        path.with_file_name("index.md")
    } else {
        path.to_owned()
    }
}

/// The table of contents: the sections of docs/README.md, then the runbooks, then what no section names.
fn summary(pages: &BTreeSet<&str>) -> Result<String> {
    let index = read(INDEX)?;
    let mut left = pages.clone();
    left.retain(|page| ![INDEX, "README.md"].contains(page));
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    // A page belongs where a link names it as a whole; a link to one of its sections decides only if there is no other.
    for whole in [true, false] {
        let mut section = 0;
        for line in index.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                section = sections.iter().position(|(known, _)| known == title).unwrap_or(sections.len());
                if section == sections.len() {
                    sections.push((title.to_owned(), Vec::new()));
                }
            } else if line.starts_with('|') {
                for link in links::of(line) {
                    let (path, anchor) =
                        link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
                    let path = links::resolve(INDEX, path);
                    if anchor.is_none() == whole && left.remove(path.as_str()) {
                        sections[section].1.push(path);
                    }
                }
            }
        }
    }
    let (runbooks, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|page| page.starts_with(RUNBOOKS));
    sections.push(("Runbooks".to_owned(), runbooks.into_iter().map(str::to_owned).collect()));
    sections.push(("More".to_owned(), others.into_iter().map(str::to_owned).collect()));
    let mut text = "# Summary\n\n[txnscope](index.md)\n[Documentation](docs/index.md)\n".to_owned();
    for (title, pages) in sections.iter().filter(|(_, pages)| !pages.is_empty()) {
        text += &format!("\n# {title}\n\n");
        for page in pages {
            text += &format!("- [{}]({})\n", heading(page)?, site_name(page).display());
        }
    }
    Ok(text)
}

/// The title of a page.
fn heading(page: &str) -> Result<String> {
    let text = read(page)?;
    let title = text
        .lines()
        .find_map(|line| line.strip_prefix("# "))
        .with_context(|| format!("{page} has no title"))?;
    Ok(title.replace(['[', ']'], ""))
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(crate::root().join(name)).with_context(|| format!("cannot read {name}"))
}

fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn site_has_each_page_once_and_each_link_leads_somewhere() {
        let folder = crate::root().join("target/site-test");
        let _ = fs::remove_dir_all(&folder);
        prepare(&folder).unwrap();
        let summary = fs::read_to_string(folder.join("src/SUMMARY.md")).unwrap();
        for page in
            ["docs/tutorial.md", "docs/index.md", "alerts/index.md", "alerts/runbooks/MongoDBNoPrimary.md"]
        {
            assert_eq!(summary.matches(&format!("({page})")).count(), 1, "{page}\n{summary}");
            assert!(folder.join("src").join(page).is_file(), "{page}");
        }
        let (tutorials, _) = summary.split_once("# How-to guides").unwrap();
        assert!(tutorials.contains("docs/tutorial.md"), "{summary}");
        let readme = fs::read_to_string(folder.join("src/index.md")).unwrap();
        assert!(readme.contains("](docs/index.md)") && readme.contains("](docs/images/"), "{readme}");
        assert!(
            readme.contains("](https://github.com/txnscope/txnscope/blob/main/")
                || !readme.contains(".toml)")
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
