//! The connections that are open: whose they are, what each waits for, and which of them goes when there are too many.
//!
//! A connection costs a file and some memory for as long as it is there, and so it is there for as long as it is of use: a
//! newcomer takes the place of the one that has been idle for the longest, of the same address if that has many.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The most connections there are, however many files the process may have.
const MOST: usize = 4096;

/// An address from which somebody connects. The addresses of IPv6 that one machine has by the billion are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => {
                Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into())
            }
            other => Self(other),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(v6) if !v6.is_loopback() => write!(f, "{v6}/64"),
            other => other.fmt(f),
        }
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) of_one: usize,
}

impl Limits {
    /// Half of the files that the process may have: the rest is for MongoDB's connections. One address may have a quarter
    /// of that.
    pub(super) fn of_process() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let all = usize::try_from(files / 2).unwrap_or(MOST).clamp(16, MOST);
        Self { all, of_one: all / 4 }
    }
}

/// How long whom may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// From the opening of the connection to the last line of the first head, TLS handshake included.
    pub(super) first_head: Duration,
    /// From the end of an answer to the last line of the next head. It also ends connections that are kept and not used.
    pub(super) idle: Duration,
    /// From the beginning of an answer until the system has taken all of it.
    pub(super) answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let of = Duration::from_secs;
        // Prometheus sends its request as it comes, asks every 15 s, and keeps its connection then.
        Self { first_head: of(10), idle: of(30), answer: of(30) }
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its first request.
    Opening,
    /// Its next request.
    Idle,
    /// Us.
    Working,
    /// The end of its penalty: its answer is no, and is held back.
    Held,
    /// Its reading of the answer.
    Answering,
}

impl Phase {
    /// Which goes first. What is ours to do is never ended for somebody else.
    fn rank(self) -> Option<u8> {
        match self {
            Self::Opening | Self::Idle => Some(0),
            Self::Held => Some(1),
            Self::Answering => Some(2),
            Self::Working => None,
        }
    }

