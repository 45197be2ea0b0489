//! Logins that are found out: one bcrypt hash at a time, whoever waits, leaves or reloads.
//!
//! A hash takes a processor tens of milliseconds, and anybody may ask for one. What follows from that:
//!
//! - One thread computes, and it alone: a request that is dropped takes its place in the queue with it, and leaves no work
//!   behind but the hash in progress. A reload starts no second one, as the queue survives it.
//! - Results are kept. Whoever was admitted is admitted without a hash until his hash changes, also after a reload.
//! - Addresses take turns, so that somebody who guesses holds up another address for one hash at most. Who guesses from
//!   the same address as somebody honest cannot be told from him; see [`Queue::next`] for what is done about that.
//! - A wrong password is answered late, the later the more of the address's requests are there already
//!   ([`Present::penalty`]). So those who guess wait most of the time, and the queue is short for whoever comes.

mod cache;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use self::cache::LoginCache;
use super::peer::Peer;
use super::users::Login;

/// The most requests of one address that wait for a hash or for their answer. More are turned away at once.
const MAX_PENDING_PER_CLIENT: usize = 512;

/// The same for all addresses together.
const MAX_PENDING: usize = 2048;

/// How long a request waits for a hash. Those who guess wait long, and all of them at the same time: what is answered to
/// them makes them come again, all at the same time.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest that the answer to a wrong password is held back.
const MAX_PENALTY: Duration = Duration::from_secs(300);

/// How many hashes' time each request of an address that is there holds up a wrong answer of it. So those who guess from
/// one address ask for a quarter of the hashes that can be computed, however many they are, up to the longest penalty.
const PENALTY_FACTOR: u32 = 4;

/// Not more often than this, the log says that logins fail.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What came of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginOutcome {
    Accepted,
    Rejected,
    /// Too many wait, or it took too long. It is not known whether it is right.
    NotChecked,
}

/// Finds out about logins.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    queue: Mutex<Queue>,
    rejected: AtomicU64,
    not_checked: AtomicU64,
    /// When the log last said so, and how many have failed since.
    last_logged: Mutex<(Option<Instant>, u64)>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<QueuedLogin>,
    pending: HashMap<Peer, ClientState>,
    cache: LoginCache,
    /// The number of the next request.
    number: u64,
    /// How many hashes were computed.
    turn: u64,
    /// Whether the one thread is at work.
    is_running: bool,
    /// How long the last hash took.
    last_hash_duration: Duration,
}

/// In the order in which they came.
struct QueuedLogin {
    number: u64,
    /// The number of its connection.
    connection: u64,
    peer: Peer,
    login: Login,
    has_priority: bool,
    answer: oneshot::Sender<bool>,
}

/// An address whose requests are waiting, for a hash or for their answer.
#[derive(Default)]
struct ClientState {
    requests: usize,
    /// How often it was its turn, and when last.
    turns: u64,
    last: u64,
}

impl Queue {
    /// Who is next: the address whose turn was longest ago, and of its requests by turns
    ///
    /// 1. that of the newest connection, so that a crowd that came earlier holds up nobody who comes later; before all
    ///    others one that is favored: it has waited in vain before, or says by when it wants its answer, as a scrape does;
    /// 2. the oldest, so that who comes before a crowd is not held up by it, and patience helps against those who come and
    ///    go.
    fn next(&mut self) -> Option<QueuedLogin> {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let last = |peer: &Peer| self.pending.get(peer).map_or(0, |client| client.last);
        let peer = self.waiting.iter().min_by_key(|waiting| last(&waiting.peer))?.peer;
        self.turn += 1;
        let client = self.pending.entry(peer).or_default();
        client.last = self.turn;
        client.turns += 1;
        let mut of_peer = (0..self.waiting.len()).filter(|index| self.waiting[*index].peer == peer);
        let chosen = if client.turns.is_multiple_of(2) {
            of_peer.next()
        } else {
            of_peer.max_by_key(|index| (self.waiting[*index].has_priority, self.waiting[*index].connection))
        };
        Some(self.waiting.remove(chosen?))
    }
}

/// A request with a login, from its coming until its answer.
pub(super) struct PendingRequest {
    logins: Arc<Logins>,
    peer: Peer,
    connection: u64,
}

impl PendingRequest {
    /// How long to hold back the answer to a wrong password, as of now.
    pub(super) fn penalty(&self) -> Duration {
        let queue = self.logins.queue();
        let others = queue.pending.get(&self.peer).map_or(0, |client| client.requests.saturating_sub(1));
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        queue.last_hash_duration.saturating_mul(PENALTY_FACTOR.saturating_mul(others)).min(MAX_PENALTY)
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let mut queue = self.logins.queue();
        if let Some(client) = queue.pending.get_mut(&self.peer) {
            client.requests -= 1;
            if client.requests == 0 {
                queue.pending.remove(&self.peer);
            }
        }
    }
}

