//! Open connections: their clients, states and deadlines, and which one is closed when there are too many.
//!
//! A connection costs a file descriptor and memory. If there are too many, a new one replaces the one that has
//! been idle for the longest time, preferably one of an address that has many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::peer::Peer;

/// The maximum number of connections, however many file descriptors the process may have.
const MAX_CONNECTIONS: usize = 4096;

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) per_client: usize,
}

impl Limits {
    /// Half of the process's file descriptors, since the rest is for MongoDB's connections; a quarter of that
    /// for each address.
    pub(super) fn from_process() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let all = usize::try_from(files / 2).unwrap_or(MAX_CONNECTIONS).clamp(16, MAX_CONNECTIONS);
        Self { all, per_client: all / 4 }
    }
}

/// Deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// From accepting the connection to the end of the first request head, including the TLS handshake.
    pub(super) first_head: Duration,
    /// From the end of a response to the end of the next request head. This also closes idle connections.
    pub(super) idle: Duration,
    /// From the start of a response until the system has taken all of it.
    pub(super) response: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let of = Duration::from_secs;
        // Prometheus sends requests without delay, scrapes every 15 s, and keeps the connection.
        Self { first_head: of(10), idle: of(30), response: of(30) }
    }
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the first request.
    Opening,
    /// Waiting for the next request.
    Idle,
    /// The request is being handled.
    Handling,
    /// The login was rejected, and the response is delayed.
    Penalized,
    /// The response is being sent.
    Responding,
    /// An event stream, which ends when the client or the sidecar ends it. Each event has the deadline of a response.
    Streaming,
}

