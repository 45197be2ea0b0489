//! What other proxies were reported to change, drop or refuse: it passes as it is.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// A backend that answers with the head that it has got, as bytes, and headers of its own.
async fn echo_head(headers: &'static [u8]) -> std::net::SocketAddr {
    raw_backend(move |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\ncontent-length: {}\r\n",
            head.len()
        )
        .into_bytes();
        answer.extend_from_slice(headers);
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&head);
        stream.write_all(&answer).await.unwrap();
    })
    .await
}

/// The whole answer to a request on a connection that is closed after it.
async fn sent(running: &Running, line: &str, headers: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut request = format!("{line}\r\nhost: shop\r\nconnection: close\r\n").into_bytes();
    request.extend_from_slice(headers);
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(testkit::wait::LIMIT, stream.read_to_end(&mut answer)).await;
    read.expect("it is never closed").unwrap();
    answer
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn targets_pass_as_they_are_sent() {
    let running = start(echo_head(b"").await);
    for target in [
        "/a/../b/./c",
        "//a//b/",
        "/a%2Fb%20c%00?x=%zz",
        "/a?b=c?d&e[]=1&f={g:1}",
        "/a|b?c|d",
        "/a;b=1,c:2@d",
        "/?",
    ] {
        let answer = sent(&running, &format!("GET {target} HTTP/1.1"), b"").await;
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert!(has(&answer, line.as_bytes()), "{target}: {}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn values_beyond_ascii_pass_both_ways() {
    let running = start(
        echo_head(b"x-name: M\xfcller \xf0\x9f\x92\xb8\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n").await,
    );
    let answer = sent(&running, "GET /x HTTP/1.1", b"x-own: M\xfcller \xe2\x82\xac\r\n").await;
    assert!(has(&answer, b"x-own: M\xfcller \xe2\x82\xac\r\n"), "{}", answer.escape_ascii());
    assert!(has(&answer, b"x-name: M\xfcller \xf0\x9f\x92\xb8\r\n"), "{}", answer.escape_ascii());
    assert!(has(&answer, b"set-cookie: a=1\r\nset-cookie: b=2\r\n"), "{}", answer.escape_ascii());
    assert!(!has(&answer, b"x-hop"), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn unknown_expectation_passes_without_holding_up_the_body() {
    let backend = raw_backend(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("expect: 200-ok"), "{head}");
        assert_eq!(read_until(&mut stream, "hello").await, "hello");
        stream.write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    })
    .await;
    let running = start(backend);
    let request = "POST /pay/7 HTTP/1.1\r\nhost: shop\r\nexpect: 200-ok\r\ncontent-length: 5\r\n\r\nhello";
    let answer = running.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 417 ") && answer.ends_with("no"), "{answer}");
    running.wait_for(PAY, "rejected", 1.0).await;
}

#[tokio::test]
async fn get_with_a_body_and_post_without_one_pass() {
    let backend = raw_backend(|mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            if head.starts_with("GET") {
                assert_eq!(read_until(&mut stream, "hello").await, "hello");
            } else if head.is_empty() {
                return;
            }
            let length = head.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let running = start(backend);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for request in [
        "GET /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhello",
        "POST /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n",
        "DELETE /pay/7 HTTP/1.1\r\nhost: shop\r\n\r\n",
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        let method = &request[..3];
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(method), "{request:?}: {answer}");
        let has_length = answer.matches("content-length: 0").count() == 1;
        assert_eq!(has_length, method == "POS", "{request:?}: {answer}");
    }
    running.wait_for("GET /pay/{id}", "succeeded", 1.0).await;
    running.wait_for(PAY, "succeeded", 1.0).await;
}

/// Paths are compared as they are sent: what a backend decodes into a route is another operation here, and passes uncounted.
#[tokio::test]
async fn encoded_paths_match_templates_by_their_bytes() {
    let running = start(fixed(200, "text/plain", "ok").await);
    for (path, counted) in [
        ("/pay/%37", true),
        ("/pay/a%2Fb", true),
        ("/p%61y/7", false),
        ("/pay/7/", false),
        ("//pay/7", false),
        ("/pay/7/../8", false),
        ("/PAY/7", false),
        ("/pay/7?x=/y", true),
    ] {
        let before = running.attempts(PAY);
        assert!(running.raw(post(path, "{}")).await.ends_with("ok"), "{path}");
        assert_eq!(running.attempts(PAY) - before, f64::from(u8::from(counted)), "{path}");
    }
}

#[tokio::test]
async fn refused_upgrade_with_a_body_leaves_the_connection_in_order() {
    let backend = raw_backend(|mut stream| async move {
        while read_head(&mut stream).await.ends_with("\r\n\r\n") {
            let answer = "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                          content-length: 7\r\n\r\nversion";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let running = start(backend);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let upgrade = "GET /pay/7 HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 426 ") && answer.ends_with("version"), "{answer}");
    }
    running.wait_for("GET /pay/{id}", "rejected", 2.0).await;
}

/// As after `printf … | nc`: documented, and as nginx does it.
#[tokio::test]
async fn caller_who_closes_the_sending_half_is_cancelled_and_holds_up_no_one() {
    let (backend, mut receiver) = streaming_backend().await;
    let running = start(backend);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let frames = receiver.recv().await.unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::timeout(testkit::wait::LIMIT, frames.closed()).await.expect("the backend goes on");
    running.wait_for(PAY, "cancelled", 1.0).await;
}
