//! `txnscope serve` as a process: what it says, how it ends, and what it keeps to itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{Process, ReplicaSet, ReplicaSetOptions, Scrape, Signal, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_txnscope");

/// Runs it to its end.
async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(arguments).env_remove("MONGODB_URI").kill_on_drop(true);
    tokio::time::timeout(wait::LIMIT, command.output()).await.expect("it does not end").unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A sidecar that serves.
struct Serving {
    process: Process,
    address: String,
    _folder: TempDir,
}

impl Serving {
    async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
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

    async fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    async fn up(&self) -> Result<()> {
        wait::until("the member up", async || {
            let page = self.get("/metrics").await?;
            let up = Scrape::parse(&page)?.value("mongodb_up", &[]);
            ensure!(up == Some(1.0), "mongodb_up is {up:?}");
            Ok(())
        })
        .await
    }
}

/// From a line of either format that says `listening`.
fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("listening"))?;
    let (_, rest) = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))?;
    Some(rest.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect())
}

#[tokio::test]
async fn a_wrong_command_line_is_told_apart_and_no_password_with_it() {
    for (arguments, complaint) in [
        (&["serve"][..], "which deployment?"),
        (&["serve", "--mongodb.uri=mongodb://user:hunter2/@host/"], "percent-encoded"),
        (&["serve", "--mongodb.uri=mongodb://host:port/"], "port"),
        (&["serve", "--mongodb.uri=mongo://user:hunter2@host/"], "malformed"),
        (&["serve", "mongodb://user:hunter2@host/"], "unexpected argument"),
        (&["serve", "--mongodb.url=mongodb://user:hunter2@host/"], "--mongodb.uri"),
        (&["serve", "--mongodb.uri-file=/nowhere/uri"], "/nowhere/uri"),
        (&["serve", "--mongodb.uri=mongodb://host", "--mongodb.uri-file=/nowhere/uri"], "give one of them"),
        (&["serve", "--mongodb.uri=mongodb://host", "--poll.interval=5"], "such as in 5s"),
        (&["serve", "--mongodb.uri=mongodb://host", "--poll.interval=0s"], "out of bounds"),
        (&["serve", "--mongodb.uri=mongodb://host", "--web.telemetry-path=metrics"], "begin with /"),
        (&["serve", "--mongodb.uri=mongodb://host", "--web.listen-address=nowhere"], "listen-address"),
        (&["serve", "--mongodb.uri=mongodb://host/?tls=true&tlsCAFile=/nowhere/ca.pem"], "options"),
        (&["swerve"], "swerve"),
    ] {
        let output = run(arguments).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_failure_of_its_own() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("--web.listen-address={address}");
    let output = run(&["serve", "--mongodb.uri=mongodb://127.0.0.1:1/", &listen]).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn the_catalogue_is_printed() {
    let output = run(&["catalog"]).await;
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), txnscope_catalog::markdown());
    let names = String::from_utf8(run(&["catalog", "--format=names"]).await.stdout).unwrap();
    assert_eq!(names.lines().count(), txnscope_catalog::METRICS.len());
}

#[tokio::test]
async fn without_a_database_it_serves_and_a_signal_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut serving =
            Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/", "--log.format=json"], &[]).await;
        assert_eq!(serving.get("/-/healthy").await.unwrap(), "txnscope is healthy\n");
        wait::until("a member that is down", async || {
            let up = Scrape::parse(&serving.get("/metrics").await?)?.value("mongodb_up", &[]);
            ensure!(up == Some(0.0), "{up:?}");
            Ok(())
        })
        .await
        .unwrap();
        serving.get("/-/ready").await.unwrap();
        serving.process.signal(signal).unwrap();
        let status = serving.process.wait().await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", serving.process.log());
        assert!(serving.process.log().contains("stopped"), "{}", serving.process.log());
    }
}

/// Whichever way the URI comes, its password is in no log at any level and on no page.
#[tokio::test]
async fn the_password_stays_where_it_came_from() {
    const SECRET: &str = "the-password-of-root";
    let set: ReplicaSet = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let uri = set.uri();
    assert!(uri.contains(SECRET), "the set wants no password");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("uri");
    std::fs::write(&file, format!("{uri}\n")).unwrap();
    let by_flag = format!("--mongodb.uri={uri}");
    let by_file = format!("--mongodb.uri-file={}", file.display());
    let other = "mongodb://user:another-password@127.0.0.1:1/";
    for (arguments, environment, warned) in [
        (&[by_flag.as_str()][..], &[][..], true),
        (&[by_file.as_str()], &[], false),
        (&[], &[("MONGODB_URI", uri.as_str())], false),
        (&[by_file.as_str()], &[("MONGODB_URI", other)], false),
        (&[by_flag.as_str()], &[("MONGODB_URI", other)], true),
    ] {
        let mut serving = Serving::start(arguments, environment).await;
        serving.up().await.unwrap();
        let mut told = String::new();
        for path in ["/metrics", "/", "/-/ready"] {
            told += &serving.get(path).await.unwrap();
        }
        serving.process.signal(Signal::TERM).unwrap();
        assert!(serving.process.wait().await.unwrap().success());
        let log = serving.process.log();
        assert_eq!(log.contains("ps shows"), warned, "{log}");
        told += &log;
        assert!(!told.contains(SECRET) && !told.contains("another-password"), "{told}");
    }
}