/// A place in the queue, given up when it is dropped.
struct QueueTicket<'a> {
    logins: &'a Logins,
    number: u64,
    key: [u8; 32],
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        let mut queue = self.logins.queue();
        queue.waiting.retain(|waiting| waiting.number != self.number);
        if queue.cache.get(&self.key).is_none() {
            queue.cache.insert(self.key, None);
        }
    }
}

impl Logins {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request of that address, on the connection of that number.
    pub(super) fn register(self: &Arc<Self>, peer: Peer, connection: u64) -> PendingRequest {
        self.queue().pending.entry(peer).or_default().requests += 1;
        PendingRequest { logins: Arc::clone(self), peer, connection }
    }

    /// Finds out whether the login is right. `is_scrape`: the request says by when it wants its answer.
    ///
    /// # Cancellation
    ///
    /// Dropped while it waits, it leaves the queue. Dropped while its hash is computed, the result is kept all the same.
    pub(super) async fn verify_login(
        self: &Arc<Self>,
        login: Login,
        pending: &PendingRequest,
        is_scrape: bool,
    ) -> LoginOutcome {
        let (ticket, answer) = {
            let mut queue = self.queue();
            let key = login.key;
            match queue.cache.get(&key) {
                Some(true) => return LoginOutcome::Accepted,
                Some(false) => return LoginOutcome::Rejected,
                None => {}
            }
            let of_peer = queue.pending.get(&pending.peer).map_or(0, |client| client.requests);
            let all: usize = queue.pending.values().map(|client| client.requests).sum();
            if of_peer > MAX_PENDING_PER_CLIENT || all > MAX_PENDING {
                queue.cache.insert(key, None);
                return LoginOutcome::NotChecked;
            }
            let has_priority = is_scrape || queue.cache.was_abandoned(&key);
            let (sender, answer) = oneshot::channel();
            let number = queue.number;
            queue.number += 1;
            let PendingRequest { peer, connection, .. } = *pending;
            queue.waiting.push(QueuedLogin { number, connection, peer, login, has_priority, answer: sender });
            if !std::mem::replace(&mut queue.is_running, true) {
                let logins = Arc::clone(self);
                tokio::task::spawn_blocking(move || logins.work());
            }
            (QueueTicket { logins: self, number, key }, answer)
        };
        let outcome = match timeout(QUEUE_TIMEOUT, answer).await {
            Ok(Ok(true)) => LoginOutcome::Accepted,
            Ok(Ok(false)) => LoginOutcome::Rejected,
            Ok(Err(_)) | Err(_) => LoginOutcome::NotChecked,
        };
        drop(ticket);
        outcome
    }

    /// Computes hashes until nobody waits for one. It runs on a thread of its own, and only once at a time.
    fn work(&self) {
        let running = Running(self);
        loop {
            let next = {
                let mut queue = self.queue();
                let next = queue.next();
                if next.is_none() {
                    queue.is_running = false;
                }
                next
            };
            let Some(QueuedLogin { login, answer, .. }) = next else {
                // Another may run already.
                std::mem::forget(running);
                return;
            };
            let start = Instant::now();
            let is_right = login.verify();
            let mut queue = self.queue();
            queue.last_hash_duration = start.elapsed();
            queue.cache.insert(login.key, Some(is_right));
            let _ = answer.send(is_right);
            // Whoever waits for the same need not be computed again.
            let same = queue.waiting.extract_if(.., |waiting| waiting.login.key == login.key);
            for waiting in same.collect::<Vec<_>>() {
                let _ = waiting.answer.send(is_right);
            }
        }
    }

    /// Counts a login that has failed, and says so in the log, but not for each.
    pub(super) fn note(&self, outcome: LoginOutcome, peer: Peer) {
        match outcome {
            LoginOutcome::Accepted => return,
            LoginOutcome::Rejected => self.rejected.fetch_add(1, Ordering::Relaxed),
            LoginOutcome::NotChecked => self.not_checked.fetch_add(1, Ordering::Relaxed),
        };
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        last_logged.1 += 1;
        if last_logged.0.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            let (what, logins) =
                (if outcome == LoginOutcome::Rejected { "wrong" } else { "not checked" }, last_logged.1);
            *last_logged = (Some(Instant::now()), 0);
            // Neither the name nor the password: people type the one in place of the other.
            tracing::warn!(
                client = %peer, logins,
                "a login is refused: user and password are {what}; `logins` is how many were since the last line"
            );
        }
    }

    /// How many logins were wrong, and how many were turned away.
    pub(crate) fn failed(&self) -> [u64; 2] {
        [&self.rejected, &self.not_checked].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Lets another run where this one panics.
struct Running<'a>(&'a Logins);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.queue().is_running = false;
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
