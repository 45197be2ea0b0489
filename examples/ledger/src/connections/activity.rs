//! What a connection is doing: waiting for a request, or answering one.

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

/// The connections that are open, by the number that each was given.
#[derive(Debug, Default)]
pub(super) struct Open {
    connections: Mutex<BTreeMap<u64, Arc<Activity>>>,
    /// Counts openings and beginnings of idleness: no clock tells apart what comes at the same moment.
    order: Arc<AtomicU64>,
}

impl Open {
    /// A connection that has just been opened. It is told to end with `stop`, or before, to make room.
    pub(super) fn enter(self: &Arc<Self>, stop: &CancellationToken) -> Entered {
        let number = self.order.fetch_add(1, Relaxed);
        let activity = Arc::new(Activity {
            asked: AtomicUsize::new(0),
            is_unsent: AtomicBool::new(false),
            idle_since: AtomicU64::new(number),
            order: Arc::clone(&self.order),
            end: stop.child_token(),
        });
        self.connections().insert(number, Arc::clone(&activity));
        Entered { open: Arc::clone(self), number, activity }
    }

    /// Tells the connection to end that has been idle for the longest, if one is idle.
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

/// A connection among those that are open, until it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    open: Arc<Open>,
    number: u64,
    activity: Arc<Activity>,
}

impl Deref for Entered {
    type Target = Arc<Activity>;

    fn deref(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.open.connections().remove(&self.number);
    }
}

/// Of a request: whether the server is to stop. What has not come by then need not be waited for.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(CancellationToken);

impl Stopping {
    /// Waits until it is.
    pub(crate) async fn begins(&self) {
        self.0.cancelled().await;
    }
}

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests whose answer has not been made to its end.
    asked: AtomicUsize,
    /// Whether something of an answer has not been handed to the system yet.
    is_unsent: AtomicBool,
    idle_since: AtomicU64,
    order: Arc<AtomicU64>,
    end: CancellationToken,
}

impl Activity {
    /// Whether nothing is being answered: no head has come in to its end.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_asked() && !self.is_unsent.load(Relaxed)
    }

    /// Whether an answer is still being made.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed) > 0
    }

    pub(super) fn stopping(&self) -> Stopping {
        Stopping(self.end.clone())
    }

    /// Waits until the connection is to end.
    pub(super) async fn is_to_end(&self) {
        self.end.cancelled().await;
    }

    /// A request has come, and is being answered while what is returned lives.
    pub(super) fn ask(self: &Arc<Self>) -> Asked {
        self.asked.fetch_add(1, Relaxed);
        Asked(Arc::clone(self))
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

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Asked(Arc<Activity>);

impl Asked {
    /// The body of its answer: it is being answered until that has been read to its end.
    pub(super) fn with_body(self, body: Body) -> Body {
        Body::new(body.map_frame(move |frame| {
            let _asked = &self;
            frame
        }))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Relaxed);
    }
}

/// A stream that says what is unsent, and fails when an answer is not taken in time.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    limit: Duration,
    /// Runs from when the client first does not keep up until it has taken all that there is.
    late: Option<Pin<Box<Sleep>>>,
}

impl Watched {
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

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
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

    /// hyper flushes when it has written all that it had.
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
