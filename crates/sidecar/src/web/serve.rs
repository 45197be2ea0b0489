//! Connection handling: TLS, deadlines, and graceful shutdown.
//!
//! A slow client costs one connection until a deadline, and delays no other client. There are deadlines for the
//! first request including the handshake, for each further request, and for reading a response. The number of
//! connections is limited in [`connections`](super::connections).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessControl;
use super::connections::{Connection, Connections, Deadlines, Limits};
use super::policy::WebPolicy;
use super::stream::{TrackedBody, TrackedStream};

/// The delay after the system has refused to accept a connection, for example for lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The maximum size of a request head. Browsers send no more.
const MAX_HEAD: usize = 16 * 1024;

/// The state shared by all listeners.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(super) router: Router,
    pub(super) access: Arc<AccessControl>,
    pub(super) deadlines: Deadlines,
    pub(super) connections: Arc<Connections>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Server {
    pub(super) fn new(
        router: Router,
        access: Arc<AccessControl>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let connections = Arc::new(Connections::new(Limits::from_process()));
        Self { router, access, deadlines: Deadlines::default(), connections, tasks, stop }
    }

    /// Accepts connections until it is stopped. Each connection is a task.
    pub(crate) async fn run(self, listener: TcpListener) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.accept(listener)).await;
    }

    async fn accept(self, listener: TcpListener) {
        let is_local = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        let mut refused = false;
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    refused = false;
                    let Some(permit) = self.connections.accept(from.ip(), is_local, &self.stop) else {
                        tracing::debug!(client = %from.ip(), "too many connections that wait for an answer");
                        continue;
                    };
                    let server = self.clone();
                    self.tasks.spawn(async move {
                        let why = tokio::select! {
                            () = server.connection(stream, &permit.connection) => return,
                            why = permit.connection.overdue(&server.deadlines) => why,
                        };
                        tracing::debug!(client = %permit.connection.peer, why, "a connection is closed");
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut refused, true) {
                        tracing::warn!(%error, "the system refuses connections");
                    }
                    self.connections.evict_one();
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, connection: &Arc<Connection>) {
        // A page has more than one segment: the last must not wait for the acknowledgment of the first.
        let _ = stream.set_nodelay(true);
        // A connection is bound to the TLS settings under which it was accepted.
        let policy = self.access.policy();
        match policy.tls() {
            None => self.http(stream, connection, &policy).await,
            Some(config) => {
                let handshake = TlsAcceptor::from(config).accept(stream);
                match self.stop.run_until_cancelled(handshake).await {
                    Some(Ok(stream)) => self.http(stream, connection, &policy).await,
                    Some(Err(error)) => tracing::debug!(%error, "a TLS handshake has failed"),
                    None => {}
                }
            }
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: &Arc<Connection>,
        policy: &WebPolicy,
    ) {
        let router = TowerToHyperService::new(self.router.clone());
        let ours = Arc::clone(connection);
        let service = service_fn(move |mut request: Request<Incoming>| {
            ours.begin();
            request.extensions_mut().insert(Arc::clone(&ours));
            let (answer, connection) = (router.call(request), Arc::clone(&ours));
            async move {
                let answer = answer.await?;
                connection.respond();
                Ok::<_, std::convert::Infallible>(answer.map(|body| TrackedBody { body, connection }))
            }
        });
        let mut served = http1::Builder::new();
        served.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        let stream = TrackedStream { stream, connection: Arc::clone(connection) };
        let served = served.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(served);
        let ended = tokio::select! {
            // The order matters: requests after a change are not served under the old TLS settings.
            biased;
            () = self.stop.cancelled() => None,
            () = policy.tls_superseded() => None,
            ended = served.as_mut() => Some(ended),
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection has ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::config::Config;
    use crate::reload::ReloadStatus;

    const SOON: Duration = Duration::from_millis(200);

    /// The number of streams that were dropped before their end.
    static STUCK: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    struct Unfinished(usize);

    impl Drop for Unfinished {
        fn drop(&mut self) {
            STUCK.fetch_add(usize::from(self.0 > 0), std::sync::atomic::Ordering::SeqCst);
        }
    }

    async fn events(
        connection: axum::Extension<Arc<Connection>>,
        count: usize,
        event: axum::body::Bytes,
        pause: Duration,
    ) -> axum::body::Body {
        connection.stream();
        let left = Unfinished(count);
        let stream = futures_util::stream::unfold(left, move |mut left| {
            let event = event.clone();
            async move {
                left.0 = left.0.checked_sub(1)?;
                tokio::time::sleep(pause).await;
                Some((Ok::<_, std::convert::Infallible>(event), left))
            }
        });
        axum::body::Body::from_stream(stream)
    }

    async fn serve(places: usize, deadlines: Deadlines) -> (std::net::SocketAddr, CancellationToken) {
        let router = Router::new().route("/", get(|| async { "here" }));
        let router = router.route("/much", get(|| async { vec![b'x'; 64 << 20] }));
        let router = router.route("/events", get(|connection| events(connection, 10, "event".into(), SOON)));
        let much = || axum::body::Bytes::from(vec![b'x'; 1 << 20]);
        let router = router.route(
            "/events/much",
            get(move |connection| events(connection, usize::MAX, much(), Duration::ZERO)),
        );
        let config = Config { max_requests: 0, ..Config::default() };
        let access = AccessControl::new(&config, Arc::default(), Arc::new(ReloadStatus::new())).unwrap();
        let access = Arc::new(access);
        let stop = CancellationToken::new();
        let mut server = Server::new(router, access, TaskTracker::new(), stop.clone());
        server.deadlines = deadlines;
        server.connections = Arc::new(Connections::new(Limits { all: places, per_client: places }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.run(listener));
        (address, stop)
    }

    /// An event stream may go on for longer than any response; its client has to read.
    #[tokio::test]
    async fn event_stream_has_the_deadline_for_each_event_only() {
        let deadlines = Deadlines { response: SOON, idle: SOON, ..Deadlines::default() };
        let (address, _stop) = serve(8, deadlines).await;
        let mut viewer = TcpStream::connect(address).await.unwrap();
        viewer.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(b"GET /events/much HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut events = Vec::new();
        // After its end, the connection is idle and closed.
        timeout(testkit::wait::LIMIT, viewer.read_to_end(&mut events)).await.expect("still open").unwrap();
        let events = String::from_utf8(events).unwrap();
        assert_eq!(events.matches("event").count(), 10, "{events}");
        assert!(events.ends_with("0\r\n\r\n"), "{events}");
        let wait = async {
            while STUCK.load(std::sync::atomic::Ordering::SeqCst) == 0 {
                tokio::time::sleep(SOON / 10).await;
            }
        };
        timeout(testkit::wait::LIMIT, wait).await.expect("a viewer that does not read is not cut off");
        drop(stuck);
    }

    async fn request(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn slow_request_times_out_and_does_not_block_others() {
        let (address, _stop) = serve(8, Deadlines { first_head: SOON, ..Deadlines::default() }).await;
        let mut slow = Vec::new();
        for head in ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\nx: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        assert!(request(address).await.ends_with("here"), "slow clients delay others");
        for mut stream in slow {
            let mut rest = Vec::new();
            // Closed or reset.
            let _ = timeout(testkit::wait::LIMIT, stream.read_to_end(&mut rest)).await.expect("still open");
        }
    }

    /// A client that reads slowly is treated like one that does not read.
    #[tokio::test]
    async fn slow_reader_is_disconnected() {
        let (address, _stop) = serve(8, Deadlines { response: SOON, ..Deadlines::default() }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let (mut taken, mut piece) = (0, [0; 64]);
        let reading = async {
            while let Ok(read @ 1..) = slow.read(&mut piece).await {
                taken += read;
                // Until the sidecar has closed the connection; the system's buffers are read to the end then.
                if taken < 64 * 100 {
                    tokio::time::sleep(SOON / 50).await;
                }
            }
        };
        timeout(testkit::wait::LIMIT, reading).await.expect("it is not cut off");
        assert!(taken < 64 << 20, "all of it was taken");
    }

    #[tokio::test]
    async fn new_connection_evicts_one_that_does_not_read() {
        let (address, _stop) = serve(1, Deadlines::default()).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut piece = [0; 64];
        assert!(stuck.read(&mut piece).await.unwrap() > 0, "the answer has begun");
        let answer = timeout(testkit::wait::LIMIT, request(address)).await.expect("the place is never free");
        assert!(answer.ends_with("here"), "{answer}");
    }

    /// A kept connection has a longer deadline than one without any request.
    #[tokio::test]
    async fn answered_connection_is_kept_alive() {
        let deadlines = Deadlines { first_head: SOON, ..Deadlines::default() };
        let (address, _stop) = serve(8, deadlines).await;
        let mut kept = TcpStream::connect(address).await.unwrap();
        let mut silent = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 1024];
            let read = kept.read(&mut answer).await.unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
            let mut rest = Vec::new();
            let _ =
                timeout(testkit::wait::LIMIT, silent.read_to_end(&mut rest)).await.expect("it stays open");
        }
    }

    #[tokio::test]
    async fn idle_connection_does_not_block_shutdown() {
        let (address, stop) = serve(8, Deadlines::default()).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(request(address).await.ends_with("here"));
        stop.cancel();
        let mut rest = Vec::new();
        timeout(testkit::wait::LIMIT, idle.read_to_end(&mut rest)).await.expect("it stays open").unwrap();
        assert!(rest.is_empty());
    }
}
