//! Requests that two readers could understand differently never reach the backend.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

/// A backend that counts the requests which reach it.
async fn counting() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let address = raw_backend(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            while read_head(&mut stream).await.ends_with("\r\n\r\n") {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let (backend, requests) = counting().await;
    let running = start(backend);
    let post = |headers: &str| format!("POST /pay/7 HTTP/1.1\r\nHost: shop\r\n{headers}\r\n\r\n");
    for (what, request, expected) in [
        ("two different lengths", post("Content-Length: 5\r\nContent-Length: 6"), 400),
        ("a list of lengths", post("Content-Length: 5, 5"), 400),
        ("a length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400),
        ("chunks and a length", post("Transfer-Encoding: chunked\r\nContent-Length: 5"), 400),
        ("an unknown coding", post("Transfer-Encoding: xchunked"), 400),
        ("a last coding that is not chunked", post("Transfer-Encoding: chunked, identity"), 400),
        ("a first coding besides chunked", post("Transfer-Encoding: gzip, chunked"), 501),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
        ("a folded line", post("X-A: b\r\n c"), 400),
        ("a folded coding", post("Transfer-Encoding:\r\n chunked"), 400),
        ("a bare carriage return", post("X-A: b\rContent-Length: 5"), 400),
        ("a bare line feed", post("X-A: b\nContent-Length: 5"), 400),
        ("a NUL in a value", post("X-A: b\0c"), 400),
        ("a space before the colon", post("Content-Length : 5"), 400),
        ("a space in a name", post("X A: b"), 400),
        ("a name of nothing", post(": b"), 400),
        ("a negative length", post("Content-Length: -5"), 400),
        ("a length with a sign", post("Content-Length: +5"), 400),
        ("a length in hexadecimal", post("Content-Length: 0x5"), 400),
        ("a length that overflows", post("Content-Length: 99999999999999999999"), 400),
        ("no length", post("Content-Length: "), 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("two hosts", post("Host: other"), 400),
        ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), 400),
        ("a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(), 400),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        ("HTTP/0.9", "GET /\r\n\r\n".to_owned(), 400),
        ("another version", "GET / HTTP/3.0\r\nHost: shop\r\n\r\n".to_owned(), 400),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: shop\r\n\r\n".to_owned(), 400),
        ("a target without a slash", "GET pay HTTP/1.1\r\nHost: shop\r\n\r\n".to_owned(), 400),
        ("CONNECT", "CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\n".to_owned(), 405),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        // What is smuggled in behind it.
        let request = request + "GET /pay/9 HTTP/1.1\r\nHost: shop\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answers = read_all(&mut stream).await;
        assert_eq!(status(&answers), expected, "{what}: {answers}");
        assert_eq!(answers.matches("HTTP/1.").count(), 1, "{what}: the connection goes on: {answers}");
        assert_eq!(requests.load(Ordering::SeqCst), 0, "{what}: a request has reached the backend");
    }
    assert_eq!(running.in_flight(PAY), 0.0);
    assert_eq!(running.ended(PAY, "succeeded"), 0.0);
}

#[tokio::test]
async fn a_body_whose_chunks_are_malformed_is_refused_or_breaks_off() {
    for (what, body) in [
        ("a size that overflows", "fffffffffffffffff\r\nx"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size in two notations", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk that is longer than its size", "3\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed after the size", "5\nhello\r\n0\r\n\r\n"),
        ("a line feed in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let backend = raw_backend(move |mut stream| {
            let seen = Arc::clone(&sees);
            async move {
                let reached = read_until(&mut stream, "0\r\n\r\n").await;
                seen.lock().unwrap().push(reached);
            }
        })
        .await;
        let running = start(backend);
        let head = "POST /pay/7 HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let answers = read_all(&mut stream).await;
        assert!(answers.is_empty() || status(&answers) == 400, "{what}: {answers}");
        for reached in seen.lock().unwrap().iter() {
            assert!(
                !reached.ends_with("0\r\n\r\n"),
                "{what}: the backend has seen a whole request: {reached}"
            );
        }
        assert_eq!(running.ended(PAY, "succeeded"), 0.0, "{what}");
    }
}

#[tokio::test]
async fn chunk_extensions_and_equal_lengths_are_parsed_and_framed_again() {
    let backend = raw_backend(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        let head_length = head.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {head_length}\r\n\r\n{head}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let running = start(backend);
    let chunked = "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5;name=value\r\nhello\r\n0\r\n\r\n";
    let answer = running.raw(chunked).await;
    assert!(answer.contains("transfer-encoding: chunked") && !answer.contains("name=value"), "{answer}");
    let twice = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    let answer = running.raw(twice).await;
    assert_eq!(answer.matches("content-length: 5").count(), 1, "{answer}");
}

/// As clients do that would like to speak HTTP/2, and stay with HTTP/1.1.
#[tokio::test]
async fn chunks_are_followed_on_a_connection_that_was_offered_another_protocol() {
    let running = start(fixed(200, "text/plain", "ok").await);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let offer = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n";
    for _ in 0..3 {
        let head = format!("POST /pay/7 HTTP/1.1\r\nhost: shop\r\n{offer}transfer-encoding: chunked\r\n\r\n");
        stream.write_all(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.ends_with("ok"), "{answer}");
    }
    assert_eq!(running.ended(PAY, "succeeded"), 3.0);
}
