//! What callers may take: heads, bodies, time and connections.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let running = start(fixed(200, "text/plain", "ok").await);
    let large = format!("GET / HTTP/1.1\r\nhost: shop\r\nx: {}\r\n\r\n", "y".repeat(70 * 1024));
    assert_eq!(status(&running.raw(&large).await), 431);
    let many = (0..150).map(|n| format!("x{n}: y\r\n")).collect::<String>();
    assert_eq!(status(&running.raw(format!("GET / HTTP/1.1\r\nhost: shop\r\n{many}\r\n")).await), 431);
    let fits = format!("GET / HTTP/1.1\r\nhost: shop\r\nx: {}\r\n\r\n", "y".repeat(50 * 1024));
    assert_eq!(status(&running.raw(&fits).await), 200);
    // Of an operation, too; it is not counted, however it is read.
    for kilobytes in [65, 70, 90, 120, 140] {
        let large =
            format!("GET /pay/7 HTTP/1.1\r\nhost: shop\r\nx: {}\r\n\r\n", "y".repeat(kilobytes * 1024));
        assert_eq!(status(&running.raw(&large).await), 431, "{kilobytes} kB");
    }
    assert_eq!(running.sum("transaction_attempts_total", &[]), 0.0);
}

#[tokio::test]
async fn a_head_that_is_never_finished_ends_the_connection() {
    let running =
        start_with(fixed(200, "text/plain", "ok").await, |config| config.limits.head_timeout = SHORT);
    for begun in ["", "GET", "GET / HTTP/1.1\r\nhost: shop\r\nx: "] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(read_all(&mut stream).await, "", "{begun:?}");
    }
    // Neither does a second one, after a first request in good order.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    assert_eq!(status(&read_answer(&mut stream).await), 200);
    stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let backend = raw_backend(|mut stream| async move {
        read_until(&mut stream, "{}").await;
        tokio::time::sleep(5 * SHORT).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let running = start_with(backend, |config| {
        (config.limits.idle_timeout, config.limits.head_timeout) = (SHORT, SHORT);
    });
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.ends_with("ok"));
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_by_its_length_or_as_it_comes() {
    let backend = fixed(200, "text/plain", "ok").await;
    let running = start_with(backend, |config| config.limits.max_body = Some(10));
    assert_eq!(status(&running.raw(post("/pay/7", "0123456789")).await), 200);
    assert_eq!(status(&running.raw(post("/pay/7", "0123456789a")).await), 413);
    let chunked = "POST /pay/7 HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    assert_eq!(status(&running.raw(chunked).await), 413);
    assert_eq!(running.failures(PAY, "rejected", "invalid_request"), 2.0);
}

#[tokio::test]
async fn a_request_whose_rest_never_comes_is_408() {
    let backend = fixed(200, "text/plain", "ok").await;
    let running = start_with(backend, |config| config.upstream_settings.timeout = SHORT);
    let head = "POST /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhe";
    assert_eq!(status(&running.raw(head).await), 408);
    assert_eq!(running.failures(PAY, "rejected", "invalid_request"), 1.0);
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_until_another_ends() {
    let backend = fixed(200, "text/plain", "ok").await;
    let running = start_with(backend, |config| config.limits.max_connections = 1);
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    assert_eq!(status(&read_answer(&mut first).await), 200);
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    first.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    assert_eq!(status(&read_answer(&mut first).await), 200);
    assert_eq!(running.attempts(PAY), 2.0, "the second one is served beside the first");
    drop(first);
    assert_eq!(status(&read_answer(&mut second).await), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_takes_nothing_of_an_answer_is_cut_and_cancelled() {
    let backend = backend(|_| async {
        let (frames, body) = channel();
        tokio::spawn(async move {
            let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
            while frames.send(http_body::Frame::data(piece.clone())).await.is_ok() {}
        });
        http::Response::new(body)
    })
    .await;
    let running = start_with(backend, |config| config.limits.write_timeout = SHORT);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    running.wait_for(PAY, "cancelled", 1.0).await;
}
