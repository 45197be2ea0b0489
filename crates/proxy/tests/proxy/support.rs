//! A proxy with a recorder of its own, backends in a few lines, and clients that speak raw TCP.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use txnscope::Metrics;
use txnscope_proxy::{Config, Operations, Proxy, UpstreamAddress};

pub(crate) const PAY: &str = "POST /pay/{id}";

/// The operations of most tests.
pub(crate) const OPERATIONS: &str = r#"
[[operation]]
name = "POST /pay/{id}"
[[operation.rejected]]
status = 400
json = "/message"
prefix = "Insufficient balance"
reason = "insufficient_balance"

[[operation]]
name = "GET /pay/{id}"
"#;

pub(crate) type AnyBody = Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>;

/// The usual number, or that of the long form, which `TXNSCOPE_PROXY_SOAK` selects: docs/reliability.md has its results.
pub(crate) fn scaled<N>(usual: N, soak: N) -> N {
    if std::env::var_os("TXNSCOPE_PROXY_SOAK").is_some() { soak } else { usual }
}

/// A proxy, what it has counted, and where it is.
pub(crate) struct Running {
    pub(crate) proxy: Proxy,
    pub(crate) metrics: Metrics,
    pub(crate) address: SocketAddr,
}

/// A proxy in front of that backend, which counts [`OPERATIONS`].
pub(crate) fn start(upstream: SocketAddr) -> Running {
    start_with(upstream, |_| {})
}

pub(crate) fn start_with(upstream: SocketAddr, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(UpstreamAddress::http(upstream));
    config.operations = operations(OPERATIONS);
    config.drain_timeout = Duration::from_secs(20);
    // Callers and backends share the processor with the proxy: on a busy one they may take longer than the defaults allow.
    config.limits.head_timeout = testkit::wait::LIMIT;
    config.upstream_settings.connect_timeout = testkit::wait::LIMIT;
    change(&mut config);
    let metrics = Metrics::isolated().unwrap();
    let proxy = Proxy::start(config, &metrics).unwrap();
    let address = proxy.addresses()[0];
    Running { proxy, metrics, address }
}

pub(crate) fn operations(text: &str) -> Operations {
    Operations::parse(Path::new("operations.toml"), text).unwrap()
}

impl Running {
    /// The sum of the series of that name whose labels hold all of these.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = self.metrics.render();
        let wanted: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        page.lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "))
            .filter(|(labels, _)| wanted.iter().all(|wanted| labels.contains(wanted)))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    pub(crate) fn attempts(&self, operation: &str) -> f64 {
        self.sum("transaction_attempts_total", &[("operation", operation)])
    }

    pub(crate) fn in_flight(&self, operation: &str) -> f64 {
        self.sum("concurrent_operations", &[("operation", operation)])
    }

    pub(crate) fn ended(&self, operation: &str, outcome: &str) -> f64 {
        self.sum("transaction_duration_seconds_count", &[("operation", operation), ("outcome", outcome)])
    }

    pub(crate) fn failures(&self, operation: &str, outcome: &str, reason: &str) -> f64 {
        let labels = [("operation", operation), ("outcome", outcome), ("reason", reason)];
        self.sum("transaction_failures_total", &labels)
    }

    /// Waits until this number of operations has ended in that way, and none is in flight.
    pub(crate) async fn wait_for(&self, operation: &str, outcome: &str, count: f64) {
        let waited = testkit::wait::until("operations to end", async || {
            let (ended, in_flight) = (self.ended(operation, outcome), self.in_flight(operation));
            anyhow::ensure!(ended == count && in_flight == 0.0, "{ended} ended, {in_flight} in flight");
            Ok(())
        });
        waited.await.unwrap();
    }

    /// Waits until nothing is in flight. Then each operation that has begun has ended once, in one of these ways: succeeded,
    /// rejected, failed, cancelled, panicked.
    pub(crate) async fn outcomes(&self, operation: &str) -> [f64; 5] {
        let waited = testkit::wait::until("everything to end", async || {
            let in_flight = self.in_flight(operation);
            anyhow::ensure!(in_flight == 0.0, "{in_flight} in flight");
            Ok(())
        });
        waited.await.unwrap();
        let outcomes = ["succeeded", "rejected", "failed", "cancelled", "panicked"];
        let counts = outcomes.map(|outcome| self.ended(operation, outcome));
        assert_eq!(counts.iter().sum::<f64>(), self.attempts(operation), "{counts:?}");
        assert_eq!(counts[4], 0.0, "something has panicked");
        counts
    }

    /// Connects, sends those bytes, and reads until the connection is closed or a whole answer is there.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        raw(self.address, request).await
    }
}

/// A backend: what it answers to each request.
pub(crate) async fn backend<F, Fut>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<AnyBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// A backend that has one answer, whatever it is asked.
pub(crate) async fn fixed(status: u16, content_type: &'static str, body: &'static str) -> SocketAddr {
    backend(move |request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        Response::builder().status(status).header("content-type", content_type).body(full(body)).unwrap()
    })
    .await
}

pub(crate) fn full(body: impl Into<Bytes>) -> AnyBody {
    Box::pin(Full::new(body.into()))
}

/// A body whose frames are sent through the channel.
pub(crate) fn channel() -> (mpsc::Sender<Frame<Bytes>>, AnyBody) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (Ok::<_, Infallible>(frame), receiver))
    });
    (sender, Box::pin(StreamBody::new(frames)))
}

/// A backend whose answers have a body of frames: it sends the test a channel for each request's answer.
pub(crate) async fn streaming_backend() -> (SocketAddr, mpsc::Receiver<mpsc::Sender<Frame<Bytes>>>) {
    let (sender, receiver) = mpsc::channel(1);
    let address = backend(move |_: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (frames, body) = channel();
            sender.send(frames).await.unwrap();
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }
    })
    .await;
    (address, receiver)
}

/// A backend of raw TCP: what becomes of each connection.
pub(crate) async fn raw_backend<F, Fut>(script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

/// Reads until those bytes have come; what was read. Empty if the other side closes before.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0; 1];
    while !read.ends_with(end.as_bytes()) {
        match timeout(testkit::wait::LIMIT, stream.read(&mut byte)).await.expect("nothing comes") {
            Ok(1) => read.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    read_until(stream, "\r\n\r\n").await
}

/// What comes until the other side closes.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset ends it, too.
    let _ = timeout(testkit::wait::LIMIT, stream.read_to_end(&mut read)).await.expect("it is never closed");
    String::from_utf8_lossy(&read).into_owned()
}

/// An answer by its `Content-Length`.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> String {
    let head = read_head(stream).await;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, length)| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    timeout(testkit::wait::LIMIT, stream.read_exact(&mut body)).await.expect("no body").unwrap();
    head + &String::from_utf8_lossy(&body)
}

/// Sends those bytes, and returns the answer to them.
pub(crate) async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request.as_ref()).await;
    read_answer(&mut stream).await
}

pub(crate) fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n{body}")
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// A connection by HTTP/1.1 of hyper's.
pub(crate) async fn client(address: SocketAddr) -> hyper::client::conn::http1::SendRequest<AnyBody> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// A connection by HTTP/2, with prior knowledge.
pub(crate) async fn client_http2(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<AnyBody> {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn bytes<B>(body: B) -> Result<Bytes, Box<dyn Error + Send + Sync>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let collected = timeout(testkit::wait::LIMIT, body.collect()).await.expect("the body never ends");
    Ok(collected.map_err(Into::into)?.to_bytes())
}
