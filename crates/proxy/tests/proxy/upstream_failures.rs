//! A backend that is down, slow or breaks off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn an_upstream_that_is_down_is_502_and_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let running = start(closed);
    assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), 502);
    assert_eq!(running.failures(PAY, "failed", "upstream_unreachable"), 1.0);
    assert_eq!(running.in_flight(PAY), 0.0);
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_504_and_timeout() {
    let backend =
        raw_backend(|mut stream| async move { drop(stream.read_to_end(&mut Vec::new()).await) }).await;
    let running = start_with(backend, |config| config.upstream_settings.timeout = SHORT);
    assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), 504);
    assert_eq!(running.failures(PAY, "failed", "upstream_timeout"), 1.0);
}

#[tokio::test]
async fn an_upstream_that_closes_before_its_answer_is_502_and_reset() {
    for answer in
        ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello", "SSH-2.0-x\r\n\r\n"]
    {
        let backend = raw_backend(move |mut stream| async move {
            read_until(&mut stream, "{}").await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let running = start(backend);
        assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), 502, "{answer:?}");
        assert_eq!(running.failures(PAY, "failed", "upstream_reset"), 1.0, "{answer:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_in_the_middle_breaks_the_clients_body_and_is_reset() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        let body = if head.starts_with('c') { "hello" } else { "5\r\nhello\r\n" };
        let backend = raw_backend(move |mut stream| async move {
            read_until(&mut stream, "{}").await;
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let running = start(backend);
        let mut client = client(running.address).await;
        let request = http::Request::post("/pay/7").header("host", "shop").body(full("{}")).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert!(bytes(answer.into_body()).await.is_err(), "{head}: the body seems whole");
        running.wait_for(PAY, "failed", 1.0).await;
        assert_eq!(running.failures(PAY, "failed", "upstream_reset"), 1.0, "{head}");
    }
}

#[tokio::test]
async fn an_upstream_that_freezes_in_the_middle_is_timeout() {
    let backend = raw_backend(|mut stream| async move {
        read_until(&mut stream, "{}").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let running = start_with(backend, |config| config.upstream_settings.read_timeout = SHORT);
    let mut client = client(running.address).await;
    let request = http::Request::post("/pay/7").header("host", "shop").body(full("{}")).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert!(bytes(answer.into_body()).await.is_err());
    running.wait_for(PAY, "failed", 1.0).await;
    assert_eq!(running.failures(PAY, "failed", "upstream_timeout"), 1.0);
}

/// As servers do that check the length, or the credentials, by the head alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answer_of_a_backend_that_reads_no_body_reaches_the_caller() {
    let backend = raw_backend(|mut stream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 9\r\n\r\n";
        stream.write_all(format!("{head}too large").as_bytes()).await.unwrap();
    })
    .await;
    let running = start(backend);
    let rounds = scaled(50, 1_000);
    for round in 0..rounds {
        // From one segment to more than any buffer holds.
        let body = "x".repeat(10_usize.pow(round % 8));
        let answer = running.raw(post("/pay/7", &body)).await;
        assert!(answer.ends_with("too large"), "round {round}: {answer}");
    }
    running.wait_for(PAY, "rejected", f64::from(rounds)).await;
}

/// A kept connection that the backend closes when it reads the next request: the request may have had an effect.
#[tokio::test]
async fn a_request_that_was_written_is_never_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let backend = raw_backend(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_until(&mut stream, "{}").await;
            count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            if read_until(&mut stream, "{}").await.ends_with("{}") {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let running = start(backend);
    assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), 200);
    // The connection may be skipped as long as its task has not seen the end of the answer.
    let mut statuses = Vec::new();
    while !statuses.contains(&502) {
        statuses.push(status(&running.raw(post("/pay/7", "{}")).await));
        assert!(statuses.len() < 100, "{statuses:?}");
    }
    let sent = 1 + statuses.len();
    assert_eq!(requests.load(Ordering::SeqCst), sent, "each request has reached the backend once");
    assert_eq!(running.failures(PAY, "failed", "upstream_reset"), 1.0);
}

/// One that the backend has closed while it was idle is not used.
#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced() {
    let backend = raw_backend(|mut stream| async move {
        read_until(&mut stream, "{}").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let running = start(backend);
    for _ in 0..20 {
        let answer = running.raw(post("/pay/7", "{}")).await;
        // Between the closing and its notice, a request is written in vain.
        assert!([200, 502].contains(&status(&answer)), "{answer}");
    }
    let failed = running.failures(PAY, "failed", "upstream_reset");
    assert_eq!(running.ended(PAY, "succeeded") + failed, 20.0);
}
