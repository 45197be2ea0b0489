//! Connection limits and deadlines.
//!
//! A server that waits for its clients without a limit is as slow as the slowest of them. Therefore
//!
//! - a connection is closed if a request head does not arrive in time, or if it is idle ([`Deadlines::head`]);
//! - a connection is closed if its client does not read a response in time ([`Deadlines::response`]);
//! - the number of connections is limited by the file limit of the process ([`most`]). At the limit, the connection
//!   that has been idle for the longest time is closed for a new one;
//! - a shutdown responds to complete requests only: an incomplete head is not a request, and a client has
//!   [`Deadlines::last_response`] to read its response.

mod activity;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use crate::connections::activity::Stopping;
use crate::connections::activity::{Open, Registration, TrackedStream};

/// The maximum number of connections, independent of the file limit.
const MOST: usize = 1_000;
/// The maximum size of a request head in memory.
const MAX_HEAD: usize = 16 * 1024;
/// The pause after the system has refused a connection for lack of files or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// The time limits of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// From the opening of the connection, or the end of the last response, to the end of the head.
    pub(crate) head: Duration,
    /// From the first time that a client does not keep up with a response until it has read all of it.
    pub(crate) answer: Duration,
    /// The same during a shutdown.
    pub(crate) last_response: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let of = Duration::from_secs;
        Self { head: of(30), answer: of(30), last_response: of(5) }
    }
}

/// The maximum number of connections: half of the files that the process may open. The other half is for connections
/// to the database and for files.
pub(crate) fn most() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MOST, |files| usize::try_from(files / 2).unwrap_or(MOST)).clamp(1, MOST)
}

/// Serves a router on a listener until `stop` is cancelled and all received requests are answered.
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) most: usize,
    pub(crate) deadlines: Deadlines,
    pub(crate) stop: CancellationToken,
}

impl Connections {
    /// # Cancellation
    ///
    /// If the future is dropped, no new connections are accepted; active requests continue, even after `stop` is
    /// cancelled.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let (tasks, open) = (TaskTracker::new(), Arc::new(Open::default()));
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.accept(listener, &tasks, &open)).await;
        tasks.close();
        tasks.wait().await;
    }

    async fn accept(self, listener: TcpListener, tasks: &TaskTracker, open: &Arc<Open>) {
        let places = Arc::new(Semaphore::new(self.most));
        let service = TowerToHyperService::new(self.router);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A client may disconnect before it is accepted; any other error means that the system lacks
                    // resources.
                    if !is_of_the_client(&error) {
                        tracing::warn!(%error, "the system refuses connections");
                        open.end_longest_idle();
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            };
            let place = match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => place,
                Err(_) => {
                    open.end_longest_idle();
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    place
                }
            };
            let entered = open.enter(&self.stop);
            let connection = connection(stream, peer, service.clone(), entered, self.deadlines);
            tasks.spawn(async move {
                connection.await;
                drop(place);
            });
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: TowerToHyperService<Router>,
    activity: Registration,
    deadlines: Deadlines,
) {
    // A response is one small write, so waiting for more data would only delay it.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(TrackedStream::new(stream, Arc::clone(&*activity), deadlines.answer));
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(activity.stopping());
        let asked = activity.ask();
        let answer = router.call(request);
        async move { answer.await.map(|answer: Response| answer.map(|body| asked.with_body(body))) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(deadlines.head).max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = activity.is_to_end() => {
            connection.as_mut().graceful_shutdown();
            let mut late = pin!(None);
            std::future::poll_fn(|context| {
                let polled = connection.as_mut().poll(context);
                if polled.is_ready() || activity.is_asked() {
                    return polled;
                }
                // An incomplete head would be awaited although there is nothing to respond to.
                if activity.is_idle() {
                    return Poll::Ready(Ok(()));
                }
                if late.is_none() {
                    late.set(Some(tokio::time::sleep(deadlines.last_response)));
                }
                late.as_mut().as_pin_mut().map_or(Poll::Pending, |late| late.poll(context)).map(Ok)
            })
            .await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection has ended early");
    }
}

#[cfg(test)]
mod tests;
