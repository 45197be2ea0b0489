//! Clients that hold connections, against a server with few connections and short deadlines.

use std::time::Duration;

use axum::routing::{get, post};
use testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_millis(200);
/// Longer than any test, so that no deadline ends a connection.
const NEVER: Duration = Duration::from_secs(24 * 3_600);
const ENDLESS: Deadlines = Deadlines { head: NEVER, answer: NEVER, last_response: NEVER };
/// More than the system buffers for a client that does not read.
const MUCH: usize = 64 << 20;

struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Signals that a request has arrived at `/wait`.
    came: Arc<Notify>,
    /// Releases the requests that wait there.
    go: Arc<Notify>,
}

impl Serving {
    async fn start(most: usize, deadlines: Deadlines) -> Self {
        let (came, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let waits = {
            let (came, go) = (Arc::clone(&came), Arc::clone(&go));
            move || async move {
                came.notify_one();
                go.notified().await;
                "waited"
            }
        };
        let router = Router::new()
            .route(
                "/",
                get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
            )
            .route("/much", get(|| async { vec![b'x'; MUCH] }))
            .route("/wait", post(waits));
        let (stop, listener) = (CancellationToken::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let connections = Connections { router, most, deadlines, stop: stop.clone() };
        Self { address, stop, task: tokio::spawn(connections.serve(listener)), came, go }
    }

    async fn send_text(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// A request that is being handled.
    async fn waits(&self) -> TcpStream {
        let stream = self.send_text("POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        timeout(wait::LIMIT, self.came.notified()).await.expect("the request must arrive");
        stream
    }

    async fn answers(&self) {
        let mut stream = self.send_text("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let answer = rest(&mut stream).await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }

    async fn ends(self) {
        self.stop.cancel();
        timeout(wait::LIMIT, self.task).await.expect("the server must stop").unwrap();
    }
}

/// All bytes until the connection is closed or reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ =
        timeout(wait::LIMIT, stream.read_to_end(&mut bytes)).await.expect("the connection must be closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn until_answered(stream: &mut TcpStream) {
    let mut first = [0; 1];
    timeout(wait::LIMIT, stream.read_exact(&mut first)).await.expect("no answer").unwrap();
}

const HEADS: [&str; 3] = ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\nx: "];

#[tokio::test]
async fn slow_head_and_idle_connection_are_closed() {
    let serving = Serving::start(100, Deadlines { head: SOON, ..ENDLESS }).await;
    let mut slow = Vec::new();
    for head in HEADS {
        slow.push(serving.send_text(head).await);
    }
    let mut kept = serving.send_text("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until_answered(&mut kept).await;
    slow.push(kept);
    serving.answers().await;
    for stream in &mut slow {
        rest(stream).await;
    }
    serving.ends().await;
}

#[tokio::test]
async fn longest_idle_connection_is_evicted_for_new_one() {
    let serving = Serving::start(3, ENDLESS).await;
    let mut used = serving.send_text("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until_answered(&mut used).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(serving.send_text("GET").await);
    }
    serving.answers().await;
    // The most recent connections may still be open, all others must be closed.
    rest(&mut used).await;
    for stream in &mut idle[..17] {
        rest(stream).await;
    }
    serving.ends().await;
}

#[tokio::test]
async fn active_connection_is_not_evicted() {
    let serving = Serving::start(2, ENDLESS).await;
    let mut asked = serving.waits().await;
    for _ in 0..20 {
        serving.answers().await;
    }
    serving.go.notify_one();
    until_answered(&mut asked).await;
    drop(asked);
    serving.ends().await;
}

#[tokio::test]
async fn client_that_reads_nothing_is_disconnected() {
    let serving = Serving::start(1, Deadlines { answer: SOON, ..ENDLESS }).await;
    let mut stuck = serving.send_text("GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until_answered(&mut stuck).await;
    // The only connection has an active request, and no idle connection can be evicted.
    serving.answers().await;
    assert!(
        rest(&mut stuck).await.len() < MUCH,
        "the client must be disconnected before it has received everything"
    );
    serving.ends().await;
}

/// The client makes progress with each chunk, and yet would never finish.
#[tokio::test]
async fn client_that_reads_slowly_is_disconnected() {
    let serving = Serving::start(1, Deadlines { answer: SOON, ..ENDLESS }).await;
    let mut slow = serving.send_text("GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let trickle = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(1..) = slow.read(&mut piece).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(serving.answers(), async {
        timeout(wait::LIMIT, trickle).await.expect("the client must be disconnected");
    });
    serving.ends().await;
}

#[tokio::test]
async fn shutdown_answers_received_requests_only() {
    let serving = Serving::start(100, ENDLESS).await;
    let mut others = Vec::new();
    for head in HEADS {
        others.push(serving.send_text(head).await);
    }
    let mut kept = serving.send_text("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until_answered(&mut kept).await;
    others.push(kept);
    let mut asked = serving.waits().await;
    serving.stop.cancel();
    for stream in &mut others {
        rest(stream).await;
    }
    serving.go.notify_one();
    let answer = rest(&mut asked).await;
    assert!(answer.ends_with("waited"), "{answer:?}");
    serving.ends().await;
}

#[tokio::test]
async fn client_that_reads_nothing_does_not_block_shutdown() {
    let serving = Serving::start(100, Deadlines { last_response: SOON, ..ENDLESS }).await;
    let mut stuck = serving.send_text("GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until_answered(&mut stuck).await;
    serving.ends().await;
}
