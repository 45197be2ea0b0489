//! Password guessing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use testkit::{Scrape, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use txnscope_sidecar::Sidecar;

use super::{SCRAPE_TIMEOUT, ask, config_with, raise_file_limit, scrape, user};

fn basic(who: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(who))
}

/// The connection behavior of guessing clients.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// On one kept connection.
    Patient,
    /// On a new connection for each guess.
    NewConnections,
    /// With the timeout of a scrape for each guess.
    Hasty,
}

/// Guesses passwords of an existing user forever, each guess another one.
async fn guess(address: std::net::SocketAddr, number: usize, manner: Manner, sent: Arc<AtomicUsize>) {
    for round in 0.. {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        for again in 0.. {
            let who = basic(&format!("prometheus:{number}-{round}-{again}"));
            let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{who}\r\n");
            let mut answer = [0; 4096];
            let asked = async {
                stream.write_all(head.as_bytes()).await?;
                sent.fetch_add(usize::from(round + again == 0), Ordering::Relaxed);
                stream.read(&mut answer).await
            };
            let patience = if matches!(manner, Manner::Hasty) { SCRAPE_TIMEOUT } else { Duration::MAX };
            let Ok(Ok(1..)) = timeout(patience, asked).await else { break };
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "a guess is right");
            if matches!(manner, Manner::NewConnections) {
                break;
            }
        }
    }
}

/// One test at a time: a crowd takes the whole machine.
static CROWD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A sidecar with 400 guessing clients: each has sent its first guess, and no user was admitted yet.
async fn crowded(manner: Manner) -> (Sidecar, JoinSet<()>, TempDir) {
    raise_file_limit();
    let folder = TempDir::new().unwrap();
    let sidecar =
        Sidecar::start(config_with(folder.path(), &user("prometheus", "hunter2", 10))).await.unwrap();
    let (mut guessing, sent) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for number in 0..400 {
        guessing.spawn(guess(sidecar.local_addr(), number, manner, Arc::clone(&sent)));
    }
    wait::until("a guess of each", async || {
        let sent = sent.load(Ordering::Relaxed);
        ensure!(sent == 400, "{sent}");
        Ok(())
    })
    .await
    .unwrap();
    (sidecar, guessing, folder)
}

/// From the same address as the guessing clients, with the same user name: only the scrape timeout distinguishes
/// Prometheus.
async fn gets_in_beside_400(manner: Manner) {
    let _alone = CROWD.lock().await;
    let (sidecar, mut guessing, _folder) = crowded(manner).await;
    for number in 0..5 {
        // With the header that Prometheus sends. Without, the request is like the other retries.
        let lines = format!("{}x-prometheus-scrape-timeout-seconds: 10\r\n", basic("prometheus:hunter2"));
        let scraped = scrape(&sidecar, "/metrics", &lines).await;
        assert!(scraped.is_ok(), "{manner:?}: scrape {number}: {scraped:?}");
    }
    guessing.shutdown().await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_admitted_beside_400_guessers_on_kept_connections() {
    gets_in_beside_400(Manner::Patient).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_admitted_beside_400_guessers_on_new_connections() {
    gets_in_beside_400(Manner::NewConnections).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_admitted_beside_400_guessers_with_scrape_timeouts() {
    gets_in_beside_400(Manner::Hasty).await;
}

/// Loopback has many addresses: Prometheus has another than the guessing clients.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_admitted_from_another_address_than_guessers() {
    let _alone = CROWD.lock().await;
    let (sidecar, mut guessing, _folder) = crowded(Manner::NewConnections).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stream = socket.connect(sidecar.local_addr()).await.unwrap();
    let who = basic("prometheus:hunter2");
    let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{who}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SCRAPE_TIMEOUT, stream.read_to_string(&mut answer)).await.expect("no answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    guessing.shutdown().await;
    sidecar.shutdown().await;
}

/// Clients that disconnect before their hash is computed, again and again: nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_user_stays_admitted_under_load_and_after_reload() {
    let folder = TempDir::new().unwrap();
    let sidecar =
        Sidecar::start(config_with(folder.path(), &user("prometheus", "hunter2", 10))).await.unwrap();
    let who = basic("prometheus:hunter2");
    scrape(&sidecar, "/metrics", &who).await.unwrap();
    for number in 0..127 {
        let mut stream = TcpStream::connect(sidecar.local_addr()).await.unwrap();
        let wrong = basic(&format!("prometheus:{number}"));
        let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{wrong}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        drop(stream);
        if number % 20 == 0 {
            sidecar.reload().await.unwrap();
        }
        scrape(&sidecar, "/metrics", &who).await.unwrap();
    }
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_counted() {
    let folder = TempDir::new().unwrap();
    let sidecar =
        Sidecar::start(config_with(folder.path(), &user("prometheus", "hunter2", 4))).await.unwrap();
    for wrong in ["prometheus:wrong", "unknown:hunter2", "prometheus:"] {
        let answer = ask(&sidecar, "GET /", &format!("host: localhost\r\n{}", basic(wrong))).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let malformed = ask(&sidecar, "GET /", "host: localhost\r\nauthorization: Bearer x\r\n").await.unwrap();
    assert!(malformed.starts_with("HTTP/1.1 401"), "{malformed}");
    let none = ask(&sidecar, "GET /", "host: localhost\r\n").await.unwrap();
    assert!(none.starts_with("HTTP/1.1 401"), "a browser asks so before it asks its user: {none}");
    let answer = scrape(&sidecar, "/metrics", &basic("prometheus:hunter2")).await.unwrap();
    let page = Scrape::parse(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let failed = |result| page.value("txnscope_failed_logins_total", &[("result", result)]);
    assert_eq!((failed("refused"), failed("turned_away")), (Some(4.0), Some(0.0)));
    sidecar.shutdown().await;
}
