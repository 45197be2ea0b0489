//! Password verification, limited to one bcrypt computation at a time.
//!
//! A bcrypt hash takes tens of milliseconds of CPU time, and any client may ask for one. Therefore:
//!
//! - One thread computes all hashes. A cancelled request leaves the queue, and a reload starts no second thread,
//!   as the queue assert_no_panic it.
//! - Results are cached. A user who was admitted once is admitted without a hash until the user's hash changes,
//!   also after a reload.
//! - Addresses take turns, so that a client that guesses passwords delays another address by one hash at most.
//!   Clients behind the same address cannot be distinguished; see [`Queue::next`].
//! - The response to a wrong password is delayed in proportion to the pending requests of its address
//!   ([`PendingRequest::penalty`]), so that guessing clients wait most of the time, and the queue stays short.

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

/// The maximum number of pending requests of one address. More are turned away at once.
const MAX_PENDING_PER_CLIENT: usize = 512;

/// The maximum number of pending requests of all addresses.
const MAX_PENDING: usize = 2048;

/// The timeout in the queue. It is long on purpose: if all guessing clients were turned away, they would come
/// back at the same time.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(300);

/// The maximum delay of the response to a wrong password.
const MAX_PENALTY: Duration = Duration::from_secs(300);

/// The delay of a wrong password, in hash durations for each pending request of the address. With 4, the guesses
/// of one address use a quarter of the hashing capacity, however many clients it has, up to the maximum delay.
const PENALTY_FACTOR: u32 = 4;

/// The minimum time between two log lines about failed logins.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The outcome of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginOutcome {
    Accepted,
    Rejected,
    /// Too many requests are waiting, or the timeout has passed. The password was not checked.
    NotChecked,
}

/// Verifies logins.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    queue: Mutex<Queue>,
    rejected: AtomicU64,
    not_checked: AtomicU64,
    /// The time of the last log line, and the failures since.
    last_logged: Mutex<(Option<Instant>, u64)>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<QueuedLogin>,
    pending: HashMap<Peer, ClientState>,
    cache: LoginCache,
    /// The number of the next request.
    number: u64,
    /// The number of computed hashes.
    turn: u64,
    /// Whether the hashing thread is running.
    is_running: bool,
    /// The duration of the last hash.
    last_hash_duration: Duration,
}

/// A login in the queue, in order of arrival.
struct QueuedLogin {
    number: u64,
    /// The number of its connection.
    connection: u64,
    peer: Peer,
    login: Login,
    has_priority: bool,
    answer: oneshot::Sender<bool>,
}

/// An address with pending requests.
#[derive(Default)]
struct ClientState {
    requests: usize,
    /// How many turns it had, and the number of the last.
    turns: u64,
    last: u64,
}

impl Queue {
    /// The next login: from the address whose turn was the longest ago, alternating between
    ///
    /// 1. the newest connection, so that an earlier crowd does not delay later clients; logins with priority come
    ///    first: those that were abandoned before, and those with a scrape timeout;
    /// 2. the oldest, so that a later crowd does not delay earlier clients, and waiting helps against clients that
    ///    disconnect and come back.
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

/// A pending request with a login, until its response.
pub(super) struct PendingRequest {
    logins: Arc<Logins>,
    peer: Peer,
    connection: u64,
}

impl PendingRequest {
    /// The current delay for a wrong password.
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

/// A place in the queue, released when it is dropped.
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

    /// Registers a request of an address, with the number of its connection.
    pub(super) fn register(self: &Arc<Self>, peer: Peer, connection: u64) -> PendingRequest {
        self.queue().pending.entry(peer).or_default().requests += 1;
        PendingRequest { logins: Arc::clone(self), peer, connection }
    }

    /// Verifies a login. `is_scrape`: the request has a scrape timeout.
    ///
    /// # Cancellation
    ///
    /// If dropped in the queue, the login leaves it. If dropped while its hash is computed, the result is
    /// cached.
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

    /// Computes hashes until the queue is empty. Runs on a thread of its own, one at a time.
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
                // Another thread may be running already.
                std::mem::forget(running);
                return;
            };
            let start = Instant::now();
            let is_right = login.verify();
            let mut queue = self.queue();
            queue.last_hash_duration = start.elapsed();
            queue.cache.insert(login.key, Some(is_right));
            let _ = answer.send(is_right);
            // Other requests with the same login get the same result.
            let same = queue.waiting.extract_if(.., |waiting| waiting.login.key == login.key);
            for waiting in same.collect::<Vec<_>>() {
                let _ = waiting.answer.send(is_right);
            }
        }
    }

    /// Counts a failed login, and logs it with a rate limit.
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
            // Neither name nor password is logged: users mix up the two fields.
            tracing::warn!(
                client = %peer, logins,
                "a login is refused: user and password are {what}; `logins` is how many were since the last line"
            );
        }
    }

    /// The numbers of rejected logins and of logins that were not checked.
    pub(crate) fn failed(&self) -> [u64; 2] {
        [&self.rejected, &self.not_checked].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Lets another thread start if this one panics.
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
