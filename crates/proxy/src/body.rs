//! The body of an answer on its way to the caller.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::connection::InFlight;
use crate::exchange::Operation;
use crate::handover::Handover;
use crate::upstream::Lease;

/// The most of a JSON body that is looked at, in bytes.
pub(crate) const LOOKED_AT: usize = 64 * 1024;

/// The body of an answer: passed on frame by frame, unchanged.
///
/// It holds the operation. The operation's future is polled to its end when the body has ended, and is dropped with the
/// body when the caller leaves before.
pub(crate) struct ResponseBody {
    kind: Kind,
    operation: Option<Operation>,
    in_flight: Option<InFlight>,
}

enum Kind {
    Text(Option<Bytes>),
    Stream(Box<Stream>),
}

struct Stream {
    inner: Incoming,
    handover: Arc<Handover>,
    /// The connection, to be given back at the end.
    lease: Option<Lease>,
    looked_at: LookedAt,
    read_timeout: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    paused: bool,
    ended: bool,
}

/// What the classification sees of a body.
#[derive(Debug, Default)]
enum LookedAt {
    #[default]
    Nothing,
    Copy(Vec<u8>),
}

/// How a body has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// All of it was passed on. The body is there if it was to be looked at and is not too long.
    Complete { body: Option<Vec<u8>>, trailers: Option<HeaderMap> },
    /// The backend broke off.
    Reset(hyper::Error),
    /// The backend paused for too long.
    Timeout,
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the backend paused for too long in the middle of its answer")]
pub(crate) struct TooSlow;

impl ResponseBody {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Text(Some(text.into())), operation: None, in_flight: None }
    }

    pub(crate) fn stream(
        inner: Incoming,
        handover: Arc<Handover>,
        lease: Option<Lease>,
        look: bool,
        read_timeout: Duration,
    ) -> Self {
        let looked_at = if look { LookedAt::Copy(Vec::new()) } else { LookedAt::Nothing };
        let stream = Stream {
            inner,
            handover,
            lease,
            looked_at,
            read_timeout,
            pause: None,
            paused: false,
            ended: false,
        };
        Self { kind: Kind::Stream(Box::new(stream)), operation: None, in_flight: None }
    }

    /// Gives the body the operation that ends with it, which is at once if there is no body.
    pub(crate) fn attach(&mut self, operation: Operation, cx: &mut Context<'_>) {
        self.operation = Some(operation);
        if let Kind::Stream(stream) = &mut self.kind
            && stream.inner.is_end_stream()
        {
            stream.complete(None);
            self.conclude(cx);
        }
    }

    /// The connection has a request in flight as long as this is there.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// The end was said: the operation sees it and ends, in this very poll.
    fn conclude(&mut self, cx: &mut Context<'_>) {
        if let Some(mut operation) = self.operation.take() {
            let ended = operation.as_mut().poll(cx).is_ready();
            debug_assert!(ended, "an operation ends with its body");
        }
    }
}

impl Stream {
    fn complete(&mut self, trailers: Option<HeaderMap>) {
        let body = match std::mem::take(&mut self.looked_at) {
            LookedAt::Nothing => None,
            LookedAt::Copy(copy) => Some(copy),
        };
        self.end(End::Complete { body, trailers });
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn end(&mut self, end: End) {
        if !self.ended {
            self.ended = true;
            self.handover.end(end);
        }
        // A connection whose answer was not read to its end is closed.
        if !matches!(self.looked_at, LookedAt::Nothing) {
            self.looked_at = LookedAt::Nothing;
        }
    }

    fn look_at(&mut self, data: &Bytes) {
        if let LookedAt::Copy(copy) = &mut self.looked_at {
            if copy.len() + data.len() <= LOOKED_AT {
                copy.extend_from_slice(data);
            } else {
                self.looked_at = LookedAt::Nothing;
            }
        }
    }

    /// Whether the backend has paused for too long.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read_timeout.is_zero() {
            return Poll::Pending;
        }
        let read_timeout = self.read_timeout;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(read_timeout)));
        if !self.paused {
            self.paused = true;
            pause.as_mut().reset(Instant::now() + read_timeout);
        }
        pause.as_mut().poll(cx)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.poll_pause(cx));
            self.end(End::Timeout);
            self.lease = None;
            return Poll::Ready(Some(Err(TooSlow.into())));
        };
        self.paused = false;
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                match frame.trailers_ref() {
                    Some(trailers) => {
                        let trailers = trailers.clone();
                        self.complete(Some(trailers));
                    }
                    None => {
                        if let Some(data) = frame.data_ref() {
                            self.look_at(data);
                        }
                        // A body whose length is known is not polled again after its last byte.
                        if self.inner.is_end_stream() {
                            self.complete(None);
                        }
                    }
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.lease = None;
                // The error goes two ways; the caller's connection needs no more than that there is one.
                self.end(End::Reset(error));
                Some(Err("the backend broke off in the middle of its answer".into()))
            }
            None => {
                self.complete(None);
                None
            }
        })
    }
}

type BodyError = Box<dyn Error + Send + Sync>;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match &mut this.kind {
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Stream(stream) => {
                let frame = ready!(stream.poll_frame(cx));
                if stream.ended {
                    this.conclude(cx);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Kind::Stream(stream) => stream.ended || stream.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Kind::Stream(stream) => stream.inner.size_hint(),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

/// The length of a text, for a header.
pub(crate) fn length(text: &str) -> HeaderValue {
    HeaderValue::from(text.len())
}
