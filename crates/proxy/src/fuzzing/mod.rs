//! Entry points for fuzzers. Not part of the public API.
//!
//! Everything between a caller's connection and that of the backend runs in memory, in one thread. After each input, every
//! request is counted once and none is in flight; what has reached the other side is read by a strict reader of its own.

mod reader;

use std::cell::{OnceCell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer as _;
use txnscope::{Metrics, TransactionLayer};

use crate::body::ResponseBody;
use crate::config::{ForwardedPolicy, Kind, Limits, UpstreamAddress, UpstreamSettings};
use crate::connection::Activity;
use crate::event_loop::EventLoop;
use crate::exchange::{Classifier, Exchange};
use crate::forwarded::Caller;
use crate::learn::Learner;
use crate::operations::Operations;
use crate::serve::Server;
use crate::tunnel::Tunnels;
use crate::upstream::{Connector, Upstream};

const OPERATIONS: &str = r#"
unmatched = true
[[operation]]
name = "POST /pay/{id}"
[[operation.rejected]]
status = 400
json = "/message"
prefix = "Insufficient balance"
reason = "insufficient_balance"
[[rejected]]
header = "x-code"
equals = "7"
reason = "seven"
"#;

/// What asks for the answers of a malformed backend.
const REQUESTS: [&str; 3] = [
    "POST /pay/7 HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\n{}",
    "HEAD /pay/7 HTTP/1.1\r\nhost: shop\r\nx: {}\r\n\r\n",
    "GET /pay/7 HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: websocket\r\nx: {}\r\n\r\n",
];

/// Times for which every task that can go on does so.
const STEPS: usize = 60;

const ROOM: usize = 64 * 1024;

/// The bytes of a caller, to a backend that answers each request. Returns the number of requests that have reached it.
///
/// # Panics
///
/// If what reaches the backend can be read in two ways, or a request is not counted once.
#[allow(clippy::must_use_candidate, reason = "a fuzzer waits for panics alone")]
pub fn request(bytes: &[u8]) -> usize {
    let Exchanged { backends, .. } = exchange(bytes, None);
    let connections = backends.len();
    for received in backends {
        if let Err(why) = reader::request(&received) {
            panic!("{why}: {}", received.escape_ascii());
        }
    }
    connections
}

/// The bytes of a backend, after the first, which chooses the request that they are the answer to. Returns whether the operation
/// has neither failed nor been cancelled.
///
/// # Panics
///
/// If what reaches the caller is no answer, is followed by something, or ends early though the operation did not fail; or if
/// the request is not counted once.
#[allow(clippy::must_use_candidate, reason = "a fuzzer waits for panics alone")]
pub fn answer(bytes: &[u8]) -> bool {
    let Some((first, bytes)) = bytes.split_first() else { return false };
    let request = REQUESTS[usize::from(*first) % REQUESTS.len()];
    let Exchanged { caller, failed, .. } = exchange(request.as_bytes(), Some(bytes));
    match reader::answer(&caller, request.starts_with("HEAD")) {
        Ok(reader::Answer::Whole | reader::Answer::Upgrade) => {}
        Ok(reader::Answer::BrokenOff) if failed > 0.0 => {}
        Ok(reader::Answer::BrokenOff) => panic!("an answer ends early: {}", caller.escape_ascii()),
        Err(why) => panic!("{why}: {}", caller.escape_ascii()),
    }
    failed == 0.0
}

/// What was sent, in the end.
struct Exchanged {
    caller: Vec<u8>,
    backends: Vec<Vec<u8>>,
    /// Failed and cancelled operations.
    failed: f64,
}

fn exchange(request: &[u8], answer: Option<&[u8]>) -> Exchanged {
    thread_local!(static PROXY: OnceCell<Memory> = const { OnceCell::new() });
    PROXY.with(|proxy| {
        let proxy = proxy.get_or_init(Memory::new);
        BACKEND.with_borrow_mut(|backend| {
            *backend = Backend { answer: answer.map(<[u8]>::to_vec), ..Backend::default() }
        });
        let before = proxy.counted();
        let (caller, backends) = proxy.runtime.block_on(async {
            let exchange = tokio::time::timeout(Duration::from_secs(8), proxy.exchange(request));
            exchange.await.expect("it never ends")
        });
        let after = proxy.counted();
        assert_eq!(after.begun - before.begun, after.ended - before.ended, "a request is not counted once");
        assert!(after.in_flight == 0.0 && after.panicked == 0.0, "{after:?}");
        Exchanged { caller, backends, failed: after.failed - before.failed }
    })
}

/// The proxy of a thread.
struct Memory {
    runtime: Runtime,
    server: Arc<Server>,
    metrics: Metrics,
}

/// Sums over all operations.
#[derive(Debug)]
struct Counted {
    begun: f64,
    ended: f64,
    in_flight: f64,
    failed: f64,
    panicked: f64,
}

impl Memory {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("the runtime must start");
        let metrics = Metrics::isolated().expect("it is the only recorder of its registry");
        let address = UpstreamAddress(Kind::Memory);
        // No connection is kept, so that each has one request.
        let settings = UpstreamSettings { max_idle: 0, ..UpstreamSettings::default() };
        let connector = Connector::new(&address, &settings).expect("memory needs no certificates");
        let upstream = Upstream::new(Arc::new(connector), &settings);
        let operations = Operations::parse(Path::new("operations.toml"), OPERATIONS).expect("a valid file");
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let layer = TransactionLayer::with_classifier_and_registry(Classifier, metrics.registry())
            .declare(operations.declarations());
        let tunnels = Tunnels { tasks: tasks.clone(), end: end.clone() };
        let learner = Some(Arc::new(Learner::new()));
        let policy = ForwardedPolicy::Replace;
        let exchange = Exchange::new(upstream, &address, settings, policy, Some(1 << 20), tunnels, learner);
        let limits = Limits { max_body: Some(1 << 20), ..Limits::default() };
        let drain = (CancellationToken::new(), end);
        let event_loops = vec![EventLoop::new(runtime.handle().clone(), layer.layer(exchange))];
        let server = Server::new(event_loops, operations, limits, Duration::from_secs(1), tasks, drain);
        Self { runtime, server: Arc::new(server), metrics }
    }

    /// What the caller and each connection to the backend have received.
    async fn exchange(&self, request: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut caller, own) = duplex(ROOM);
        let activity = Activity::new();
        let (server, busy) = (Arc::clone(&self.server), Arc::clone(&activity));
        let peer = Arc::new(Caller::new(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, peer, activity) = (Arc::clone(&server), Arc::clone(&peer), Arc::clone(&busy));
            async move { server.handle(&server.event_loops[0], request, &peer, &activity).await }
        });
        let protocol = self.server.http1();
        let served = async {
            let see = move |bytes: &[u8]| {
                if !bytes.is_empty() {
                    activity.read(bytes);
                }
            };
            let stream = TokioIo::new(Seen { stream: own, see });
            let _ = protocol.serve_connection(stream, service).with_upgrades().await;
        };
        let called = async {
            let mut received = Vec::new();
            let (mut reading, mut writing) = tokio::io::split(&mut caller);
            tokio::join!(
                async {
                    let _ = writing.write_all(request).await;
                    for _ in 0..STEPS {
                        yield_now().await;
                    }
                    let _ = writing.shutdown().await;
                },
                async { drop(reading.read_to_end(&mut received).await) }
            );
            received
        };
        let ((), received) = tokio::join!(served, called);
        drop(caller);
        let mut backends = Vec::new();
        while let Some(task) = BACKEND.with_borrow_mut(|backend| backend.tasks.pop()) {
            backends.push(task.await.expect("a backend does not panic"));
        }
        (received, backends)
    }

    fn counted(&self) -> Counted {
        let page = self.metrics.render();
        let sum = |name: &str, labels: &[&str]| -> f64 {
            page.lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "))
                .filter(|(found, _)| labels.is_empty() || labels.iter().any(|label| found.contains(label)))
                .filter_map(|(_, value)| value.parse::<f64>().ok())
                .sum()
        };
        let ended = "transaction_duration_seconds_count";
        Counted {
            begun: sum("transaction_attempts_total", &[]),
            ended: sum(ended, &[]),
            in_flight: sum("concurrent_operations", &[]),
            failed: sum(ended, &["outcome=\"failed\"", "outcome=\"cancelled\""]),
            panicked: sum(ended, &["outcome=\"panicked\""]),
        }
    }
}

