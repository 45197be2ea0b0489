//! Callers' connections: accepted, served, ended in time, and drained.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::config::Limits;
use crate::connection::{Activity, CallerStream};
use crate::event_loop::{EventLoop, least_loaded};
use crate::exchange::ExchangeRequest;
use crate::forwarded::Caller;
use crate::handover::Handover;
use crate::head_check;
use crate::listen::BACKLOG;
use crate::operations::Operations;

/// How long to wait after the system has refused a connection, for want of file descriptors say.
const REFUSED: Duration = Duration::from_millis(100);

/// How long an idle connection is kept while the proxy is drained, so that a request which is on its way is answered.
const LINGER: Duration = Duration::from_secs(5);

/// Why a connection ends that the caller's HTTP does not end.
enum Ended {
    /// At once.
    Closed,
    /// In order.
    Drained,
}

/// What all connections share.
pub(crate) struct Server {
    pub(crate) event_loops: Vec<EventLoop>,
    pub(crate) operations: Operations,
    pub(crate) limits: Limits,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the proxy is drained.
    pub(crate) drain: CancellationToken,
    /// Cancelled when everything ends.
    pub(crate) end: CancellationToken,
    pub(crate) linger: Duration,
}

impl Server {
    pub(crate) fn new(
        event_loops: Vec<EventLoop>,
        operations: Operations,
        limits: Limits,
        drain_timeout: Duration,
        tasks: TaskTracker,
        (drain, end): (CancellationToken, CancellationToken),
    ) -> Self {
        Self {
            event_loops,
            operations,
            places: Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            limits,
            tasks,
            drain,
            end,
            linger: LINGER.min(drain_timeout / 2),
        }
    }

