//! The body of a request on its way to the backend.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

/// The body of a request, passed on as it comes: the backend's reading is what makes the caller's connection be read.
#[derive(Debug)]
pub(crate) struct Upload {
    inner: Incoming,
    watch: Arc<UploadWatch>,
    left: Option<u64>,
}

/// What the exchange sees of the body, which is sent in another task.
#[derive(Debug)]
pub(crate) struct UploadWatch {
    begun: Instant,
    /// When the last piece was passed on, in milliseconds after the beginning.
    progress: AtomicU64,
    /// The backend wants more, and the caller has not sent it.
    waits_for_caller: AtomicBool,
    /// What the caller sends is no body, or the caller is gone.
    broken: AtomicBool,
    too_large: AtomicBool,
    gate: Mutex<Gate>,
}

#[derive(Debug)]
enum Gate {
    /// A caller who expects `100 Continue` is not read before the backend says so: reading is what sends it.
    Closed(Option<Waker>),
    Open,
    /// The exchange is over.
    Ended,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(&'static str);

impl UploadWatch {
    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_gate(&self, next: Gate) {
        let before = std::mem::replace(&mut *self.gate(), next);
        if let Gate::Closed(Some(waker)) = before {
            waker.wake();
        }
    }

    /// The backend wants the body.
    pub(crate) fn open(&self) {
        if matches!(*self.gate(), Gate::Closed(_)) {
            self.set_gate(Gate::Open);
        }
    }

    /// The rest of the body is not needed any longer.
    pub(crate) fn end(&self) {
        if matches!(*self.gate(), Gate::Closed(_)) {
            self.set_gate(Gate::Ended);
        }
    }

    /// How long ago the last piece was passed on, or the request was made.
    pub(crate) fn since_progress(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.progress.load(Ordering::Relaxed)))
    }

    pub(crate) fn waits_for_caller(&self) -> bool {
        self.waits_for_caller.load(Ordering::Relaxed)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }
}

impl Upload {
    /// `expects_continue`: the body is not read before [`UploadWatch::open`].
    pub(crate) fn new(
        inner: Incoming,
        expects_continue: bool,
        max_body: Option<u64>,
    ) -> (Self, Arc<UploadWatch>) {
        let gate = if expects_continue { Gate::Closed(None) } else { Gate::Open };
        let watch = Arc::new(UploadWatch {
            begun: Instant::now(),
            progress: AtomicU64::new(0),
            waits_for_caller: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            too_large: AtomicBool::new(false),
            gate: Mutex::new(gate),
        });
        (Self { inner, watch: Arc::clone(&watch), left: max_body }, watch)
    }

    /// Counts what was passed on; `false` if that is more than may be.
    fn takes(&mut self, frame: &Frame<Bytes>) -> bool {
        let Some(left) = &mut self.left else { return true };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(rest) => *left = rest,
            None => return false,
        }
        true
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match &mut *this.watch.gate() {
            Gate::Closed(waker) => {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Gate::Open => {}
            Gate::Ended => return Poll::Ready(Some(Err(Ended("the backend does not want the body").into()))),
        }
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        this.watch.waits_for_caller.store(polled.is_pending(), Ordering::Relaxed);
        let frame = ready!(polled);
        let elapsed = u64::try_from(this.watch.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        this.watch.progress.store(elapsed, Ordering::Relaxed);
        Poll::Ready(match frame {
            Some(Ok(frame)) if this.takes(&frame) => Some(Ok(frame)),
            Some(Ok(_)) => {
                this.watch.too_large.store(true, Ordering::Relaxed);
                Some(Err(Ended("the body is too large").into()))
            }
            Some(Err(error)) => {
                this.watch.broken.store(true, Ordering::Relaxed);
                Some(Err(error.into()))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