/// A connection, of which something sees what is read.
struct Seen<F> {
    stream: DuplexStream,
    see: F,
}

impl<F: FnMut(&[u8]) + Unpin> AsyncRead for Seen<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        (self.see)(&buffer.filled()[before..]);
        polled
    }
}

impl<F: Unpin> AsyncWrite for Seen<F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

thread_local!(static BACKEND: RefCell<Backend> = RefCell::default());

/// What becomes of connections to the backend in this thread.
#[derive(Default)]
struct Backend {
    /// What it answers, whatever it is asked; a right answer to each request if there is none.
    answer: Option<Vec<u8>>,
    /// Each returns what it has received.
    tasks: Vec<JoinHandle<Vec<u8>>>,
}

/// A connection to the backend.
pub(crate) fn connect() -> DuplexStream {
    let (own, other) = duplex(ROOM);
    BACKEND.with_borrow_mut(|backend| {
        let answer = backend.answer.clone();
        backend.tasks.push(tokio::spawn(async move {
            match answer {
                Some(answer) => malformed(other, &answer).await,
                None => well_formed(other).await,
            }
        }));
    });
    own
}

async fn malformed(mut stream: DuplexStream, answer: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    while !received.windows(2).any(|pair| pair == b"{}") {
        match stream.read_buf(&mut received).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return received,
        }
    }
    let _ = stream.write_all(answer).await;
    received
}

async fn well_formed(stream: DuplexStream) -> Vec<u8> {
    let received = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&received);
    let see = move |bytes: &[u8]| {
        sees.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    };
    let service = service_fn(|request: Request<Incoming>| async move {
        let mut body = request.into_body();
        // An error ends it, too.
        while std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))
            .await
            .is_some_and(|frame| frame.is_ok())
        {}
        Ok::<_, Infallible>(Response::new(ResponseBody::text("ok")))
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(Seen { stream, see }), service)
        .await;
    std::mem::take(&mut *received.lock().unwrap_or_else(PoisonError::into_inner))
}
