//! The files of the repository, without git: an archive of the sources has no repository, and a bare machine no git.

use anyhow::{Context, Result};
use walkdir::WalkDir;

/// Folders that `.gitignore` names, and git's own.
const IGNORED: [&str; 4] = [".git", ".tools", "node_modules", "target"];

/// The paths of all files below the root of the workspace, with `/`, in order.
pub(crate) fn files() -> Result<Vec<String>> {
    let root = crate::root();
    let all = WalkDir::new(&root).sort_by_file_name().into_iter();
    let kept = all
        .filter_entry(|entry| entry.depth() == 0 || !IGNORED.iter().any(|name| entry.file_name() == *name));
    let mut names = Vec::new();
    for entry in kept {
        let entry = entry.context("cannot read the folders of the workspace")?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(&root).context("a path below the root")?;
            names.push(path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?.to_owned());
        }
    }
    Ok(names)
}
