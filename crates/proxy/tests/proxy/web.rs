//! The pages on the web address.

use std::net::SocketAddr;

use http_body::Frame;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

async fn page(web: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(web).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

/// The operations in flight, without their times.
async fn operations(web: SocketAddr) -> Value {
    let answer = page(web, "/-/operations").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json") && head.contains("no-store"), "{head}");
    let mut listed: Value = serde_json::from_str(body).unwrap();
    assert_eq!(listed["total"], listed["operations"].as_array().unwrap().len(), "{listed}");
    for row in listed["operations"].as_array_mut().unwrap() {
        let row = row.as_object_mut().unwrap();
        let (since, open) = (row.remove("sinceSeconds").unwrap(), row.remove("openSeconds").unwrap());
        assert!(since.as_f64().unwrap() > 1e9 && open.as_f64().unwrap() >= 0.0, "{since} {open}");
    }
    listed["operations"].take()
}

#[tokio::test]
async fn operations_in_flight_are_listed_with_their_state_and_client() {
    let (backend, mut receiver) = streaming_backend().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let running = start_with(backend, |config| config.web_listen_addresses = vec![any]);
    let web = running.proxy.web_addresses()[0];
    assert_eq!(operations(web).await, json!([]));
    let mut caller = TcpStream::connect(running.address).await.unwrap();
    // Of a body that is not there yet, nothing is answered.
    caller.write_all(b"POST /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    let row = |state: &str| json!([{"operation": PAY, "client": "127.0.0.1", "state": state}]);
    let frames = receiver.recv().await.unwrap();
    frames.send(Frame::data("first".into())).await.unwrap();
    read_until(&mut caller, "first").await;
    assert_eq!(operations(web).await, row("answering"));
    drop(frames);
    caller.write_all(b"{}").await.unwrap();
    read_until(&mut caller, "0\r\n\r\n").await;
    running.wait_for(PAY, "succeeded", 1.0).await;
    let ended = testkit::wait::until("an empty list", async || {
        let listed = operations(web).await;
        anyhow::ensure!(listed == json!([]), "{listed}");
        Ok(())
    });
    ended.await.unwrap();

    // A backend that takes the connection and does not answer.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = start_with(silent.local_addr().unwrap(), |config| config.web_listen_addresses = vec![any]);
    let web = running.proxy.web_addresses()[0];
    let mut caller = TcpStream::connect(running.address).await.unwrap();
    caller.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let (_held, _) = silent.accept().await.unwrap();
    assert_eq!(operations(web).await, row("waiting"));
    drop(caller);
    running.wait_for(PAY, "cancelled", 1.0).await;
    assert_eq!(operations(web).await, json!([]));
}

#[tokio::test]
async fn landing_page_leads_to_all_pages() {
    let any = "127.0.0.1:0".parse().unwrap();
    let backend = fixed(200, "text/plain", "ok").await;
    let running = start_with(backend, |config| config.web_listen_addresses = vec![any]);
    let web = running.proxy.web_addresses()[0];
    let landing = page(web, "/").await;
    let links: Vec<_> =
        landing.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links, ["/metrics", "/-/operations", "/-/healthy", "/-/ready"]);
    for link in links {
        assert_eq!(status(&page(web, link).await), 200, "{link}");
    }
}
