//! `txnscope` as a process, and a real Prometheus.

pub(crate) mod prometheus;

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{Process, Scrape, wait};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_txnscope");

/// Runs the program to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[]).await
}

pub(crate) async fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(arguments).env_remove("MONGODB_URI").stdin(Stdio::null()).kill_on_drop(true);
    command.envs(environment.iter().copied());
    // A race under contention takes long on a busy machine.
    tokio::time::timeout(3 * wait::LIMIT, command.output()).await.expect("the program does not end").unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that the program refused its arguments with this message, and printed no password.
#[track_caller]
pub(crate) fn assert_misuse(output: &Output, arguments: &[&str], expected: &str) {
    let output_text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output_text}");
    assert!(output_text.contains(expected), "{arguments:?}: {output_text}");
    assert!(
        !output_text.contains("hunter2") && !output_text.contains("panicked"),
        "{arguments:?}: {output_text}"
    );
}

/// The standard output followed by the standard error.
pub(crate) fn stdout_and_stderr(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// A running sidecar.
pub(crate) struct Serving {
    pub(crate) process: Process,
    pub(crate) address: String,
    _folder: TempDir,
}

impl Serving {
    pub(crate) async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let fixed =
            ["serve", "--web.listen-address=127.0.0.1:0", "--poll.interval=200ms", "--log.level=trace"];
        let arguments: Vec<_> =
            fixed.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let log = folder.path().join("log");
        let process = Process::spawn_with(Path::new(PROGRAM), &arguments, log, |command| {
            command.env_remove("MONGODB_URI").envs(environment.iter().copied());
        });
        let mut process = process.await.unwrap();
        let address = wait::until("the address in the log", async || {
            if let Err(ended) = process.check() {
                return Ok(Err(ended));
            }
            Ok(Ok(address(&process.log()).context(process.log())?))
        });
        let address = address.await.unwrap().unwrap();
        Self { process, address, _folder: folder }
    }

    /// The first piece of the events that the live page reads.
    pub(crate) async fn first_event(&self) -> Result<String> {
        let mut events = reqwest::get(format!("http://{}/live/events", self.address)).await?;
        let first = events.chunk().await?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&first).into_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    /// The command line in the process list, which all users can read.
    pub(crate) fn command_line(&self) -> String {
        let shown = std::fs::read(format!("/proc/{}/cmdline", self.process.pid())).unwrap();
        assert!(!shown.is_empty());
        String::from_utf8_lossy(&shown).into_owned()
    }

    pub(crate) async fn up(&self) -> Result<()> {
        wait::until("the member up", async || {
            let page = self.get("/metrics").await?;
            let up = Scrape::parse(&page)?.value("mongodb_up", &[]);
            ensure!(up == Some(1.0), "mongodb_up is {up:?}");
            Ok(())
        })
        .await
    }
}

/// The address in the log entry `listening`, in either format.
fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("listening"))?;
    let (_, rest) = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))?;
    Some(rest.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect())
}
