//! UndoSelector modules of the CLI may use which.

use std::path::{Path, PathBuf};

/// The modules that commands share. They must not use a command.
const SHARED: [&str; 5] = ["args", "client", "config", "output", "runtime"];

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The commands that a file names by `crate::commands::…`, also in a list in braces. An import of the whole module, or of
/// the root of the crate, counts as `*`.
fn named_commands(text: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (_, rest) in text.match_indices("crate::").map(|(at, prefix)| (at, &text[at + prefix.len()..])) {
        let Some(rest) = rest.strip_prefix("commands") else {
            if rest.starts_with('{') || rest.starts_with('*') {
                found.push("*".to_owned());
            }
            continue;
        };
        match rest.strip_prefix("::") {
            Some(list) if list.starts_with('{') => {
                let list = list.trim_start_matches('{').split('}').next().unwrap_or_default();
                found.extend(list.split(',').map(|item| name(item.trim())).filter(|name| !name.is_empty()));
            }
            Some(path) if !name(path).is_empty() => found.push(name(path)),
            Some(_) | None => found.push("*".to_owned()),
        }
    }
    found
}

#[test]
fn commands_are_independent_and_shared_modules_use_no_command() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut commands = 0;
    for entry in std::fs::read_dir(source.join("commands")).unwrap() {
        let path = entry.unwrap().path();
        let command = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let files = if path.is_dir() { source_files(&path) } else { vec![path] };
        if command == "mod" {
            continue;
        }
        commands += 1;
        for file in files {
            for named in named_commands(&std::fs::read_to_string(&file).unwrap()) {
                assert_eq!(
                    named,
                    command,
                    "{} of the command {command} uses another command",
                    file.display()
                );
            }
        }
    }
    assert_eq!(commands, 13, "the commands are read from src/commands");
    for module in SHARED {
        for file in source_files(&source.join(module)) {
            let named = named_commands(&std::fs::read_to_string(&file).unwrap());
            assert!(named.is_empty(), "{} uses commands: {named:?}", file.display());
        }
    }
}

#[test]
fn named_commands_are_found_in_all_forms() {
    for (text, expected) in [
        ("use crate::commands::verify::args;", &["verify"][..]),
        ("use crate::commands::{audit, repair};", &["audit", "repair"]),
        ("use crate::commands;", &["*"]),
        ("use crate::{commands, args};", &["*"]),
        ("use crate::args::duration::duration;", &[]),
        ("let reply = crate::commands::drill::run();", &["drill"]),
    ] {
        assert_eq!(named_commands(text), expected, "{text}");
    }
}
