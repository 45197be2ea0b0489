//! A caller's connection: its bytes, what it is busy with, and when it has been idle for too long.

use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use crate::config::Limits;
use crate::framing::{Framing, Reading};
use crate::in_flight::Listed;

/// What a client sends first by HTTP/2.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection is busy with.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    /// Since when it has been in the state that it is in, in milliseconds after the opening.
    since: AtomicU64,
    in_flight: AtomicUsize,
    /// Bytes of a head have come, or nothing has come at all so far.
    reads_head: AtomicBool,
    http2: AtomicBool,
    /// Since when the system has taken nothing that was to be written, in milliseconds after the opening; 0 if it takes.
    blocked: AtomicU64,
    framing: Mutex<Framing>,
}

/// A request that is in flight on a connection.
#[derive(Debug)]
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    /// Its row in the table, if it is an operation.
    listed: Option<Listed>,
}

impl InFlight {
    /// It is an operation.
    pub(crate) fn list(&mut self, listed: Listed) {
        self.listed = Some(listed);
    }

    /// The answer has begun.
    pub(crate) fn answers(&self) {
        if let Some(listed) = &self.listed {
            listed.answers();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.note();
        self.activity.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            since: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            reads_head: AtomicBool::new(true),
            http2: AtomicBool::new(false),
            blocked: AtomicU64::new(0),
            framing: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.since.store(self.now(), Ordering::Release);
    }

    /// Something was written, or could not be.
    fn wrote(&self, is_blocked: bool) {
        match (is_blocked, self.blocked.load(Ordering::Relaxed)) {
            (true, 0) => self.blocked.store(self.now().max(1), Ordering::Relaxed),
            (false, 1..) => self.blocked.store(0, Ordering::Relaxed),
            (true, 1..) | (false, 0) => {}
        }
    }

    /// Whether an answer waits to be taken for longer than that.
    fn is_blocked_for(&self, limit: Duration) -> bool {
        let since = self.blocked.load(Ordering::Relaxed);
        since > 0 && Duration::from_millis(self.now().saturating_sub(since)) >= limit
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>, is_http2: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.reads_head.store(false, Ordering::Release);
        self.http2.store(is_http2, Ordering::Release);
        InFlight { activity: Arc::clone(self), listed: None }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Acquire)
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    fn framing(&self) -> MutexGuard<'_, Framing> {
        self.framing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the second reader has found in the head of the request that is served now.
    pub(crate) fn reading(&self) -> Reading {
        self.framing().next()
    }

    /// The connection speaks another protocol from here on, which is not parsed.
    pub(crate) fn switch(&self) {
        self.framing().lose();
    }

    /// Bytes have come.
    pub(crate) fn read(&self, bytes: &[u8]) {
        if !self.is_http2() {
            self.framing().read(bytes);
        }
        // In HTTP/2 they may be a ping; there a head comes in one piece or is cut by hyper's own limits.
        if !self.is_busy() && !self.is_http2() && !self.reads_head.swap(true, Ordering::AcqRel) {
            self.note();
        }
    }

    /// Ends when the connection has waited too long for a head, for its first byte, or for the caller to read.
    pub(crate) async fn overdue(&self, limits: &Limits) -> &'static str {
        let step = limits.head_timeout.min(limits.idle_timeout).min(limits.write_timeout);
        loop {
            if self.is_blocked_for(limits.write_timeout) {
                return "the answer was not taken in time";
            }
            if self.is_busy() {
                sleep(step).await;
                continue;
            }
            let reads_head = self.reads_head.load(Ordering::Acquire);
            let limit = if reads_head { limits.head_timeout } else { limits.idle_timeout };
            let since = Duration::from_millis(self.since.load(Ordering::Acquire));
            let waited = self.opened.elapsed().saturating_sub(since);
            match limit.checked_sub(waited) {
                Some(left) if !left.is_zero() => sleep(left.min(step)).await,
                Some(_) | None if reads_head => return "the head of a request did not come in time",
                Some(_) | None => return "no further request came in time",
            }
        }
    }
}

