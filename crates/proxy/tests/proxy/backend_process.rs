//! A backend that is frozen, killed and started again under load: each request has one outcome, that of its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tempfile::TempDir;
use testkit::{Port, Process, Signal, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

const VARIABLE: &str = "TXNSCOPE_PROXY_BACKEND";

/// The process of the backend: this test program, with this test alone.
#[tokio::test]
#[ignore = "it is the backend of the other test, and never ends"]
async fn serves_until_it_is_killed() {
    let address = std::env::var(VARIABLE).expect("the other test starts it");
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(echo(stream));
    }
}

/// Answers each request by its `Content-Length`, with its body.
async fn echo(mut stream: TcpStream) {
    loop {
        let head = read_head(&mut stream).await;
        let Some(length) = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next())
        else {
            return;
        };
        let mut body = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
    }
}

async fn backend_on(port: &Port, folder: &TempDir) -> Process {
    let arguments = ["--exact", "backend_process::serves_until_it_is_killed", "--ignored"].map(str::to_owned);
    let program = std::env::current_exe().unwrap();
    let address = port.address();
    let spawned = Process::spawn_with(&program, &arguments, folder.path().join("log"), |command| {
        command.env(VARIABLE, &address);
    });
    let mut process = spawned.await.unwrap();
    let connects = async || Ok(TcpStream::connect(&address).await.map(drop)?);
    process.answers(port.number(), connects).await.unwrap();
    process
}

/// What callers have got.
#[derive(Debug, Default)]
struct Got {
    ok: AtomicU32,
    /// 502, 504, answers that broke off, and 408: the proxy's time limit is short, and a busy machine keeps a client waiting.
    failed: AtomicU32,
    stop: AtomicBool,
}

/// Sends requests, each on a connection of its own, and never leaves before the end of an answer.
async fn call(address: SocketAddr, seed: u64, got: Arc<Got>) {
    let mut random = StdRng::seed_from_u64(seed);
    while !got.stop.load(Ordering::Relaxed) {
        let mut body = vec![0; random.random_range(1..150_000)];
        random.fill_bytes(&mut body);
        let head = format!(
            "POST /pay/{seed} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        // The proxy answers without reading the rest if the backend is gone.
        let (_, _) = tokio::join!(writing.write_all(&body), reading.read_to_end(&mut answer));
        if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&body) {
            got.ok.fetch_add(1, Ordering::Relaxed);
        } else {
            let is_failure = [&b"HTTP/1.1 502 "[..], b"HTTP/1.1 504 ", b"HTTP/1.1 408 ", b"HTTP/1.1 200 "];
            let known = answer.is_empty() || is_failure.iter().any(|start| answer.starts_with(start));
            assert!(known, "{}", answer[..answer.len().min(200)].escape_ascii());
            got.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn more(counter: &AtomicU32, what: &str) {
    let before = counter.load(Ordering::Relaxed);
    let grown = wait::until(what, async || {
        let count = counter.load(Ordering::Relaxed);
        anyhow::ensure!(count >= before + 30, "{count}, after {before}");
        Ok(())
    });
    grown.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_counted_once_while_the_backend_is_frozen_and_killed() {
    let (port, folder) = (Port::reserve().unwrap(), TempDir::new().unwrap());
    let mut backend = backend_on(&port, &folder).await;
    // As long as a busy machine may need for a request.
    let limit = Duration::from_secs(scaled(1, 5));
    let running = start_with(port.address().parse().unwrap(), |config| {
        config.upstream_settings.timeout = limit;
        config.upstream_settings.read_timeout = limit;
        config.upstream_settings.connect_timeout = limit;
    });
    let got = Arc::new(Got::default());
    let mut callers = tokio::task::JoinSet::new();
    for seed in 0..scaled(20, 100) {
        callers.spawn(call(running.address, seed, Arc::clone(&got)));
    }
    for _ in 0..scaled(1, 20) {
        more(&got.ok, "requests to succeed").await;
        backend.signal(Signal::STOP).unwrap();
        more(&got.failed, "requests to a frozen backend to fail").await;
        backend.signal(Signal::CONT).unwrap();
        more(&got.ok, "requests to succeed after the freeze").await;
        backend.kill().await.unwrap();
        more(&got.failed, "requests to a killed backend to fail").await;
        backend = backend_on(&port, &folder).await;
    }
    more(&got.ok, "requests to succeed after the start").await;
    got.stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let [succeeded, rejected, failed, cancelled, _] = running.outcomes(PAY).await;
    let (ok, not) = (got.ok.load(Ordering::Relaxed), got.failed.load(Ordering::Relaxed));
    assert_eq!((succeeded, rejected + failed), (f64::from(ok), f64::from(not)), "{got:?}");
    assert_eq!(cancelled, 0.0, "no caller leaves");
    for reason in ["upstream_timeout", "upstream_unreachable"] {
        assert!(running.failures(PAY, "failed", reason) > 0.0, "{reason}");
    }
}
