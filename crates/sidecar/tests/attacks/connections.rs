//! Idle connections, and slow readers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txnscope_sidecar::Sidecar;

use super::{config, config_with, raise_file_limit, scrape, user};
use crate::common::authority::Authority;

async fn scrapes_go_through_beside(idle: usize) {
    raise_file_limit();
    let sidecar = Sidecar::start(config()).await.unwrap();
    let mut open = Vec::new();
    for number in 0..idle {
        let mut stream = TcpStream::connect(sidecar.local_addr()).await.unwrap();
        // Some send nothing, some send a partial request, some have completed a request.
        let head =
            ["", "GET / HTTP/1.1\r\n", "GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n"][number % 3];
        let _ = stream.write_all(head.as_bytes()).await;
        open.push(stream);
        if number % 100 == 0 {
            scrape(&sidecar, "/metrics", "").await.unwrap();
        }
    }
    for number in 0..4 {
        let scraped = scrape(&sidecar, "/metrics", "").await;
        assert!(scraped.is_ok(), "scrape {number} beside {idle}: {scraped:?}");
    }
    drop(open);
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapes_succeed_beside_700_idle_connections() {
    scrapes_go_through_beside(700).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapes_succeed_beside_2000_idle_connections() {
    scrapes_go_through_beside(2000).await;
}

/// A connection ends with the policy under which it was accepted: it has no client certificate of the new
/// authority.
#[tokio::test(flavor = "multi_thread")]
async fn connection_ends_after_tls_change() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(3000).write(folder.path());
    let sidecar = Sidecar::start(config_with(folder.path(), "{}")).await.unwrap();
    let mut plain = TcpStream::connect(sidecar.local_addr()).await.unwrap();
    let mut answer = [0; 4096];
    let request = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    assert!(plain.read(&mut answer).await.unwrap() > 0 && answer.starts_with(b"HTTP/1.1 200"));
    let mut silent = TcpStream::connect(sidecar.local_addr()).await.unwrap();

    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
    std::fs::write(folder.path().join("web.yml"), tls).unwrap();
    sidecar.reload().await.unwrap();
    for stream in [&mut plain, &mut silent] {
        let _ = stream.write_all(request).await;
        let mut rest = Vec::new();
        let read =
            tokio::time::timeout(wait::LIMIT, stream.read_to_end(&mut rest)).await.expect("it stays open");
        assert!(rest.is_empty(), "{read:?}: {}", String::from_utf8_lossy(&rest));
    }
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_waiting_for_a_hash_does_not_block_shutdown() {
    let folder = TempDir::new().unwrap();
    let sidecar =
        Sidecar::start(config_with(folder.path(), &user("prometheus", "hunter2", 12))).await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..50 {
        let mut stream = TcpStream::connect(sidecar.local_addr()).await.unwrap();
        let who = STANDARD.encode(format!("prometheus:{number}"));
        let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {who}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    // Within the shutdown timeout of 5 s, after which remaining tasks are dropped.
    sidecar.shutdown().await;
    for mut stream in waiting {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 503")
        );
    }
}
