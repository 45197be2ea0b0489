//! Each operation is counted once, and everything else is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn declared_operations_are_zero_before_the_first_request() {
    let backend = fixed(200, "text/plain", "ok").await;
    let running = start(backend);
    let page = running.metrics.render();
    for line in [
        "transaction_attempts_total{operation=\"POST /pay/{id}\"} 0",
        "concurrent_operations{operation=\"GET /pay/{id}\"} 0",
    ] {
        assert!(page.contains(line), "{page}");
    }
    for (outcome, reason) in [
        ("rejected", "insufficient_balance"),
        ("rejected", "invalid_request"),
        ("failed", "upstream_unreachable"),
        ("failed", "upstream_timeout"),
        ("failed", "upstream_reset"),
        ("cancelled", "cancelled"),
    ] {
        let series = page.lines().any(|line| {
            line.starts_with("transaction_failures_total{")
                && [format!("outcome=\"{outcome}\""), format!("reason=\"{reason}\""), PAY.to_owned()]
                    .iter()
                    .all(|part| line.contains(part))
        });
        assert!(series, "{outcome}/{reason} is not declared:\n{page}");
    }
}

#[tokio::test]
async fn an_operation_is_counted_once_and_its_gauge_returns_to_zero() {
    let backend = backend(|request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/pay/7");
        Response::new(full("paid"))
    })
    .await;
    let running = start(backend);
    let answer = running.raw(post("/pay/7", "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\npaid"), "{answer}");
    assert_eq!(running.attempts(PAY), 1.0);
    assert_eq!(running.ended(PAY, "succeeded"), 1.0);
    assert_eq!(running.in_flight(PAY), 0.0);
    assert_eq!(running.sum("transaction_failures_total", &[]), 0.0);
}

#[tokio::test]
async fn what_matches_no_operation_passes_uncounted_or_as_unmatched() {
    let backend = fixed(201, "text/plain", "elsewhere").await;
    let running = start(backend);
    assert!(running.raw(post("/other", "x")).await.ends_with("elsewhere"));
    assert_eq!(running.sum("transaction_attempts_total", &[]), 0.0);
    let counting = start_with(backend, |config| config.operations = config.operations.count_unmatched(true));
    assert!(counting.raw(post("/other", "x")).await.ends_with("elsewhere"));
    assert!(counting.raw(post("/pay/1", "x")).await.ends_with("elsewhere"));
    assert_eq!((counting.attempts("unmatched"), counting.attempts(PAY)), (1.0, 1.0));
}

#[tokio::test]
async fn an_operation_is_in_flight_until_the_last_byte_of_its_answer() {
    let (backend, mut receiver) = streaming_backend().await;
    let running = start(backend);
    let mut client = client(running.address).await;
    let request = Request::post("/pay/7").header("host", "shop").body(full("{}")).unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    let frames = receiver.recv().await.unwrap();
    frames.send(http_body::Frame::data("first".into())).await.unwrap();
    let first = http_body_util::BodyExt::frame(answer.body_mut()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");
    assert_eq!((running.in_flight(PAY), running.ended(PAY, "succeeded")), (1.0, 0.0));
    drop(frames);
    assert_eq!(bytes(answer.into_body()).await.unwrap(), "");
    running.wait_for(PAY, "succeeded", 1.0).await;
}

/// A backend that counts its connections.
async fn counts_connections() -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let backend = raw_backend(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            while read_head(&mut stream).await.ends_with("\r\n\r\n") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    (backend, connections)
}

/// Callers are divided among the threads, and what each of them asks passes over its thread's own connection.
#[tokio::test]
async fn callers_of_each_thread_share_a_connection_to_the_backend() {
    for (threads, expected) in [(1, 1..6), (6, 6..7)] {
        let (backend, connections) = counts_connections().await;
        let running = start_with(backend, |config| config.threads = threads);
        let mut callers = Vec::new();
        for _ in 0..6 {
            let mut caller = TcpStream::connect(running.address).await.unwrap();
            caller.write_all(b"GET /pay/1 HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
            assert!(read_answer(&mut caller).await.ends_with("ok"));
            callers.push(caller);
        }
        running.wait_for("GET /pay/{id}", "succeeded", 6.0).await;
        let connections = connections.load(Ordering::SeqCst);
        // One whose task has not seen the end of its answer yet may have been skipped.
        assert!(expected.contains(&connections), "{connections} connections by {threads} threads");
    }
}

#[tokio::test]
async fn many_requests_on_one_connection_use_one_connection_to_the_backend() {
    let (backend, connections) = counts_connections().await;
    let running = start(backend);
    for _ in 0..20 {
        assert!(running.raw("GET /pay/1 HTTP/1.1\r\nhost: shop\r\n\r\n").await.ends_with("ok"));
    }
    assert_eq!(running.ended("GET /pay/{id}", "succeeded"), 20.0);
    // One whose task has not seen the end of its answer yet may have been skipped once.
    assert!(connections.load(Ordering::SeqCst) <= 3, "{connections:?}");
}
