//! HTTP/2 from the caller, and to the backend for gRPC.

use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

async fn grpc_backend(status: &'static str) -> std::net::SocketAddr {
    backend(move |request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.uri().authority().unwrap(), "shop");
        assert_eq!(request.headers()["te"], "trailers");
        let (frames, body) = channel();
        tokio::spawn(async move {
            frames.send(Frame::data("message".into())).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            frames.send(Frame::trailers(trailers)).await.unwrap();
        });
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    })
    .await
}

#[tokio::test]
async fn the_grpc_status_in_the_trailers_decides() {
    for (code, outcome, reason) in [
        ("0", "succeeded", ""),
        ("9", "rejected", "application"),
        ("14", "failed", "other"),
        ("16", "rejected", "unauthorized"),
    ] {
        let running = start(grpc_backend(code).await);
        let mut client = client_http2(running.address).await;
        let request = Request::post("http://shop/pay/7").header("te", "trailers");
        let request = request.header("content-type", "application/grpc+proto").body(full("x")).unwrap();
        let answer = client.send_request(request).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], code);
        running.wait_for(PAY, outcome, 1.0).await;
        if !reason.is_empty() {
            assert_eq!(running.failures(PAY, outcome, reason), 1.0, "{code}");
        }
    }
}

#[tokio::test]
async fn a_caller_by_http2_reaches_a_backend_by_http1() {
    let backend = backend(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.headers()["host"], "shop");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let running = start(backend);
    let mut client = client_http2(running.address).await;
    for _ in 0..10 {
        let request = Request::post("http://shop/pay/7").header("cookie", "a=1").header("cookie", "b=2");
        let answer = client.send_request(request.body(full("hello")).unwrap()).await.unwrap();
        assert_eq!(bytes(answer.into_body()).await.unwrap(), "hello");
    }
    running.wait_for(PAY, "succeeded", 10.0).await;
}

#[tokio::test]
async fn a_backend_may_be_called_by_http2_whatever_the_caller_speaks() {
    let backend = backend(|request: Request<Incoming>| async move {
        let version = format!("{:?}", request.version());
        let _ = request.into_body().collect().await;
        Response::new(full(version))
    })
    .await;
    let running = start_with(backend, |config| config.upstream_settings.http2 = true);
    for _ in 0..3 {
        assert!(running.raw(post("/pay/7", "{}")).await.ends_with("HTTP/2.0"));
    }
    running.wait_for(PAY, "succeeded", 3.0).await;
}

/// The backend answers by the head and resets the stream, while the caller still sends the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answer_over_http2_reaches_the_caller() {
    let refused = || Response::builder().status(413).body(full("too large")).unwrap();
    let backend = backend(move |_: Request<Incoming>| async move { refused() }).await;
    let running = start_with(backend, |config| config.upstream_settings.http2 = true);
    let rounds = scaled(20, 500);
    for round in 0..rounds {
        let body = "x".repeat(10_usize.pow(round % 7));
        let answer = running.raw(post("/pay/7", &body)).await;
        assert!(answer.ends_with("too large"), "round {round}: {answer}");
        let mut client = client_http2(running.address).await;
        let request = Request::post("http://shop/pay/7").body(full(body)).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 413, "round {round}");
        assert_eq!(bytes(answer.into_body()).await.unwrap(), "too large", "round {round}");
    }
    running.wait_for(PAY, "rejected", f64::from(2 * rounds)).await;
}

/// How the bytes come in pieces does not decide which protocol they are.
#[tokio::test]
async fn first_bytes_one_at_a_time_are_recognized_as_http1_or_http2() {
    let running = start(fixed(200, "text/plain", "ok").await);
    for (sent, answered) in [
        (post("/pay/7", "{}").into_bytes(), b"HTTP/1.1 200".as_slice()),
        // No method, but no HTTP/2 either.
        (b"PRI /pay/7 HTTP/1.1\r\nhost: shop\r\n\r\n".to_vec(), b"HTTP/1.1 200"),
        // The preface and empty settings, which are answered by the frame of the server's settings.
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat(), &[0, 0]),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in &sent {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; answered.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, answered, "to {}", sent.escape_ascii());
    }
    running.wait_for(PAY, "succeeded", 1.0).await;
}
