//! Connections that are kept and not used cost little.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;
use crate::{ALONE, resident};

const CONNECTIONS: usize = 512;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_idle_connections_take_less_than_10_megabytes() {
    let _alone = ALONE.lock().await;
    let running = start(fixed(200, "text/plain", "ok").await);
    assert!(running.raw(post("/pay/7", "{}")).await.ends_with("ok"));
    let before = resident();
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(post("/pay/7", "{}").as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.ends_with("ok"));
        kept.push(stream);
    }
    let grown = resident().saturating_sub(before);
    println!("{CONNECTIONS} idle connections: {grown} bytes");
    assert!(grown < 10 << 20, "memory has grown by {grown} bytes");
}