impl Phase {
    /// Which state is evicted first. A request that is being handled is never evicted.
    fn rank(self) -> Option<u8> {
        match self {
            Self::Opening | Self::Idle => Some(0),
            Self::Penalized => Some(1),
            Self::Responding | Self::Streaming => Some(2),
            Self::Handling => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when a response has not been taken completely. Pipelined requests do not reset it, so that a slow
    /// reader cannot extend its deadline.
    response_pending_since: Option<Instant>,
}

impl State {
    /// The current deadline.
    fn deadline(&self, deadlines: &Deadlines) -> Option<Instant> {
        match self.phase {
            Phase::Opening => Some(self.since + deadlines.first_head),
            Phase::Idle => Some(self.since + deadlines.idle),
            Phase::Responding | Phase::Streaming | Phase::Handling | Phase::Penalized => {
                self.response_pending_since.map(|since| since + deadlines.response)
            }
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Increasing in the order of acceptance.
    pub(super) number: u64,
    pub(super) peer: Peer,
    /// The listen address is a loopback address.
    pub(super) is_local: bool,
    /// Cancelled at shutdown.
    pub(super) stop: CancellationToken,
    state: watch::Sender<State>,
    /// The response is written, though perhaps not taken by the system.
    is_written: AtomicBool,
    /// Cancelled when another connection needs the place.
    evicted: CancellationToken,
}

impl Connection {
    fn set(&self, phase: Phase) {
        self.state.send_modify(|state| (state.phase, state.since) = (phase, Instant::now()));
    }

    /// A request has arrived.
    pub(super) fn begin(&self) {
        self.is_written.store(false, Ordering::Relaxed);
        self.set(Phase::Handling);
    }

    /// The login was rejected, and the response will be delayed.
    pub(super) fn penalize(&self) {
        self.set(Phase::Penalized);
    }

    /// The response will be an event stream.
    pub(super) fn stream(&self) {
        self.set(Phase::Streaming);
    }

    /// The response is ready.
    pub(super) fn respond(&self) {
        self.state.send_modify(|state| {
            if state.phase == Phase::Streaming {
                return;
            }
            let since = *state.response_pending_since.get_or_insert_with(Instant::now);
            (state.phase, state.since) = (Phase::Responding, since);
        });
    }

    /// A part of the response is about to be written.
    pub(super) fn writing(&self) {
        self.state.send_if_modified(|state| {
            let begins = state.phase == Phase::Streaming && state.response_pending_since.is_none();
            if begins {
                state.response_pending_since = Some(Instant::now());
            }
            begins
        });
    }

    /// The whole response is written.
    pub(super) fn written(&self) {
        self.is_written.store(true, Ordering::Relaxed);
        self.writing();
    }

    /// The system has taken everything that was written.
    pub(super) fn flushed(&self) {
        let is_written = self.is_written.load(Ordering::Relaxed);
        self.state.send_if_modified(|state| {
            let is_taken =
                state.response_pending_since.is_some() && (is_written || state.phase != Phase::Responding);
            if is_taken {
                state.response_pending_since = None;
                if is_written && matches!(state.phase, Phase::Responding | Phase::Streaming) {
                    (state.phase, state.since) = (Phase::Idle, Instant::now());
                }
            }
            is_taken
        });
    }

    /// Completes when the connection must be closed: a deadline has passed, or it is evicted. Returns the reason
    /// for the log.
    pub(super) async fn overdue(&self, deadlines: &Deadlines) -> &'static str {
        let mut states = self.state.subscribe();
        loop {
            let state = *states.borrow_and_update();
            let deadline = async {
                match state.deadline(deadlines) {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = deadline => return match state.phase {
                    Phase::Opening => "no request was complete in time",
                    Phase::Idle => "no further request was complete in time",
                    Phase::Responding | Phase::Streaming | Phase::Penalized | Phase::Handling => {
                        "the answer was not taken in time"
                    }
                },
                () = self.evicted.cancelled() => return "another connection needs its place",
                changed = states.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
        }
    }
}

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// The number of accepted connections.
    number: u64,
    of: HashMap<Peer, Vec<Arc<Connection>>>,
}

/// A permit for a connection, released when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.open().remove(&self.connection);
    }
}

impl Open {
    fn remove(&mut self, connection: &Arc<Connection>) {
        let Some(of_peer) = self.of.get_mut(&connection.peer) else { return };
        let before = of_peer.len();
        of_peer.retain(|one| !Arc::ptr_eq(one, connection));
        self.all -= before - of_peer.len();
        if of_peer.is_empty() {
            self.of.remove(&connection.peer);
        }
    }

    /// Evicts the connection with the lowest priority.
    fn evict(&mut self, of: Option<Peer>) -> bool {
        let candidates = match of {
            Some(peer) => self.of.get(&peer).into_iter().collect::<Vec<_>>(),
            None => self.of.values().collect(),
        };
        let ranked = candidates.into_iter().flatten().filter_map(|connection| {
            let State { phase, since, .. } = *connection.state.borrow();
            Some(((phase.rank()?, since), connection))
        });
        let Some(evictable) = ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| Arc::clone(one)) else {
            return false;
        };
        evictable.evicted.cancel();
        self.remove(&evictable);
        true
    }
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for a new connection. `None` if the limit is reached and no connection can be evicted.
    pub(super) fn accept(
        self: &Arc<Self>,
        address: IpAddr,
        is_local: bool,
        stop: &CancellationToken,
    ) -> Option<ConnectionPermit> {
        let peer = Peer::from(address);
        let mut open = self.open();
        let has_room = if open.of.get(&peer).is_some_and(|of_peer| of_peer.len() >= self.limits.per_client) {
            open.evict(Some(peer))
        } else if open.all >= self.limits.all {
            let most = open.of.iter().max_by_key(|(_, of_peer)| of_peer.len()).map(|(peer, _)| *peer);
            open.evict(most) || open.evict(None)
        } else {
            true
        };
        if !has_room {
            return None;
        }
        open.number += 1;
        let connection = Arc::new(Connection {
            number: open.number,
            peer,
            is_local,
            stop: stop.clone(),
            state: watch::Sender::new(State {
                phase: Phase::Opening,
                since: Instant::now(),
                response_pending_since: None,
            }),
            is_written: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        });
        open.all += 1;
        open.of.entry(peer).or_default().push(Arc::clone(&connection));
        Some(ConnectionPermit { connections: Arc::clone(self), connection })
    }

    /// Evicts one connection, when the system has no file descriptors left.
    pub(super) fn evict_one(&self) {
        self.open().evict(None);
    }
}

#[cfg(test)]
mod tests;
