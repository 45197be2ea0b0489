//! Attacks, each bounded and on loopback, by clients of the web side and by malicious members.
//!
//! Attacks on the process `txnscope serve` are in the suite of the same name in `crates/cli`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth_modules;
mod browsers;
#[path = "../sidecar/common/mod.rs"]
mod common;
mod connections;
#[path = "../sidecar/watched/fakes.rs"]
#[allow(dead_code, reason = "not every suite uses all of it")]
mod fakes;
mod files;
mod guesses;
mod members;
mod probes;

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use txnscope_sidecar::{Config, Sidecar};

/// A port without a listener.
const NOWHERE: &str = "mongodb://127.0.0.1:1/";

/// Prometheus's default scrape timeout.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

fn config() -> Config {
    let mut config = Config::new(NOWHERE);
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config
}

/// With a web configuration file.
fn config_with(folder: &Path, web: &str) -> Config {
    std::fs::write(folder.join("web.yml"), web).unwrap();
    let mut config = config();
    config.web_config_file = Some(folder.join("web.yml"));
    config
}

fn user(name: &str, password: &str, cost: u32) -> String {
    format!("basic_auth_users:\n  {name}: {}\n", bcrypt::hash(password, cost).unwrap())
}

/// Raises the limit on open files: each connection takes two of them here.
fn raise_file_limit() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
}

/// Sends one request on a new connection, with these header lines, and returns the whole response.
async fn ask(sidecar: &Sidecar, request: &str, lines: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(sidecar.local_addr()).await?;
    let head = format!("{request} HTTP/1.1\r\nconnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A scrape as Prometheus makes it: a response in time, or the reason why there is none.
async fn scrape(sidecar: &Sidecar, path: &str, lines: &str) -> Result<String, String> {
    let request = format!("GET {path}");
    let lines = format!("host: localhost\r\n{lines}");
    match timeout(SCRAPE_TIMEOUT, ask(sidecar, &request, &lines)).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => Ok(answer),
        Ok(Ok(answer)) => Err(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer within the time of a scrape".to_owned()),
    }
}
