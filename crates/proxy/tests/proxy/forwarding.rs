//! Bytes and headers pass as they should: both ways, for each method, with trailers and expectations.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use txnscope_proxy::ForwardedPolicy;

use crate::support::*;

/// A backend that answers with the head that it has got.
async fn echo_head() -> std::net::SocketAddr {
    raw_backend(|mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            if !head.ends_with("\r\n\r\n") {
                return;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn hop_by_hop_headers_are_removed_and_forwarded_headers_are_set() {
    let running = start(echo_head().await);
    let request = "GET /a?b=c%20d HTTP/1.1\r\nHost: shop.example\r\nConnection: x-private, keep-alive\r\nX-Private: 1\r\n\
                   Keep-Alive: timeout=5\r\nProxy-Authorization: Basic x\r\nTE: trailers, gzip\r\nX-Forwarded-For: 6.6.6.6\r\n\
                   Forwarded: for=6.6.6.6\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n";
    let answer = running.raw(request).await;
    let seen = body(&answer).to_ascii_lowercase();
    assert!(seen.starts_with("get /a?b=c%20d http/1.1\r\n"), "{seen}");
    for gone in ["x-private", "keep-alive", "proxy-authorization", "gzip", "6.6.6.6", "connection:"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    for there in [
        "host: shop.example\r\n",
        "te: trailers\r\n",
        "x-twice: 1\r\nx-twice: 2\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: shop.example\r\n",
        "forwarded: for=127.0.0.1;host=\"shop.example\";proto=http\r\n",
    ] {
        assert!(seen.contains(there), "{there}: {seen}");
    }
    let off = start_with(echo_head().await, |config| config.forwarded = ForwardedPolicy::Off);
    let seen = off.raw("GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n").await;
    assert!(seen.contains("x-forwarded-for: 6.6.6.6\r\n") && !seen.contains("forwarded-proto"), "{seen}");
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_goes_before_the_host_header() {
    let running = start(echo_head().await);
    let answer = running.raw("GET http://real.example/x?y HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    let seen = body(&answer);
    assert!(seen.starts_with("GET /x?y HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("host: real.example\r\n") && !seen.contains("other.example"), "{seen}");
    let answer = running.raw("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert!(body(&answer).starts_with("OPTIONS * HTTP/1.1\r\n"), "{answer}");
}

#[tokio::test]
async fn a_head_request_has_the_length_and_no_body() {
    let backend = raw_backend(|mut stream| async move {
        while read_head(&mut stream).await.ends_with("\r\n\r\n") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\nx-a: b\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let text = "[[operation]]\nname = \"HEAD /pay/{id}\"";
    let running = start_with(backend, |config| config.operations = operations(text));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for count in 1..=2 {
        stream.write_all(b"HEAD /pay/1 HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.contains("content-length: 1234\r\n") && head.contains("x-a: b"), "{head}");
        assert_eq!(running.ended("HEAD /pay/{id}", "succeeded"), f64::from(count));
    }
}

#[tokio::test]
async fn answers_without_a_body_end_their_operation_at_once() {
    for code in [204, 304] {
        let backend = raw_backend(move |mut stream| async move {
            read_until(&mut stream, "{}").await;
            stream.write_all(format!("HTTP/1.1 {code} X\r\netag: \"a\"\r\n\r\n").as_bytes()).await.unwrap();
        })
        .await;
        let running = start(backend);
        assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), code);
        assert_eq!((running.ended(PAY, "succeeded"), running.in_flight(PAY)), (1.0, 0.0), "{code}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = backend(|request: Request<Incoming>| async move {
        let announced = request.headers().get("trailer").cloned();
        let collected = request.into_body().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let (frames, body) = channel();
        tokio::spawn(async move {
            frames.send(Frame::data(collected.to_bytes())).await.unwrap();
            let mut back = HeaderMap::new();
            back.insert("x-sum", trailers["x-sum"].clone());
            frames.send(Frame::trailers(back)).await.unwrap();
        });
        let answer = Response::builder().header("trailer", announced.unwrap());
        answer.body(body).unwrap()
    })
    .await;
    let running = start(backend);
    let mut client = client(running.address).await;
    let (frames, body) = channel();
    tokio::spawn(async move {
        frames.send(Frame::data("hello".into())).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        frames.send(Frame::trailers(trailers)).await.unwrap();
    });
    let request = Request::post("/pay/7").header("host", "shop").header("te", "trailers");
    let request = request.header("trailer", "x-sum").body(body).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "42");
    assert_eq!(answer.to_bytes(), "hello");
    running.wait_for(PAY, "succeeded", 1.0).await;
}

#[tokio::test]
async fn a_caller_who_expects_100_continue_sends_the_body_when_the_backend_wants_it() {
    let wanted = Arc::new(Notify::new());
    let wants = Arc::clone(&wanted);
    let backend = raw_backend(move |mut stream| {
        let wants = Arc::clone(&wants);
        async move {
            let head = read_head(&mut stream).await;
            assert!(head.contains("expect: 100-continue"), "{head}");
            wants.notified().await;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            assert_eq!(read_until(&mut stream, "hello").await, "hello");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let running = start(backend);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = "POST /pay/7 HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    wanted.notify_one();
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    assert!(read_answer(&mut stream).await.ends_with("ok"));
    running.wait_for(PAY, "succeeded", 1.0).await;
}

#[tokio::test]
async fn a_backend_that_refuses_what_is_expected_gets_no_body() {
    let backend = raw_backend(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        assert_eq!(read_all(&mut stream).await, "", "a part of the body has come");
    })
    .await;
    let running = start(backend);
    let head = "POST /pay/7 HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let answer = running.raw(head).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no"), "{answer}");
    running.wait_for(PAY, "rejected", 1.0).await;
}

#[tokio::test]
async fn an_answer_comes_piece_by_piece_as_the_backend_sends_it() {
    let (backend, mut receiver) = streaming_backend().await;
    let running = start(backend);
    let mut client = client(running.address).await;
    let request = Request::get("/pay/7").header("host", "shop").body(full("")).unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    let frames = receiver.recv().await.unwrap();
    for n in 0..5 {
        let event = format!("data: {n}\n\n");
        frames.send(Frame::data(Bytes::from(event.clone()))).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    drop(frames);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn http_1_0_is_answered_in_its_own_way() {
    let running = start(echo_head().await);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.contains("GET /x HTTP/1.1\r\n"), "{answer}");
}
