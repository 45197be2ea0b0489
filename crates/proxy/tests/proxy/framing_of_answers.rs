//! Answers of a backend whose end is easily mistaken, as reported for other proxies: what follows on the connection is
//! never taken for another answer, and the caller gets one length.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

/// A backend that answers each request on a connection with the same bytes, and keeps the connection.
async fn answering(answer: &'static str) -> std::net::SocketAddr {
    raw_backend(move |mut stream| async move {
        while read_until(&mut stream, "{}").await.ends_with("{}") {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// The answers to two requests in a row on one connection, if it is kept.
async fn twice(running: &Running) -> Vec<String> {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..2 {
        if stream.write_all(post("/pay/7", "{}").as_bytes()).await.is_err() {
            break;
        }
        answers.push(read_answer(&mut stream).await);
    }
    answers
}

#[tokio::test]
async fn body_of_an_answer_that_has_none_is_not_the_next_answer() {
    for answer in [
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ] {
        let running = start(answering(answer).await);
        for seen in twice(&running).await {
            assert!(!seen.contains("evil") && !seen.contains("hello"), "{answer:?}: {seen:?}");
            assert!([204, 304, 200, 502].contains(&status(&seen)), "{answer:?}: {seen:?}");
        }
        let [succeeded, _, failed, _, _] = running.outcomes(PAY).await;
        assert!(succeeded >= 1.0 && succeeded + failed == 2.0, "{answer:?}");
    }
}

#[tokio::test]
async fn answer_without_content_has_no_length_of_content() {
    let running = start(answering("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").await);
    let answer = running.raw(post("/pay/7", "{}")).await.to_ascii_lowercase();
    assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn answer_with_a_length_and_chunks_has_chunks_alone() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n";
    let running = start(answering(answer).await);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(read_until(&mut stream, "0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn answer_whose_length_is_ambiguous_is_502() {
    for header in [
        "content-length: +5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 0x5",
        "content-length: -5",
        "content-length: 5 5",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: gzip, chunked",
        "content-length : 5",
        "x-a: b\r\n content-length: 5",
        "x-a: b\0",
    ] {
        let backend = raw_backend(move |mut stream| async move {
            read_until(&mut stream, "{}").await;
            let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\nhello");
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let running = start(backend);
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert_eq!(status(&head), 502, "{header:?}: {head}");
        assert_eq!(running.failures(PAY, "failed", "upstream_reset"), 1.0, "{header:?}");
    }
}

#[tokio::test]
async fn interim_answers_end_at_the_proxy_and_the_final_one_passes() {
    let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let running = start(answering(answer).await);
    for seen in twice(&running).await {
        assert!(
            seen.starts_with("HTTP/1.1 200 ") && seen.ends_with("ok") && !seen.contains("link"),
            "{seen}"
        );
    }
    running.wait_for(PAY, "succeeded", 2.0).await;
}

#[tokio::test]
async fn chunks_of_the_backend_reach_a_caller_of_http_1_0_without_their_frames() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let running = start(answering(answer).await);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST /pay/7 HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let seen = read_all(&mut stream).await;
    assert!(seen.ends_with("\r\n\r\nhello") && !seen.contains("chunked"), "{seen}");
    running.wait_for(PAY, "succeeded", 1.0).await;
}

#[tokio::test]
async fn head_request_to_chunks_has_no_body() {
    let backend = raw_backend(|mut stream| async move {
        while read_head(&mut stream).await.ends_with("\r\n\r\n") {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: b\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
        }
    })
    .await;
    let running = start(backend);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"HEAD /pay/1 HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("x-a: b"), "{head}");
    }
}

/// The backend refuses by its first look at the head, and reads none of the body; the caller sends all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answer_reaches_a_caller_who_still_sends() {
    const LENGTH: usize = 8 << 20;
    let backend = raw_backend(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer.as_bytes()).await.unwrap();
        // It takes the rest: `upstream_failures` has backends that close the connection.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let running = start(backend);
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sending = tokio::spawn(async move {
        let head = format!("POST /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: {LENGTH}\r\n\r\n");
        let _ = writing.write_all(head.as_bytes()).await;
        let _ = writing.write_all(&vec![0; LENGTH]).await;
        writing
    });
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nno") {
        let read = tokio::io::AsyncReadExt::read_buf(&mut reading, &mut answer);
        let read = tokio::time::timeout(testkit::wait::LIMIT, read).await.expect("no answer comes");
        assert!(read.unwrap() > 0, "{}", answer.escape_ascii());
    }
    assert!(answer.starts_with(b"HTTP/1.1 413 "), "{}", answer.escape_ascii());
    running.wait_for(PAY, "rejected", 1.0).await;
    drop(sending.await.unwrap());
}
