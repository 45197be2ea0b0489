//! Attacks on `txnscope serve` as a process: their cost, their log entries, and shutdown.
//!
//! Attacks on the web server alone are tested in `crates/sidecar`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use testkit::{Scrape, Signal, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Serving, run_with, stderr};

const NOWHERE: &str = "--mongodb.uri=mongodb://127.0.0.1:1/";

fn users() -> String {
    users_at(10)
}

fn users_at(cost: u32) -> String {
    format!("basic_auth_users:\n  prometheus: {}\n", bcrypt::hash("hunter2", cost).unwrap())
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

async fn ask(address: &str, request: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Certificate and key of a client.
fn client_certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

fn basic(who: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(who))
}

fn threads(serving: &Serving) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    line.trim().parse().unwrap()
}

/// The CPU time of the process in clock ticks.
fn ticks(serving: &Serving) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", serving.process.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Clients that send a wrong password and disconnect must not keep the CPU busy with their hashes.
#[tokio::test(flavor = "multi_thread")]
async fn password_hashing_stops_after_disconnect() {
    let folder = TempDir::new().unwrap();
    let web = format!("--web.config.file={}", write(folder.path(), "web.yml", &users()));
    let serving = Serving::start(&[NOWHERE, &web], &[]).await;
    let alone = threads(&serving);
    // The CPU time of five hashes.
    let before = ticks(&serving);
    for number in 0..5 {
        let answer = ask(&serving.address, "GET /", &basic(&format!("prometheus:one{number}"))).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let of_five = ticks(&serving) - before;
    let mut most = 0;
    for number in 0..127 {
        let mut stream = TcpStream::connect(&serving.address).await.unwrap();
        let head =
            format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", basic(&format!("prometheus:{number}")));
        stream.write_all(head.as_bytes()).await.unwrap();
        most = most.max(threads(&serving));
        drop(stream);
    }
    let left = ticks(&serving);
    assert!(most <= alone + 4, "{most} threads, {alone} without requests");
    // The process becomes idle: three measurements in a row.
    let mut idle = 0;
    wait::until("idleness", async || {
        let before = ticks(&serving);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        idle = if ticks(&serving) == before { idle + 1 } else { 0 };
        ensure!(idle >= 3, "it is busy");
        Ok(())
    })
    .await
    .unwrap();
    let after = ticks(&serving) - left;
    // The hash in progress is finished, and the other 126 are not started.
    assert!(after <= of_five.max(20), "{after} ticks for disconnected clients; five hashes took {of_five}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_are_logged_without_name_and_password() {
    let folder = TempDir::new().unwrap();
    let web = format!("--web.config.file={}", write(folder.path(), "web.yml", &users_at(4)));
    let serving = Serving::start(&[NOWHERE, &web], &[]).await;
    let started = tokio::time::Instant::now();
    for number in 0..10 {
        ask(&serving.address, "GET /", &basic(&format!("canaryname{number}:canarypassword{number}"))).await;
    }
    let log = serving.process.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("a login is refused")).collect();
    // At most one in 10 s, even on a slow machine.
    let most = 1 + started.elapsed().as_secs() / 10;
    assert!(!lines.is_empty() && lines.len() as u64 <= most, "at most {most}: {lines:?}");
    assert!(lines[0].contains("127.0.0.1"), "{}", lines[0]);
    assert!(!log.contains("canary"), "{log}");
    let answer = ask(&serving.address, "GET /metrics", &basic("prometheus:hunter2")).await;
    let page = Scrape::parse(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(page.value("txnscope_failed_logins_total", &[("result", "refused")]), Some(10.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_without_changes_are_not_logged() {
    let folder = TempDir::new().unwrap();
    let file = write(folder.path(), "txnscope.toml", "mongodb.uri = [\"mongodb://127.0.0.1:1/\"]\n");
    let serving = Serving::start(&[&format!("--config.file={file}")], &[]).await;
    let logged = |what: &str| serving.process.log().lines().filter(|line| line.contains(what)).count();
    let reload = async || {
        // Reloads are rate limited.
        wait::until("a reload", async || {
            let answer = ask(&serving.address, "POST /-/reload", "").await;
            ensure!(!answer.starts_with("HTTP/1.1 429"), "{answer}");
            Ok(answer)
        })
        .await
        .unwrap()
    };
    for _ in 0..3 {
        assert!(reload().await.starts_with("HTTP/1.1 200"));
    }
    for _ in 0..200 {
        ask(&serving.address, "POST /-/reload", "").await;
    }
    assert_eq!(logged("read again"), 0, "nothing has changed");
    write(folder.path(), "txnscope.toml", "[wep]\n");
    for _ in 0..3 {
        assert!(reload().await.starts_with("HTTP/1.1 500"));
    }
    assert_eq!(logged("unknown key"), 1, "the same error is logged once");
    write(folder.path(), "txnscope.toml", "mongodb.uri = [\"mongodb://127.0.0.1:2/\"]\n");
    for _ in 0..2 {
        assert!(reload().await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(logged("read again"), 1);
    // A reload by signal is always logged.
    serving.process.signal(Signal::HUP).unwrap();
    wait::until("a line for the signal", async || {
        ensure!(logged("read again") == 2, "{}", logged("read again"));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn named_pipe_as_configuration_is_rejected_and_shutdown_works() {
    let folder = TempDir::new().unwrap();
    let file = write(folder.path(), "txnscope.toml", "mongodb.uri = [\"mongodb://127.0.0.1:1/\"]\n");
    let mut serving = Serving::start(&[&format!("--config.file={file}")], &[]).await;
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    serving.process.signal(Signal::HUP).unwrap();
    wait::until("the refusal", async || {
        ensure!(serving.process.log().contains("no regular file"), "not yet");
        Ok(())
    })
    .await
    .unwrap();
    serving.process.signal(Signal::TERM).unwrap();
    assert_eq!(serving.process.wait().await.unwrap().code(), Some(0), "{}", serving.process.log());
    for flag in [
        "--config.file",
        "--web.config.file",
        "--mongodb.password-file",
        "--checks.file",
        "--mongodb.uri-file",
    ] {
        for (name, expected) in [(file.as_str(), "no regular file"), ("/dev/zero", "no regular file")] {
            let given = format!("{flag}={name}");
            let mut arguments = vec!["serve", "--check-config", given.as_str(), "--mongodb.username=a"];
            if flag != "--mongodb.uri-file" {
                arguments.push(NOWHERE);
            }
            if flag != "--mongodb.password-file" {
                arguments.retain(|argument| !argument.contains("username"));
            }
            let output = crate::common::run(&arguments).await;
            assert_eq!(output.status.code(), Some(2), "{given}: {}", stderr(&output));
            assert!(stderr(&output).contains(expected), "{given}: {}", stderr(&output));
        }
    }
}

#[tokio::test]
async fn world_readable_secret_file_causes_a_warning() {
    let folder = TempDir::new().unwrap();
    let password = write(folder.path(), "password", "hunter2");
    let config = "[auth_modules.m]\nusername = \"a\"\npassword = \"hunter2\"\n";
    let config = write(folder.path(), "txnscope.toml", config);
    let web = write(folder.path(), "web.yml", &users());
    let files = [&password, &config, &web];
    let flags = [
        format!("--mongodb.password-file={password}"),
        format!("--config.file={config}"),
        format!("--web.config.file={web}"),
    ];
    let mut arguments = vec!["serve", "--check-config", NOWHERE, "--mongodb.username=a"];
    arguments.extend(flags.iter().map(String::as_str));
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        for file in files {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = run_with(&arguments, &[]).await;
        assert!(output.status.success(), "{}", stderr(&output));
        for file in files {
            let lines = stderr(&output).lines().filter(|line| line.contains(file.as_str())).count();
            assert_eq!(lines, usize::from(warned), "{file} {mode:o}: {}", stderr(&output));
        }
        assert!(!stderr(&output).contains("hunter2"));
    }
    // The same holds for the key file of a URI. Its path is a value of the URI, which is not repeated.
    let key = write(folder.path(), "client.pem", &client_certificate());
    let uri = format!("--mongodb.uri=mongodb://127.0.0.1:1/?tls=true&tlsCertificateKeyFile={key}");
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = run_with(&["serve", "--check-config", &uri], &[]).await;
        assert!(output.status.success(), "{}", stderr(&output));
        let is_warned = stderr(&output).contains("may read the file of tlsCertificateKeyFile");
        assert!(
            is_warned == warned && !stderr(&output).contains("client.pem"),
            "{mode:o}: {}",
            stderr(&output)
        );
    }
    // Other commands print the warning, since they have no log.
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["preflight", NOWHERE, "--mongodb.username=a", &flags[0]];
    let output = run_with(&arguments, &[]).await;
    assert!(stderr(&output).contains("every user of this machine may read"), "{}", stderr(&output));
}
