//! The shell blocks of the documentation: each is run here, or a comment in front of it says why not, as in
//! `<!-- not run: needs root -->`. Each command line of `txnscope` in them is one that the program accepts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testkit::wait;

use crate::common::{PROGRAM, run};
use crate::drill::environment::{Environment, TOKEN};

const NOT_RUN: &str = "<!-- not run: ";

/// Other names for shell blocks, which this test would not find.
const ALIASES: [&str; 4] = ["sh", "bash", "shell", "shell-session"];

/// The page whose race gives the other pages data to check.
const FIRST: &str = "docs/drill.md";

/// What stands for values of the reader, with what the arguments accept in their place.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("$(cat deployed-at)", "30m"),
    ("$DEPLOYED_AT", "30m"),
    ("--run=RUN", "--run=6b05e1adf89777660a0c94f2"),
    ("--undo=RECORD", "--undo=6b05e1adf89777660a0c94f3"),
    ("=SESSION:NUMBER", "=6e01e4f2-3c1f-4a6e-9d0b-0c8f5a1b2c3d:7"),
];

struct Block {
    /// `docs/top.md:6`.
    place: String,
    page: PathBuf,
    commands: Vec<String>,
    not_run: Option<String>,
}

/// All shell blocks of the documentation, those of [`FIRST`] first.
fn blocks() -> Vec<Block> {
    let root = testkit::workspace();
    let mut pages = Vec::new();
    super::documented_flags::pages(&root, &mut pages);
    pages.sort_by_key(|page| (!page.ends_with(FIRST), page.clone()));
    let mut found = Vec::new();
    for page in pages {
        let name = page.strip_prefix(&root).unwrap().display().to_string();
        parse(&name, &page, &std::fs::read_to_string(&page).unwrap(), &mut found);
    }
    found
}

fn parse(name: &str, page: &Path, text: &str, found: &mut Vec<Block>) {
    let mut fence: Option<String> = None;
    let (mut before, mut continued) = ("", false);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        match (&fence, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let place = format!("{name}:{}", number + 1);
                let language = language.split(',').next().unwrap();
                assert!(
                    !ALIASES.contains(&language),
                    "{place}: write ```console, with a prompt before each command"
                );
                fence = Some(language.to_owned());
                if language == "console" {
                    let reason = before.strip_prefix(NOT_RUN).and_then(|rest| rest.strip_suffix(" -->"));
                    let not_run = reason.map(str::to_owned);
                    found.push(Block { place, page: page.to_owned(), commands: Vec::new(), not_run });
                }
                continued = false;
            }
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) if language == "console" => {
                let commands = &mut found.last_mut().unwrap().commands;
                let prompt = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
                let part = if continued { Some(line) } else { prompt };
                if let Some(part) = part {
                    if continued {
                        commands.last_mut().unwrap().push_str(part.trim_end_matches('\\'));
                    } else {
                        commands.push(part.trim_end_matches('\\').to_owned());
                    }
                    continued = part.ends_with('\\');
                }
            }
            _ => {}
        }
        if !line.is_empty() {
            before = line;
        }
    }
}

/// The words of a command line, and where one command of it ends: at `|`, `&&`, `>` and comments.
fn words(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut word, mut quote) = (vec![Vec::new()], None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => commands.last_mut().unwrap().extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | '>' | ';') => {
                commands.last_mut().unwrap().extend(word.take());
                commands.push(Vec::new());
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is open: {line}");
    commands.last_mut().unwrap().extend(word.take());
    commands
}

/// The arguments of each call of `txnscope` in a command line.
fn calls(line: &str) -> Vec<Vec<String>> {
    let line = PLACEHOLDERS.iter().fold(line.to_owned(), |line, (name, value)| line.replace(name, value));
    let mut found = Vec::new();
    for command in words(&line) {
        let is_variable =
            |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.contains(['/', '-']));
        let rest: Vec<_> = command.iter().skip_while(is_variable).cloned().collect();
        if rest.first().is_some_and(|program| matches!(program.as_str(), "txnscope" | "./txnscope")) {
            found.push(rest[1..].to_vec());
        }
    }
    found
}

