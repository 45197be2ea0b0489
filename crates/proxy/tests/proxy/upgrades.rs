//! WebSocket and its like: bytes both ways after 101.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

const UPGRADE: &str = "GET /pay/7 HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-key: x\r\n\r\n";

#[tokio::test]
async fn bytes_pass_both_ways_after_an_upgrade_which_has_succeeded() {
    let backend = raw_backend(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("connection: upgrade") && head.contains("upgrade: websocket"), "{head}");
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).await.unwrap_or(0) == 1 {
            stream.write_all(&[byte[0].to_ascii_uppercase()]).await.unwrap();
        }
    })
    .await;
    let running = start(backend);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
    assert_eq!(read_until(&mut stream, "hello").await, "hello");
    for _ in 0..3 {
        stream.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut stream, "PING").await, "PING");
    }
    assert_eq!((running.ended("GET /pay/{id}", "succeeded"), running.in_flight("GET /pay/{id}")), (1.0, 0.0));
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn an_upgrade_that_the_backend_refuses_is_an_answer_like_any_other() {
    let backend = fixed(400, "text/plain", "no sockets").await;
    let running = start(backend);
    assert!(running.raw(UPGRADE).await.ends_with("no sockets"));
    assert_eq!(running.ended("GET /pay/{id}", "rejected"), 1.0);
}

#[tokio::test]
async fn an_upgrade_to_http2_is_not_passed_on() {
    let backend = raw_backend(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(!head.contains("h2c") && !head.contains("upgrade") && !head.contains("http2"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let running = start(backend);
    let request = "GET / HTTP/1.1\r\nhost: shop\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n";
    assert!(running.raw(request).await.ends_with("ok"));
}

#[tokio::test]
async fn unrequested_protocol_switch_is_502() {
    let backend = raw_backend(|mut stream| async move {
        read_until(&mut stream, "{}").await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let running = start(backend);
    assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), 502);
    assert_eq!(running.failures(PAY, "failed", "upstream_reset"), 1.0);
}