/// The bytes of a caller's connection.
#[derive(Debug)]
pub(crate) struct CallerStream {
    stream: Arc<TcpStream>,
    activity: Arc<Activity>,
    first: FirstBytes,
    /// The place among all connections, given up with the connection, which an upgrade takes along.
    _place: OwnedSemaphorePermit,
}

/// What was read to tell the protocol, until it is read again.
#[derive(Debug, Default)]
struct FirstBytes {
    bytes: [u8; HTTP2_PREFACE.len()],
    length: usize,
}

impl FirstBytes {
    fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Notices that a caller has left even while nothing is read from the connection.
#[derive(Debug)]
pub(crate) struct Leaving(Arc<TcpStream>);

impl CallerStream {
    pub(crate) fn new(
        stream: TcpStream,
        activity: &Arc<Activity>,
        place: OwnedSemaphorePermit,
    ) -> (Self, Leaving) {
        let stream = Arc::new(stream);
        let leaving = Leaving(Arc::clone(&stream));
        (
            Self { stream, activity: Arc::clone(activity), first: FirstBytes::default(), _place: place },
            leaving,
        )
    }

    /// Reads the first bytes until they tell whether it is HTTP/2. They are read again afterwards.
    ///
    /// hyper-util does so as well, but then passes these bytes on in a piece of their own, so that the buffer for the head of the
    /// first request grows to twice the size, and every later byte passes through one layer more.
    pub(crate) async fn begins_with_http2(&mut self) -> bool {
        while self.first.length < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(self.first.get()) {
            let read = poll_fn(|cx| {
                let mut first = self.first.bytes;
                let mut buffer = ReadBuf::new(&mut first[self.first.length..]);
                ready!(self.poll_read_socket(cx, &mut buffer))?;
                let read = buffer.filled().len();
                self.first.bytes = first;
                self.first.length += read;
                Poll::Ready(io::Result::Ok(read))
            });
            match read.await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return false,
            }
        }
        self.first.get() == HTTP2_PREFACE
    }

    fn poll_read_socket(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let (before, room) = (buffer.filled().len(), buffer.remaining());
            let mut read = None;
            let tried = self.stream.try_io(Interest::READABLE, || {
                let length = self.stream.try_read_buf(buffer)?;
                read = Some(length);
                // Less than there is room for has emptied the socket: the next reading waits for the system's notice, in place
                // of a call in vain.
                let is_empty = (1..room).contains(&length);
                if is_empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, tried) {
                (Some(length), _) => {
                    if length > 0 {
                        self.activity.read(&buffer.filled()[before..]);
                    }
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl Leaving {
    /// Ends when the caller has closed the connection, or the sending half of it. hyper sees that by itself where it reads;
    /// it does not while a body waits for the backend, or while a further request stands in its buffer.
    pub(crate) async fn left(&self) {
        // Of this interest are urgent data, which HTTP has not, and the closing of the other side.
        match self.0.ready(Interest::PRIORITY).await {
            Ok(ready) if ready.is_read_closed() => {}
            Ok(_) => pending().await,
            Err(_) => {}
        }
    }
}

impl AsyncRead for CallerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let first = self.first.get();
        if first.is_empty() {
            return self.poll_read_socket(cx, buffer);
        }
        let fits = first.len().min(buffer.remaining());
        buffer.put_slice(&first[..fits]);
        self.first.bytes.copy_within(fits.., 0);
        self.first.length -= fits;
        if buffer.remaining() > 0 {
            // The rest comes in the same piece. An error, or the end, comes again.
            let _ = self.poll_read_socket(cx, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl CallerStream {
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let ready = self.stream.poll_write_ready(cx)?;
            self.activity.wrote(ready.is_pending());
            ready!(ready);
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for CallerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // One that the caller has closed is as good as shut down.
        let _ = shutdown(&*self.stream, Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
