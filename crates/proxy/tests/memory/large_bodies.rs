//! Large bodies pass in pieces: unchanged, and with little memory.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use crate::support::*;
use crate::{ALONE, resident};

const PIECE: usize = 64 * 1024;
/// 64 MB each way, and 1 GB in the long form.
fn pieces() -> usize {
    scaled(1_024, 16_384)
}

fn piece(n: usize) -> Bytes {
    let mut piece = vec![u8::try_from(n % 251).unwrap(); PIECE];
    piece[..8].copy_from_slice(&(n as u64).to_be_bytes());
    piece.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways_unchanged_in_little_memory() {
    let _alone = ALONE.lock().await;
    let backend = backend(|request: Request<Incoming>| async move {
        let (frames, body) = channel();
        tokio::spawn(async move {
            let mut request = request.into_body();
            while let Some(Ok(frame)) = request.frame().await {
                if frames.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Response::new(body)
    })
    .await;
    let running = start(backend);
    let mut client = client(running.address).await;
    let (frames, body) = channel();
    let sent = tokio::spawn(async move {
        let mut sum = Sha256::new();
        for n in 0..pieces() {
            let piece = piece(n);
            sum.update(&piece);
            frames.send(Frame::data(piece)).await.unwrap();
        }
        sum.finalize()
    });
    let before = resident();
    let request = Request::post("/pay/7").header("host", "shop").body(body).unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    let (mut sum, mut length, mut most) = (Sha256::new(), 0, 0);
    while let Some(frame) = answer.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        length += data.len();
        sum.update(&data);
        most = most.max(resident());
    }
    assert_eq!(length, PIECE * pieces());
    assert_eq!(sum.finalize(), sent.await.unwrap());
    // Client, proxy and backend together.
    let grown = most.saturating_sub(before);
    println!("{length} bytes both ways: {grown} bytes");
    assert!(grown < 60 << 20, "memory has grown by {grown} bytes");
    running.wait_for(PAY, "succeeded", 1.0).await;
}

/// Back-pressure: who does not read holds up the backend, and nothing piles up in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_does_not_read_holds_up_the_backend() {
    let _alone = ALONE.lock().await;
    let (backend, mut receiver) = streaming_backend().await;
    let running = start(backend);
    let mut client = client(running.address).await;
    let request = Request::post("/pay/7").header("host", "shop").body(full("{}")).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let frames = receiver.recv().await.unwrap();
    let mut passed = 0;
    let stuck = std::time::Duration::from_millis(500);
    while let Ok(Ok(())) = tokio::time::timeout(stuck, frames.send(Frame::data(piece(passed)))).await {
        passed += 1;
        assert!(passed < pieces(), "everything is taken, though the client does not read");
    }
    drop(frames);
    assert_eq!(bytes(answer.into_body()).await.unwrap().len(), PIECE * passed);
    running.wait_for(PAY, "succeeded", 1.0).await;
}
