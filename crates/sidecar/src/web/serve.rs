//! Connections: TLS, deadlines, and an orderly end.
//!
//! Who is slow costs a connection until a deadline, and nobody else anything: there is one for the handshake, one
//! for the headers of a request, and one for taking the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;

/// Connections that are open at once. More wait in the kernel's queue; file descriptors stay for MongoDB.
const MAX_CONNECTIONS: usize = 512;

/// How long we wait after the system has refused a connection, for want of file descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// What a request's head may take of memory. Browsers send no more.
const MAX_HEAD: usize = 64 * 1024;

/// How long whom may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(super) handshake: Duration,
    /// From the opening of the connection, or the end of the answer before, to the last line of the head. It also
    /// ends connections that are kept and not used.
    pub(super) head: Duration,
    /// Between two pieces of an answer that the caller takes.
    pub(super) write: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let of = Duration::from_secs;
        // Prometheus asks every 15 s, as it comes, and keeps its connection then.
        Self { handshake: of(10), head: of(30), write: of(30) }
    }
}

/// What the listeners share.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(super) router: Router,
    pub(super) access: Arc<Access>,
    pub(super) deadlines: Deadlines,
    pub(super) places: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Server {
    pub(super) fn new(
        router: Router,
        access: Arc<Access>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { router, access, deadlines: Deadlines::default(), places, tasks, stop }
    }

    /// Accepts until it is told to stop. Each connection is a task.
    pub(crate) async fn run(self, listener: TcpListener) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.accept(listener)).await;
    }

    async fn accept(self, listener: TcpListener) {
        let mut refused = false;
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    refused = false;
                    let server = self.clone();
                    self.tasks.spawn(async move {
                        server.connection(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut refused, true) {
                        tracing::warn!(%error, "the system refuses connections");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        // A page is more than one segment: the last is not to wait for the first's acknowledgement.
        let _ = stream.set_nodelay(true);
        let mut stream = Box::pin(TimeoutStream::new(stream));
        stream.as_mut().set_write_timeout_pinned(Some(self.deadlines.write));
        match self.access.rules().tls.clone() {
            None => self.http(stream).await,
            Some(config) => {
                let handshake = TlsAcceptor::from(config).accept(stream);
                let handshake = self.stop.run_until_cancelled(timeout(self.deadlines.handshake, handshake));
                match handshake.await {
                    Some(Ok(Ok(stream))) => self.http(stream).await,
                    Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake has failed"),
                    Some(Err(_)) => tracing::debug!("a TLS handshake took too long"),
                    None => {}
                }
            }
        }
    }

    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TowerToHyperService::new(self.router.clone());
        let mut connection = http1::Builder::new();
        connection.timer(TokioTimer::new()).header_read_timeout(self.deadlines.head).max_buf_size(MAX_HEAD);
        let connection = connection.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
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

    use super::*;
    use crate::reload::ReloadRecord;

    const SOON: Duration = Duration::from_millis(200);

    async fn serve(places: usize, deadlines: Deadlines) -> (std::net::SocketAddr, CancellationToken) {
        let router = Router::new().route("/", get(|| async { "here" }));
        let router = router.route("/much", get(|| async { vec![b'x'; 64 << 20] }));
        let access = Arc::new(Access::new(None, 0, Arc::new(ReloadRecord::new())).unwrap());
        let stop = CancellationToken::new();
        let mut server = Server::new(router, access, TaskTracker::new(), stop.clone());
        server.deadlines = deadlines;
        server.places = Arc::new(Semaphore::new(places));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.run(listener));
        (address, stop)
    }

    async fn asks(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn who_never_ends_his_request_is_cut_off_and_holds_up_nobody() {
        let (address, _stop) = serve(8, Deadlines { head: SOON, ..Deadlines::default() }).await;
        let mut slow = Vec::new();
        for head in ["", "GET", "GET / HTTP/1.1\r\nhost: x\r\nx: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        assert!(asks(address).await.ends_with("here"), "they hold up somebody");
        for mut stream in slow {
            let mut rest = Vec::new();
            // Closed or reset, and in any case over.
            let _ = timeout(testkit::wait::LIMIT, stream.read_to_end(&mut rest)).await.expect("still open");
        }
    }

    #[tokio::test]
    async fn who_takes_no_answer_is_cut_off_and_more_wait_their_turn() {
        let deadlines = Deadlines { head: SOON, write: SOON, ..Deadlines::default() };
        let (address, _stop) = serve(1, deadlines).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // The only place is taken until the deadline is over; whoever comes waits, and is answered then.
        let answer = timeout(testkit::wait::LIMIT, asks(address)).await.expect("the place is never free");
        assert!(answer.ends_with("here"), "{answer}");
        drop(stuck);
    }

    #[tokio::test]
    async fn an_idle_connection_holds_up_no_end() {
        let (address, stop) = serve(8, Deadlines::default()).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(asks(address).await.ends_with("here"));
        stop.cancel();
        let mut rest = Vec::new();
        timeout(testkit::wait::LIMIT, idle.read_to_end(&mut rest)).await.expect("it stays open").unwrap();
        assert!(rest.is_empty());
    }
}
