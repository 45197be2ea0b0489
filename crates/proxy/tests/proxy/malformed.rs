//! Malformed input from both sides: nothing panics, and what is counted adds up.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

/// The usual number of rounds, and that of the long form.
const ROUNDS: (u32, u32) = (150, 20_000);

/// The same bytes with some of them changed, removed, doubled or cut off.
fn mutated(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    const CORRUPT_BYTES: &[u8] = b"\r\n\0 \t:;,\x7f\xff0-+fZ";
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        let corrupt = CORRUPT_BYTES[random.random_range(0..CORRUPT_BYTES.len())];
        match random.random_range(0..5) {
            0 => bytes[at] = corrupt,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, corrupt),
            3 => bytes.truncate(at),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_answers_of_a_backend_are_counted_once_each() {
    const ANSWERS: [&str; 3] = [
        "HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"message\":\"no\"}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\nconnection: close, x\r\nx: y\r\n\r\n",
    ];
    let seed = std::sync::atomic::AtomicU64::new(0);
    let backend = raw_backend(move |mut stream| {
        let seed = seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let mut random = StdRng::seed_from_u64(seed);
            read_until(&mut stream, "{}").await;
            let answer = ANSWERS[random.random_range(0..ANSWERS.len())];
            let _ = stream.write_all(&mutated(answer.as_bytes(), &mut random)).await;
        }
    })
    .await;
    let running = start(backend);
    let rounds = scaled(ROUNDS.0, ROUNDS.1);
    for _ in 0..rounds {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let request = post("/pay/7", "{}").replace("host:", "connection: close\r\nhost:");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        // Nothing is there if the backend broke off before the answer's head was written.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer:?}");
    }
    running.outcomes(PAY).await;
    assert_eq!(running.attempts(PAY), f64::from(rounds));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_do_not_affect_other_clients() {
    let running = start(fixed(200, "text/plain", "ok").await);
    let requests = [
        post("/pay/7", "{}"),
        "POST /pay/7 HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n".to_owned(),
        "GET /pay/7 HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01abcde".to_owned(),
    ];
    for seed in 0..scaled(ROUNDS.0, ROUNDS.1) {
        let mut random = StdRng::seed_from_u64(seed.into());
        let request = &requests[random.random_range(0..requests.len())];
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let _ = stream.write_all(&mutated(request.as_bytes(), &mut random)).await;
        // Some wait for an answer to what they have not finished; all leave.
        let _ = stream.shutdown().await;
        read_all(&mut stream).await;
        if seed % 10 == 0 {
            assert!(running.raw(post("/pay/7", "{}")).await.ends_with("ok"));
        }
    }
    running.outcomes(PAY).await;
}