    fn limit(self, deadlines: &Deadlines) -> Option<Duration> {
        match self {
            Self::Opening => Some(deadlines.first_head),
            Self::Idle => Some(deadlines.idle),
            Self::Answering => Some(deadlines.answer),
            Self::Working | Self::Held => None,
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Connection {
    /// In the order in which they came.
    pub(super) number: u64,
    pub(super) peer: Peer,
    /// Where it listens, only this machine can reach.
    pub(super) is_local: bool,
    /// Cancelled when everything ends.
    pub(super) stop: CancellationToken,
    phase: watch::Sender<(Phase, Instant)>,
    /// The answer is written, if perhaps not taken yet.
    is_written: AtomicBool,
    /// Cancelled when somebody else needs the place.
    evicted: CancellationToken,
}

impl Connection {
    fn set(&self, phase: Phase) {
        self.phase.send_replace((phase, Instant::now()));
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.is_written.store(false, Ordering::Relaxed);
        self.set(Phase::Working);
    }

    /// The answer is no, and is held back.
    pub(super) fn hold(&self) {
        self.set(Phase::Held);
    }

    /// The answer is there.
    pub(super) fn answer(&self) {
        self.set(Phase::Answering);
    }

    /// All of the answer is written.
    pub(super) fn written(&self) {
        self.is_written.store(true, Ordering::Relaxed);
    }

    /// The system has taken all that is written.
    pub(super) fn flushed(&self) {
        if self.is_written.load(Ordering::Relaxed) {
            self.phase.send_if_modified(|now| {
                let is_answered = now.0 == Phase::Answering;
                if is_answered {
                    *now = (Phase::Idle, Instant::now());
                }
                is_answered
            });
        }
    }

    /// Ends when the connection has to: a deadline is over, or somebody else needs the place. Says why.
    pub(super) async fn overdue(&self, deadlines: &Deadlines) -> &'static str {
        let mut phases = self.phase.subscribe();
        loop {
            let (phase, since) = *phases.borrow_and_update();
            let deadline = async {
                match phase.limit(deadlines) {
                    Some(limit) => sleep_until(since + limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = deadline => return match phase {
                    Phase::Opening => "no request was complete in time",
                    Phase::Idle => "no further request was complete in time",
                    Phase::Answering | Phase::Held | Phase::Working => "the answer was not taken in time",
                },
                () = self.evicted.cancelled() => return "another connection needs its place",
                changed = phases.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// How many there were.
    number: u64,
    of: HashMap<Peer, Vec<Arc<Connection>>>,
}

/// A connection's place, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
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

    /// Ends the one of these that can be spared best.
    fn evict(&mut self, of: Option<Peer>) -> bool {
        let candidates = match of {
            Some(peer) => self.of.get(&peer).into_iter().collect::<Vec<_>>(),
            None => self.of.values().collect(),
        };
        let ranked = candidates.into_iter().flatten().filter_map(|connection| {
            let (phase, since) = *connection.phase.borrow();
            Some(((phase.rank()?, since), connection))
        });
        let Some(spared) = ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| Arc::clone(one)) else {
            return false;
        };
        spared.evicted.cancel();
        self.remove(&spared);
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

    /// A place for a connection from that address. `None` if all places are taken by connections that wait for us.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        is_local: bool,
        stop: &CancellationToken,
    ) -> Option<Place> {
        let peer = Peer::from(address);
        let mut open = self.open();
        let has_room = if open.of.get(&peer).is_some_and(|of_peer| of_peer.len() >= self.limits.of_one) {
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
            phase: watch::Sender::new((Phase::Opening, Instant::now())),
            is_written: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        });
        open.all += 1;
        open.of.entry(peer).or_default().push(Arc::clone(&connection));
        Some(Place { connections: Arc::clone(self), connection })
    }

    /// Makes room where the system has none.
    pub(super) fn relieve(&self) {
        self.open().evict(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(all: usize, of_one: usize) -> Arc<Connections> {
        Arc::new(Connections::new(Limits { all, of_one }))
    }

    fn enter(connections: &Arc<Connections>, address: &str) -> Option<Place> {
        connections.enter(address.parse().unwrap(), false, &CancellationToken::new())
    }

    fn is_evicted(place: &Place) -> bool {
        place.connection.evicted.is_cancelled()
    }

    #[test]
    fn the_addresses_of_one_network_of_ipv6_are_one() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("127.0.0.1"), peer("127.0.0.2"));
        assert_eq!(peer("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(peer("::1").to_string(), "::1");
        assert_eq!(peer("10.0.0.1").to_string(), "10.0.0.1");
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_for_the_longest_makes_place_for_a_newcomer() {
        let connections = connections(8, 2);
        let first = enter(&connections, "10.0.0.1").unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = enter(&connections, "10.0.0.1").unwrap();
        let other = enter(&connections, "10.0.0.2").unwrap();
        first.connection.begin();
        let third = enter(&connections, "10.0.0.1").unwrap();
        assert!(!is_evicted(&first) && is_evicted(&second), "the one that waits for us is spared");
        third.connection.begin();
        assert!(enter(&connections, "10.0.0.1").is_none(), "both wait for us");
        first.connection.answer();
        tokio::time::advance(Duration::from_secs(1)).await;
        third.connection.hold();
        let fourth = enter(&connections, "10.0.0.1").unwrap();
        assert!(is_evicted(&third) && !is_evicted(&first), "a held one goes before one that is answered");
        drop((second, third));
        assert!(!is_evicted(&other) && !is_evicted(&fourth));
        assert_eq!(connections.open().all, 3, "first, other, fourth");
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_the_most_connections_makes_place_when_all_are_taken() {
        let connections = connections(4, 3);
        let honest = enter(&connections, "10.0.0.1").unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let many: Vec<_> = (0..3).map(|_| enter(&connections, "10.0.0.2").unwrap()).collect();
        let _newcomer = enter(&connections, "10.0.0.3").unwrap();
        assert!(!is_evicted(&honest), "it is idle for longer, but it is not one of many");
        assert_eq!(many.iter().filter(|place| is_evicted(place)).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_counts_from_the_last_change() {
        let connections = connections(4, 4);
        let place = enter(&connections, "10.0.0.1").unwrap();
        let second = Duration::from_secs(1);
        let deadlines = Deadlines { first_head: second, idle: 3 * second, answer: 2 * second };
        let connection = Arc::clone(&place.connection);
        let start = Instant::now();
        let overdue = tokio::spawn(async move { (connection.overdue(&deadlines).await, start.elapsed()) });
        tokio::time::sleep(second / 2).await;
        place.connection.begin();
        tokio::time::sleep(20 * second).await;
        place.connection.answer();
        place.connection.flushed();
        tokio::time::sleep(second).await;
        assert!(!overdue.is_finished(), "the answer is not written yet, and has another second");
        place.connection.written();
        place.connection.flushed();
        let (why, after) = overdue.await.unwrap();
        assert_eq!((why, after), ("no further request was complete in time", second / 2 + 24 * second));
    }
}