#[test]
fn every_shell_block_is_run_or_says_why_not() {
    let mut unclear = Vec::new();
    let blocks = blocks();
    assert!(blocks.len() > 100 && blocks.iter().filter(|block| block.not_run.is_none()).count() > 20);
    for Block { place, commands, not_run, .. } in blocks {
        let ours = |line: &String| {
            !calls(line).is_empty() || line.starts_with("export ") || line.starts_with("echo ")
        };
        match not_run {
            _ if commands.is_empty() => unclear.push(format!("{place}: no line has a prompt, `$ ` or `# `")),
            Some(reason) if reason.trim().len() < 8 => unclear.push(format!("{place}: the reason is empty")),
            None if !commands.iter().all(ours) => unclear.push(format!(
                "{place}: it runs other programs than txnscope: write {NOT_RUN}REASON --> in the line before it"
            )),
            Some(_) | None => {}
        }
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
}

/// `--help` at the end: the arguments before it are parsed, and nothing is run.
#[tokio::test]
async fn every_command_line_of_txnscope_in_the_documentation_is_accepted() {
    let mut refused = Vec::new();
    let mut count = 0;
    for Block { place, commands, .. } in blocks() {
        for call in commands.iter().flat_map(|line| calls(line)) {
            count += 1;
            let arguments: Vec<_> = call.iter().map(String::as_str).chain(["--help"]).collect();
            let output = run(&arguments).await;
            if !output.status.success() {
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                refused.push(format!("{place}: txnscope {}\n{complaint}", call.join(" ")));
            }
        }
    }
    assert!(count > 60, "{count}");
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[tokio::test]
async fn invalid_command_lines_are_found() {
    for line in [
        "txnscope top --onec",
        "x=1 txnscope drill load --url=http://a --rate=many",
        "cat a | txnscope audti",
    ] {
        let call = calls(line).remove(0);
        let arguments: Vec<_> = call.iter().map(String::as_str).chain(["--help"]).collect();
        assert!(!run(&arguments).await.status.success(), "{line}");
    }
}

/// The blocks run in the order of the pages, each page in a folder of its own, on one replica set with a ledger.
#[tokio::test]
async fn shell_blocks_run_on_a_real_replica_set() {
    let env = Environment::with(None, true).await;
    let folder = TempDir::new().unwrap();
    let (mut failed, mut ran) = (Vec::new(), BTreeSet::new());
    for block in blocks().into_iter().filter(|block| block.not_run.is_none()) {
        // Many runbooks begin with the same command.
        if !ran.insert(block.commands.clone()) {
            continue;
        }
        let here = folder.path().join(block.page.strip_prefix(testkit::workspace()).unwrap());
        if !here.exists() {
            prepare(&here, &env);
        }
        let script = block.commands.join("\n");
        // Addresses and files of the reader.
        let script = ["http://127.0.0.1:3000", "https://staging.example", "https://STAGING"]
            .iter()
            .fold(script, |script, address| script.replace(address, &env.url()))
            .replace("/etc/txnscope/", "")
            .replace("mongodb://127.0.0.1:27017/?replicaSet=rs0", &env.uri());
        let mut shell = tokio::process::Command::new("sh");
        let path =
            format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
        shell.args(["-e", "-c", &script]).current_dir(&here).env("PATH", path);
        shell.env("MONGODB_URI", env.uri()).env("TXNSCOPE_CHECKS_FILE", "checks.toml");
        shell.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(3 * wait::LIMIT, shell.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{} does not end", block.place)).unwrap();
        if !output.status.success() {
            let printed =
                [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            failed.push(format!("{}: {}\n{script}\n{}", block.place, output.status, printed.concat()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The files that the documentation names.
fn prepare(folder: &Path, env: &Environment) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let checks = std::fs::read_to_string(testkit::workspace().join("examples/ledger/checks.toml")).unwrap();
    write("checks.toml", &checks);
    write("token", TOKEN);
    write("URI", &env.uri());
    write("txnscope.toml", &format!("[mongodb]\nuri = [\"{}\"]\n", env.uri()));
}
