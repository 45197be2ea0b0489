//! Completions and man pages, which are generated from the definition of the command line.

use std::collections::BTreeSet;

use tempfile::TempDir;

use crate::common::{run, run_with, stderr};

/// The long flags of a help text, by the indentation of their lines.
fn flags(help: &str) -> BTreeSet<String> {
    let flags =
        help.lines().filter_map(|line| line.strip_prefix("      ")).filter(|line| line.starts_with("--"));
    flags.map(|line| line.split([' ', '[', '=']).next().unwrap().to_owned()).collect()
}

async fn help(command: &[&str]) -> String {
    String::from_utf8(run(&[command, &["--help"]].concat()).await.stdout).unwrap()
}

const COMMANDS: [&[&str]; 6] =
    [&["serve"], &["proxy"], &["preflight"], &["repair"], &["drill", "race"], &["drill", "load"]];

#[tokio::test]
async fn completions_have_every_flag() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        // The value of a variable would end up in a file that others read.
        let secret = [("TXNSCOPE_MONGODB_USERNAME", "hunter2")];
        let output = run_with(&["completions", shell], &secret).await;
        assert!(output.status.success(), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(!script.contains("hunter2"));
        for command in COMMANDS {
            for flag in flags(&help(command).await) {
                let name = if shell == "fish" { format!("-l {}", &flag[2..]) } else { flag };
                assert!(script.contains(&name), "{shell}: {command:?} {name}");
            }
        }
    }
    let output = run(&["completions", "tcsh"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("[possible values: bash"), "{}", stderr(&output));
}

#[tokio::test]
async fn man_pages_have_every_flag() {
    let folder = TempDir::new().unwrap();
    let pages = folder.path().join("man/man1");
    let output_dir = format!("--output-dir={}", pages.display());
    let output = run_with(&["man", &output_dir], &[("TXNSCOPE_MONGODB_USERNAME", "hunter2")]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    for command in COMMANDS {
        let page = pages.join(format!("txnscope-{}.1", command.join("-")));
        let page = std::fs::read_to_string(page).unwrap();
        assert!(!page.contains("hunter2"));
        let flags = flags(&help(command).await);
        assert!(flags.len() > 5, "{flags:?}");
        for flag in flags {
            assert!(page.contains(&flag.replace('-', "\\-")), "{command:?} {flag}");
        }
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    let output = run(&["man", &format!("--output-dir={}/file", folder.path().display())]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--output-dir: the folder cannot be created"), "{}", stderr(&output));
}
