//! Tracks whether a connection is idle or handles a request.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// The open connections, by their number.
#[derive(Debug, Default)]
pub(super) struct Open {
    connections: Mutex<BTreeMap<u64, Arc<Activity>>>,
    /// Numbers the beginnings of idle times, because a clock does not order simultaneous events.
    order: Arc<AtomicU64>,
}

impl Open {
    /// Registers a connection. Its `stop` token is cancelled to close it, at shutdown or to make room.
    pub(super) fn enter(self: &Arc<Self>, stop: &CancellationToken) -> Registration {
        let number = self.order.fetch_add(1, Relaxed);
        let activity = Arc::new(Activity {
            asked: AtomicUsize::new(0),
            is_unsent: AtomicBool::new(false),
            idle_since: AtomicU64::new(number),
            order: Arc::clone(&self.order),
            end: stop.child_token(),
        });
        self.connections().insert(number, Arc::clone(&activity));
        Registration { open: Arc::clone(self), number, activity }
    }

    /// Closes the connection that has been idle for the longest time, if one is idle.
    pub(super) fn end_longest_idle(&self) {
        let mut connections = self.connections();
        let idle = connections.iter().filter(|(_, activity)| activity.is_idle());
        let longest = idle.min_by_key(|(_, activity)| activity.idle_since.load(Relaxed));
        let Some(number) = longest.map(|(number, _)| *number) else { return };
        if let Some(activity) = connections.remove(&number) {
            activity.end.cancel();
        }
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Activity>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registration of an open connection; dropping it unregisters the connection.
#[derive(Debug)]
pub(super) struct Registration {
    open: Arc<Open>,
    number: u64,
    activity: Arc<Activity>,
}

impl Deref for Registration {
    type Target = Arc<Activity>;

    fn deref(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.open.connections().remove(&self.number);
    }
}

/// A request extension that tells whether the server is shutting down. Incomplete bodies are no longer awaited then.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(CancellationToken);

impl Stopping {
    /// Waits until the server shuts down.
    pub(crate) async fn begins(&self) {
        self.0.cancelled().await;
    }
}

/// The activity of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// The number of requests whose response is not complete.
    asked: AtomicUsize,
    /// Whether a part of a response has not been passed to the system.
    is_unsent: AtomicBool,
    idle_since: AtomicU64,
    order: Arc<AtomicU64>,
    end: CancellationToken,
}

impl Activity {
    /// Whether no request is being handled: no complete head has been received.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_asked() && !self.is_unsent.load(Relaxed)
    }

    /// Whether a response is being produced.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed) > 0
    }

    pub(super) fn stopping(&self) -> Stopping {
        Stopping(self.end.clone())
    }

    /// Waits until the connection is to be closed.
    pub(super) async fn is_to_end(&self) {
        self.end.cancelled().await;
    }

    /// Registers a received request, which counts as active while the returned guard lives.
    pub(super) fn ask(self: &Arc<Self>) -> ActiveRequest {
        self.asked.fetch_add(1, Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    fn written(&self) {
        self.is_unsent.store(true, Relaxed);
    }

    fn flushed(&self) {
        if self.is_unsent.swap(false, Relaxed) {
            self.idle_since.store(self.order.fetch_add(1, Relaxed), Relaxed);
        }
    }
}

/// A request that is being handled.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl ActiveRequest {
    /// A response body that keeps its request active until it was read completely.
    pub(super) fn with_body(self, body: Body) -> Body {
        Body::new(body.map_frame(move |frame| {
            let _asked = &self;
            frame
        }))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Relaxed);
    }
}

/// A stream that tracks unsent bytes, and fails if the client does not read a response in time.
#[derive(Debug)]
pub(super) struct TrackedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
    limit: Duration,
    /// Runs from the first time that the client does not keep up until it has read everything.
    late: Option<Pin<Box<Sleep>>>,
}

impl TrackedStream {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, limit: Duration) -> Self {
        Self { stream, activity, limit, late: None }
    }

    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.written();
        if written.is_pending() {
            let limit = self.limit;
            let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
            if late.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TrackedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes after it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.late = None;
            self.activity.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