    /// Accepts connections until the proxy is drained, and then those that wait already: closing a socket resets connections
    /// that were not accepted. A socket that other processes share is not closed, and its waiting connections are theirs.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, is_shared: bool) {
        loop {
            let next = async {
                // Without a place nothing is accepted, and callers wait in the system's queue.
                let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
                Some((listener.accept().await, place))
            };
            match self.drain.run_until_cancelled(next).await {
                Some(Some((Ok((stream, peer)), place))) => self.spawn(stream, peer.ip(), place),
                Some(Some((Err(error), _))) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    let _ = self.drain.run_until_cancelled(tokio::time::sleep(REFUSED)).await;
                }
                Some(None) | None => break,
            }
        }
        if !is_shared {
            self.accept_waiting(&listener).await;
        }
    }

    async fn accept_waiting(self: &Arc<Self>, listener: &TcpListener) {
        // No more than can wait at once, so that it has an end however many come.
        for _ in 0..BACKLOG {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
            let waiting = poll_fn(|cx| match listener.poll_accept(cx) {
                Poll::Ready(Ok(accepted)) => Poll::Ready(Some(accepted)),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
            });
            // Not in the budget of this task, which would look as if no connection waited.
            let Some((stream, peer)) = tokio::task::coop::unconstrained(waiting).await else { return };
            self.spawn(stream, peer.ip(), place);
        }
    }

    fn spawn(self: &Arc<Self>, stream: TcpStream, peer: IpAddr, place: OwnedSemaphorePermit) {
        // Sockets belong to the event loop in which they are registered, which is that of the accepting so far.
        let (Some(event_loop), Ok(stream)) = (least_loaded(&self.event_loops), stream.into_std()) else {
            return;
        };
        let (server, event_loop) = (Arc::clone(self), event_loop.clone());
        let (runtime, served) = (event_loop.runtime.clone(), event_loop.serves());
        let connection = async move {
            let _served = served;
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            server.connection(event_loop, stream, peer, place).await;
        };
        self.tasks.spawn_on(connection, &runtime);
    }

    /// HTTP/1 with callers, with its limits.
    pub(crate) fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // Heads have a deadline of their own, so that an idle connection may have another.
            .header_read_timeout(None)
            .max_buf_size(self.limits.max_head.max(8 * 1024));
        builder
    }

    /// HTTP/2 with callers, with its limits.
    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.max_head).unwrap_or(u32::MAX))
            .max_concurrent_streams(256)
            .keep_alive_interval(Duration::from_secs(30));
        builder
    }

    async fn connection(
        self: &Arc<Self>,
        event_loop: EventLoop,
        stream: TcpStream,
        peer: IpAddr,
        place: OwnedSemaphorePermit,
    ) {
        let _ = stream.set_nodelay(true);
        let activity = Activity::new();
        let (mut stream, leaving) = CallerStream::new(stream, &activity, place);
        // In a set of one, which polls it only when it is woken itself, and not at each byte of the connection.
        let mut ended: FuturesUnordered<_> = std::iter::once(async {
            tokio::select! {
                why = activity.overdue(&self.limits) => {
                    tracing::debug!(client = %peer, why, "a connection is closed");
                    Ended::Closed
                }
                // What the system holds of the caller's bytes may be a whole request, and is answered only if the client is
                // there for the answer: it is not.
                () = leaving.left() => Ended::Closed,
                () = self.end.cancelled() => Ended::Closed,
                () = self.lingered(&activity) => Ended::Drained,
            }
        })
        .collect();
        let is_http2 = tokio::select! {
            is_http2 = stream.begins_with_http2() => is_http2,
            _ = ended.next() => return,
        };
        // In one Arc, which is all that a request takes.
        let of_requests =
            Arc::new((Arc::clone(self), event_loop, Arc::new(Caller::new(peer)), Arc::clone(&activity)));
        let service = service_fn(move |request: Request<Incoming>| {
            let of_requests = Arc::clone(&of_requests);
            async move {
                let (server, event_loop, caller, activity) = &*of_requests;
                server.handle(event_loop, request, caller, activity).await
            }
        });
        let io = TokioIo::new(stream);
        // What still ends it once no further request is taken.
        let cut = async {
            tokio::select! {
                () = leaving.left() => {}
                () = self.end.cancelled() => {}
            }
        };
        let served = if is_http2 {
            let served = Box::pin(self.http2().serve_connection(io, service));
            serve(served, http2::Connection::graceful_shutdown, ended.next(), cut).await
        } else {
            let served = Box::pin(self.http1().serve_connection(io, service).with_upgrades());
            serve(served, http1::UpgradeableConnection::graceful_shutdown, ended.next(), cut).await
        };
        if let Err(error) = served {
            tracing::debug!(client = %peer, error = %txnscope::ErrorChain::new(&error), "a connection has ended early");
        }
    }

    /// Ends when the proxy is drained and the connection may take no further request. HTTP/2 can say so at once and lose
    /// none. In HTTP/1.1 a request may be on its way to a connection that is just closed, so each answer announces it,
    /// and closed after a while.
    async fn lingered(&self, activity: &Activity) {
        self.drain.cancelled().await;
        if !activity.is_http2() {
            tokio::time::sleep(self.linger).await;
        }
    }

    pub(crate) async fn handle(
        &self,
        event_loop: &EventLoop,
        request: Request<Incoming>,
        caller: &Arc<Caller>,
        activity: &Arc<Activity>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let mut in_flight = activity.begin(request.version() == Version::HTTP_2);
        let is_http1 = request.version() != Version::HTTP_2;
        let checked = head_check::check(&request, &self.limits);
        let checked = if is_http1 {
            let reading = activity.reading();
            checked.and_then(|authority| head_check::second_reader(&request, reading).map(|()| authority))
        } else {
            checked
        };
        // hyper passes on no head that it finds too large itself. So none is counted.
        let matched = match &checked {
            Err(refusal) if refusal.is_of_head() => None,
            Ok(_) | Err(_) => self.operations.find(request.method(), request.uri().path()),
        };
        if let Some(matched) = matched {
            in_flight.list(event_loop.in_flight.begin(matched.label(), caller.address));
        }
        let handover = Arc::new(Handover::default());
        let exchange = ExchangeRequest {
            request,
            matched,
            checked,
            handover: Arc::clone(&handover),
            caller: Arc::clone(caller),
        };
        let mut operation = Box::pin(event_loop.service.clone().call(exchange));
        let mut ended = false;
        let mut response = poll_fn(|cx| {
            ended = operation.as_mut().poll(cx).is_ready();
            match handover.take_response() {
                Some(response) => Poll::Ready(response),
                None => Poll::Pending,
            }
        })
        .await;
        if !ended {
            let mut operation = Some(operation);
            poll_fn(|cx| {
                if let Some(operation) = operation.take() {
                    response.body_mut().attach(operation, cx);
                }
                Poll::Ready(())
            })
            .await;
        }
        in_flight.answers();
        response.body_mut().hold(in_flight);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            activity.switch();
        }
        if is_http1 && self.drain.is_cancelled() && !response.headers().contains_key(CONNECTION) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// Serves a connection to its end, or until it is closed for another reason.
async fn serve<C: Future<Output = hyper::Result<()>>>(
    mut served: Pin<Box<C>>,
    shut_down: fn(Pin<&mut C>),
    ended: impl Future<Output = Option<Ended>>,
    cut: impl Future<Output = ()>,
) -> hyper::Result<()> {
    tokio::select! {
        biased;
        ended = ended => match ended {
            Some(Ended::Drained) => shut_down(served.as_mut()),
            Some(Ended::Closed) | None => return Ok(()),
        },
        served = served.as_mut() => return served,
    }
    tokio::select! {
        served = served => served,
        () = cut => Ok(()),
    }
}
