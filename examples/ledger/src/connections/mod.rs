//! Connections that nobody can hold for ever.
//!
//! A server that waits for its clients without a limit belongs to the slowest of them. Here
//!
//! - a head that does not come in time, and a connection that is kept and not used, end ([`Deadlines::head`]);
//! - an answer that is not taken in time ends its connection ([`Deadlines::answer`]);
//! - there are no more connections at once than the files of the process allow ([`most`]). When all places are taken, the
//!   connection that has been idle for the longest makes room for the one that comes;
//! - a shutdown answers what is being asked, and waits for nothing else: half a head is no request, and a client has
//!   [`Deadlines::last_answer`] to take what it asked for.

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
use crate::connections::activity::{Entered, Open, Watched};

/// The most connections at once, whatever the system allows.
const MOST: usize = 1_000;
/// The most that the head of a request may take of memory.
const MAX_HEAD: usize = 16 * 1024;
/// How long to leave a system in peace that has no file or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// From the opening of the connection, or the end of the answer before, to the last line of the head.
    pub(crate) head: Duration,
    /// From when a client does not keep up with an answer until it has taken all of it.
    pub(crate) answer: Duration,
    /// The same, when the server is to stop.
    pub(crate) last_answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let of = Duration::from_secs;
        Self { head: of(30), answer: of(30), last_answer: of(5) }
    }
}

/// How many connections there may be at once: half of the files that the process may open. The other half is for the
/// database's connections and for files.
pub(crate) fn most() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MOST, |files| usize::try_from(files / 2).unwrap_or(MOST)).clamp(1, MOST)
}

/// Serves a router on a listener, until it is told to stop and has answered what it was asked.
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) most: usize,
    pub(crate) deadlines: Deadlines,
    pub(crate) stop: CancellationToken,
}

impl Connections {
    /// # Cancellation
    ///
    /// If it is dropped, nothing new is accepted; what is being answered goes on until `stop` is cancelled and beyond.
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
                    // A client that has gone again is none; anything else is the system, which needs room.
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
    activity: Entered,
    deadlines: Deadlines,
) {
    // An answer is one small write: waiting for more to send with it only costs the client time.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&*activity), deadlines.answer));
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
                // Half a head would be waited for: of what nobody has asked yet, there is nothing to answer.
                if activity.is_idle() {
                    return Poll::Ready(Ok(()));
                }
                if late.is_none() {
                    late.set(Some(tokio::time::sleep(deadlines.last_answer)));
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
