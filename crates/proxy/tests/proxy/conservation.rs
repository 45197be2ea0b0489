//! Whatever callers do: what has begun has ended, once.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::*;

/// The usual number of callers, and that of the long form.
const CALLERS: (u64, u64) = (200, 10_000);

/// The most who are connected at once, so that no one waits for as long as a time limit on a busy machine.
const AT_ONCE: usize = 500;

/// A backend whose answer is the body of the request.
pub(crate) async fn echo() -> std::net::SocketAddr {
    backend(|request: Request<Incoming>| async move {
        match request.into_body().collect().await {
            Ok(body) => Response::new(full(body.to_bytes())),
            Err(_) => Response::builder().status(400).body(full("")).unwrap(),
        }
    })
    .await
}

/// Each sends a body, and leaves at some point or reads the answer, which is the body again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_ends_once_while_callers_leave_at_random() {
    let running = start(echo().await);
    let address = running.address;
    let mut callers = tokio::task::JoinSet::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for seed in 0..scaled(CALLERS.0, CALLERS.1) {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        callers.spawn(async move {
            let _place = place;
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
    let counts = running.outcomes(PAY).await;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let whole = whole as f64;
    assert!(counts[0] >= whole && whole > 0.0, "{whole} were read whole: {counts:?}");
    assert!(counts[3] > 0.0 && counts[2] == 0.0, "{counts:?}");
    assert_eq!(running.failures(PAY, "cancelled", "cancelled"), counts[3]);
}

/// Who sends and reads in small pieces, with pauses, is served like others, and holds up none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_and_writers_get_unaltered_bodies() {
    let running = start(echo().await);
    let address = running.address;
    let mut callers = tokio::task::JoinSet::new();
    for seed in 0..scaled(20, 1_000) {
        callers.spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut body = vec![0; random.random_range(1..200_000)];
            random.fill_bytes(&mut body);
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut reading, mut writing) = stream.into_split();
            let length = body.len();
            let head = format!("POST /pay/{seed} HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n");
            writing.write_all(head.as_bytes()).await.unwrap();
            let pieces = (length / 20).max(1);
            let pauses = scaled(2, 100);
            let sent = async {
                for piece in body.chunks(pieces) {
                    writing.write_all(piece).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(pauses)).await;
                }
            };
            let read = async {
                let mut answer = Vec::new();
                let mut piece = vec![0; pieces];
                while !answer.ends_with(&body[length.saturating_sub(32)..]) {
                    let read = tokio::io::AsyncReadExt::read(&mut reading, &mut piece).await.unwrap();
                    assert!(read > 0, "the answer is cut off");
                    answer.extend_from_slice(&piece[..read]);
                    tokio::time::sleep(Duration::from_millis(pauses)).await;
                }
                answer
            };
            let ((), answer) = tokio::join!(sent, read);
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
            assert_eq!(Sha256::digest(&answer[answer.len() - length..]), Sha256::digest(&body));
        });
    }
    let count = callers.len();
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let count = count as f64;
    assert_eq!(running.outcomes(PAY).await, [count, 0.0, 0.0, 0.0, 0.0]);
}
