//! The end in order, and the handover to a new process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn a_drain_lets_a_request_in_flight_end_and_accepts_nothing_more() {
    let (backend, mut receiver) = streaming_backend().await;
    let running = start_with(backend, |config| {
        config.web_listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    });
    let web = running.proxy.web_addresses()[0];
    let ready = "GET /-/ready HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(status(&raw(web, ready).await), 200);
    assert_eq!(status(&raw(web, "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await), 200);
    assert!(
        raw(web, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.contains("transaction_attempts_total")
    );
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let frames = receiver.recv().await.unwrap();
    frames.send(Frame::data("first".into())).await.unwrap();
    read_until(&mut stream, "first").await;
    let (address, metrics) = (running.address, running.metrics.clone());
    let draining = tokio::spawn(running.proxy.drain());
    let refused =
        testkit::wait::until("the address to be free", async || match TcpStream::connect(address).await {
            Ok(_) => anyhow::bail!("it is accepted"),
            Err(_) => Ok(()),
        });
    refused.await.unwrap();
    assert_eq!(status(&raw(web, ready).await), 503);
    frames.send(Frame::data("last".into())).await.unwrap();
    drop(frames);
    read_until(&mut stream, "0\r\n\r\n").await;
    assert!(draining.await.unwrap(), "something was cut");
    let succeeded =
        "transaction_duration_seconds_count{operation=\"POST /pay/{id}\",outcome=\"succeeded\"} 1";
    assert!(metrics.render().contains(succeeded));
}

#[tokio::test]
async fn a_request_that_takes_longer_than_the_drain_is_cut_and_cancelled() {
    let backend = raw_backend(|mut stream| async move {
        read_until(&mut stream, "{}").await;
        read_all(&mut stream).await;
    })
    .await;
    let running = start_with(backend, |config| config.drain_timeout = Duration::from_millis(100));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let waited = testkit::wait::until("the request to be in flight", async || {
        anyhow::ensure!(running.in_flight(PAY) == 1.0);
        Ok(())
    });
    waited.await.unwrap();
    let metrics = running.metrics.clone();
    assert!(!running.proxy.drain().await, "nothing was cut");
    assert_eq!(read_all(&mut stream).await, "");
    let cancelled =
        "transaction_duration_seconds_count{operation=\"POST /pay/{id}\",outcome=\"cancelled\"} 1";
    assert!(metrics.render().contains(cancelled));
}

/// A connection that is kept gets one more answer during the drain, which says that it is the last.
#[tokio::test]
async fn an_answer_during_the_drain_closes_its_connection() {
    let running = start(fixed(200, "text/plain", "ok").await);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    assert!(!read_answer(&mut stream).await.contains("connection: close"));
    let address = running.address;
    let draining = tokio::spawn(running.proxy.drain());
    let refused = testkit::wait::until("the drain to begin", async || {
        anyhow::ensure!(TcpStream::connect(address).await.is_err());
        Ok(())
    });
    refused.await.unwrap();
    stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.contains("connection: close") && answer.ends_with("ok"), "{answer}");
    assert_eq!(read_all(&mut stream).await, "");
    assert!(draining.await.unwrap());
}

/// A new proxy listens beside the old one before that is drained. The system resets a connection that is just being made to a
/// socket which is closed, unless `net.ipv4.tcp_migrate_req` is set; an accepted connection is answered. That
/// nothing at all is lost over a socket of systemd's, the tests of the command hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handover_with_a_shared_port_answers_accepted_connections() {
    let backend = fixed(200, "text/plain", "ok").await;
    let share = |config: &mut txnscope_proxy::Config| {
        config.reuse_port = true;
        config.drain_timeout = Duration::from_secs(20);
    };
    let mut old = start_with(backend, share);
    let address = old.address;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for keeps in [true, true, false] {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        callers.push(tokio::spawn(async move {
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                let was_kept = kept.is_some();
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => match TcpStream::connect(address).await {
                        Ok(stream) => stream,
                        Err(_) => continue,
                    },
                };
                let written = stream.write_all(post("/pay/7", "{}").as_bytes()).await;
                let head = read_head(&mut stream).await;
                if !was_kept && (written.is_err() || head.is_empty()) {
                    continue;
                }
                let answer = head + &read_until(&mut stream, "ok").await;
                assert!(answer.ends_with("ok"), "a request is lost: {answer:?}");
                served.fetch_add(1, Ordering::Relaxed);
                if keeps && !answer.contains("connection: close") {
                    kept = Some(stream);
                }
            }
        }));
    }
    for _ in 0..3 {
        let new = start_with(backend, |config| {
            share(config);
            config.listen_addresses = vec![address];
        });
        let goal = served.load(Ordering::Relaxed) + 50;
        let going = testkit::wait::until("requests to go on", async || {
            anyhow::ensure!(served.load(Ordering::Relaxed) >= goal);
            Ok(())
        });
        going.await.unwrap();
        assert!(std::mem::replace(&mut old, new).proxy.drain().await, "something was cut");
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}
