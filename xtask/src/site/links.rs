//! Links of the documentation, in Markdown and in the HTML of the site.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const REPOSITORY: &str = "https://github.com/txnscope/txnscope";

/// What a link of a page leads to.
pub(super) enum Target {
    /// Another page of the site.
    Page,
    /// An image, which is a part of the site.
    Image,
    /// A file of the repository.
    File,
    /// A folder of the repository.
    Folder,
}

/// The targets of the links in a text.
pub(super) fn of(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The path in the repository of a link on a page.
pub(super) fn resolve(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Rewrites the links of a page, so that each leads to a page of the site or to the repository. Code stays as it is.
pub(super) fn rewrite(
    page: &str,
    text: &str,
    find: &mut dyn FnMut(&str) -> Result<Target>,
) -> Result<String> {
    let (mut out, mut fenced) = (String::with_capacity(text.len()), false);
    for line in text.split_inclusive('\n') {
        fenced ^= line.trim_start().starts_with("```");
        let mut rest = line;
        while let Some((before, after)) = (!fenced).then(|| rest.split_once("](")).flatten() {
            let end = after.find([')', ' ']).unwrap_or(after.len());
            let (link, next) = after.split_at(end);
            out.push_str(before);
            out.push_str("](");
            out.push_str(&target(page, link, find)?);
            rest = next;
        }
        out.push_str(rest);
    }
    Ok(out)
}

fn target(page: &str, link: &str, find: &mut dyn FnMut(&str) -> Result<Target>) -> Result<String> {
    if link.contains("://") || link.starts_with('#') {
        return Ok(link.to_owned());
    }
    let (path, anchor) =
        link.split_once('#').map_or((link, String::new()), |(path, anchor)| (path, format!("#{anchor}")));
    let full = resolve(page, path);
    Ok(match find(&full)? {
        Target::Page => {
            let name = path
                .strip_suffix("README.md")
                .map_or_else(|| path.to_owned(), |folder| format!("{folder}index.md"));
            name + &anchor
        }
        // A folder with a page of its own.
        Target::Folder
            if find(&format!("{full}/README.md")).is_ok_and(|target| matches!(target, Target::Page)) =>
        {
            format!("{}/index.md{anchor}", path.trim_end_matches('/'))
        }
        Target::Image => path.to_owned(),
        Target::File => format!("{REPOSITORY}/blob/main/{full}{anchor}"),
        Target::Folder => format!("{REPOSITORY}/tree/main/{full}{anchor}"),
    })
}

/// Fails if a link of the built site leads to a page or an anchor that does not exist.
pub(super) fn check_site(site: &Path) -> Result<()> {
    let mut pages = BTreeMap::new();
    collect(site, &mut pages)?;
    let mut broken = Vec::new();
    for (page, text) in &pages {
        // What mdBook adds: all pages in one, and the frame of the table of contents.
        if page.ends_with("print.html") || page.ends_with("toc.html") || page.ends_with("404.html") {
            continue;
        }
        let links: BTreeSet<&str> = values(text, "href").filter(|link| !link.contains(':')).collect();
        for link in links {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let name = page.strip_prefix(site).unwrap_or(page).to_string_lossy().into_owned();
            let file = if path.is_empty() { page.clone() } else { site.join(resolve(&name, path)) };
            let exists = match pages.get(&file) {
                Some(text) => anchor.is_empty() || values(text, "id").any(|id| id == anchor),
                None => file.is_file(),
            };
            if !exists {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("links of the site that lead nowhere:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// The values of an attribute in HTML.
fn values<'a>(html: &'a str, attribute: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!(" {attribute}=\"");
    html.match_indices(&begin)
        .map(|(at, found)| at + found.len())
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|at| html[at..].split('"').next())
}

fn collect(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.context("cannot read an entry of the site")?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            pages.insert(path, text);
        }
    }
    Ok(())
}
