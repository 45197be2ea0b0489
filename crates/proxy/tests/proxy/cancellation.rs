//! A caller who leaves is counted as cancelled, and the backend's request ends.

use std::sync::Arc;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::*;

/// A backend that says when a request has come and when its connection has ended.
async fn silent() -> (std::net::SocketAddr, Arc<Notify>, Arc<Notify>) {
    let (came, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (comes, ends) = (Arc::clone(&came), Arc::clone(&ended));
    let address = raw_backend(move |mut stream| {
        let (comes, ends) = (Arc::clone(&comes), Arc::clone(&ends));
        async move {
            read_head(&mut stream).await;
            comes.notify_one();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            ends.notify_one();
        }
    })
    .await;
    (address, came, ended)
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_is_cancelled_upstream() {
    let (backend, came, ended) = silent().await;
    let running = start(backend);
    let mut caller = TcpStream::connect(running.address).await.unwrap();
    caller.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    came.notified().await;
    assert_eq!(running.in_flight(PAY), 1.0);
    drop(caller);
    tokio::time::timeout(testkit::wait::LIMIT, ended.notified())
        .await
        .expect("the backend's request goes on");
    running.wait_for(PAY, "cancelled", 1.0).await;
    assert_eq!(running.failures(PAY, "cancelled", "cancelled"), 1.0);
}

#[tokio::test]
async fn a_caller_who_leaves_with_a_pipelined_request_is_cancelled() {
    let (backend, came, ended) = silent().await;
    let running = start(backend);
    let mut caller = TcpStream::connect(running.address).await.unwrap();
    let twice = post("/pay/7", "{}").repeat(2);
    caller.write_all(twice.as_bytes()).await.unwrap();
    came.notified().await;
    drop(caller);
    tokio::time::timeout(testkit::wait::LIMIT, ended.notified())
        .await
        .expect("the backend's request goes on");
    running.wait_for(PAY, "cancelled", 1.0).await;
}

/// Nothing is read from the caller while the backend takes nothing more. The caller resets: an end in good order would
/// wait behind what it has sent.
#[tokio::test]
async fn a_caller_who_leaves_while_the_upload_is_stuck_is_cancelled() {
    let came = Arc::new(Notify::new());
    let comes = Arc::clone(&came);
    let backend = raw_backend(move |mut stream| {
        let comes = Arc::clone(&comes);
        async move {
            read_head(&mut stream).await;
            comes.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let running = start(backend);
    let mut caller = TcpStream::connect(running.address).await.unwrap();
    caller
        .write_all(b"POST /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000000000\r\n\r\n")
        .await
        .unwrap();
    came.notified().await;
    let piece = vec![0; 1 << 20];
    // Until no more is taken.
    let stuck = std::time::Duration::from_millis(300);
    while tokio::time::timeout(stuck, caller.write_all(&piece)).await.is_ok() {}
    caller.set_zero_linger().unwrap();
    drop(caller);
    running.wait_for(PAY, "cancelled", 1.0).await;
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_the_answer_is_cancelled_upstream() {
    let (backend, mut receiver) = streaming_backend().await;
    let running = start(backend);
    let mut caller = TcpStream::connect(running.address).await.unwrap();
    caller.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let frames = receiver.recv().await.unwrap();
    frames.send(http_body::Frame::data("first".into())).await.unwrap();
    read_until(&mut caller, "first").await;
    drop(caller);
    tokio::time::timeout(testkit::wait::LIMIT, frames.closed()).await.expect("the backend goes on");
    running.wait_for(PAY, "cancelled", 1.0).await;
}

#[tokio::test]
async fn a_stream_of_http2_that_is_reset_is_cancelled() {
    let (backend, came, ended) = silent().await;
    let running = start(backend);
    let mut client = client_http2(running.address).await;
    let request = Request::post("http://shop/pay/7").body(full("{}")).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    came.notified().await;
    answer.abort();
    tokio::time::timeout(testkit::wait::LIMIT, ended.notified())
        .await
        .expect("the backend's request goes on");
    running.wait_for(PAY, "cancelled", 1.0).await;
}
