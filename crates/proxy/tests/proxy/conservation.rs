//! Whatever callers do: what has begun has ended, once.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

const CALLERS: u64 = 200;

/// Each sends a body, and leaves at some point or reads the answer, which is the body again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_ends_once_while_callers_leave_at_random() {
    let backend = backend(|request: Request<Incoming>| async move {
        match request.into_body().collect().await {
            Ok(body) => Response::new(full(body.to_bytes())),
            Err(_) => Response::builder().status(400).body(full("")).unwrap(),
        }
    })
    .await;
    let running = start(backend);
    let address = running.address;
    let mut callers = tokio::task::JoinSet::new();
    for seed in 0..CALLERS {
        callers.spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut whole = 0_u64;
            for _ in 0..3 {
                let length = random.random_range(0..50_000);
                let mut body = vec![0; length];
                random.fill_bytes(&mut body);
                let mut stream = TcpStream::connect(address).await.unwrap();
                let head =
                    format!("POST /pay/{seed} HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n");
                let mut bytes = head.into_bytes();
                bytes.extend_from_slice(&body);
                let leaves = random.random_range(0..4);
                if leaves == 0 {
                    bytes.truncate(random.random_range(0..=bytes.len()));
                }
                if stream.write_all(&bytes).await.is_err() || leaves == 0 {
                    continue;
                }
                if leaves == 1 {
                    tokio::time::sleep(Duration::from_micros(random.random_range(0..5_000))).await;
                    continue;
                }
                let answer_head = read_head(&mut stream).await;
                assert_eq!(status(&answer_head), 200);
                let mut answer = vec![0; length];
                if leaves == 2 && length > 0 {
                    answer.truncate(random.random_range(0..length));
                }
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
                if answer.len() == length {
                    assert_eq!(Sha256::digest(&answer), Sha256::digest(&body), "the body is altered");
                    whole += 1;
                }
            }
            whole
        });
    }
    let mut whole = 0;
    while let Some(caller) = callers.join_next().await {
        whole += caller.unwrap();
    }
    let ended = testkit::wait::until("everything to end", async || {
        let in_flight = running.in_flight(PAY);
        anyhow::ensure!(in_flight == 0.0, "{in_flight} in flight");
        Ok(())
    });
    ended.await.unwrap();
    let counts: Vec<_> = ["succeeded", "rejected", "failed", "cancelled", "panicked"]
        .iter()
        .map(|outcome| running.ended(PAY, outcome))
        .collect();
    assert_eq!(counts.iter().sum::<f64>(), running.attempts(PAY), "{counts:?}");
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let whole = whole as f64;
    assert!(counts[0] >= whole && whole > 0.0, "{whole} were read whole: {counts:?}");
    assert!(counts[3] > 0.0 && counts[2] == 0.0 && counts[4] == 0.0, "{counts:?}");
    assert_eq!(running.failures(PAY, "cancelled", "cancelled"), counts[3]);
}
