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

mod results;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use self::results::Results;
use super::peer::Peer;
use super::users::Login;

/// The most requests of one address that wait for a hash or for their answer. More are turned away at once.
const MOST_OF_ONE: usize = 512;

/// The same for all addresses together.
const MOST: usize = 2048;

/// How long a request waits for a hash. Those who guess wait long, and all of them at the same time: what is answered to
/// them makes them come again, all at the same time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The longest that the answer to a wrong password is held back.
const LONGEST_PENALTY: Duration = Duration::from_secs(300);

/// How many hashes' time each request of an address that is there holds up a wrong answer of it. So those who guess from
/// one address ask for a quarter of the hashes that can be computed, however many they are, up to the longest penalty.
const SHARE: u32 = 4;

/// Not more often than this, the log says that logins fail.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What came of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many wait, or it took too long. It is not known whether it is right.
    TurnedAway,
}

/// Finds out about logins.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    queue: Mutex<Queue>,
    refused: AtomicU64,
    turned_away: AtomicU64,
    /// When the log last said so, and how many have failed since.
    said: Mutex<(Option<Instant>, u64)>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    present: HashMap<Peer, Presence>,
    results: Results,
    /// The number of the next request.
    number: u64,
    /// How many hashes were computed.
    turn: u64,
    /// Whether the one thread is at work.
    is_running: bool,
    /// How long the last hash took.
    took: Duration,
}

/// In the order in which they came.
struct Waiting {
    number: u64,
    /// The number of its connection.
    connection: u64,
    peer: Peer,
    login: Login,
    is_favored: bool,
    answer: oneshot::Sender<bool>,
}

/// An address whose requests are waiting, for a hash or for their answer.
#[derive(Default)]
struct Presence {
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
    fn next(&mut self) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.answer.is_closed());
        let last = |peer: &Peer| self.present.get(peer).map_or(0, |presence| presence.last);
        let peer = self.waiting.iter().min_by_key(|waiting| last(&waiting.peer))?.peer;
        self.turn += 1;
        let presence = self.present.entry(peer).or_default();
        presence.last = self.turn;
        presence.turns += 1;
        let mut of_peer = (0..self.waiting.len()).filter(|index| self.waiting[*index].peer == peer);
        let chosen = if presence.turns.is_multiple_of(2) {
            of_peer.next()
        } else {
            of_peer.max_by_key(|index| (self.waiting[*index].is_favored, self.waiting[*index].connection))
        };
        Some(self.waiting.remove(chosen?))
    }
}

/// A request with a login, from its coming until its answer.
pub(super) struct Present {
    logins: Arc<Logins>,
    peer: Peer,
    connection: u64,
}

impl Present {
    /// How long to hold back the answer to a wrong password, as of now.
    pub(super) fn penalty(&self) -> Duration {
        let queue = self.logins.queue();
        let others = queue.present.get(&self.peer).map_or(0, |presence| presence.requests.saturating_sub(1));
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        queue.took.saturating_mul(SHARE.saturating_mul(others)).min(LONGEST_PENALTY)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut queue = self.logins.queue();
        if let Some(presence) = queue.present.get_mut(&self.peer) {
            presence.requests -= 1;
            if presence.requests == 0 {
                queue.present.remove(&self.peer);
            }
        }
    }
}

/// A place in the queue, given up when it is dropped.
struct Ticket<'a> {
    logins: &'a Logins,
    number: u64,
    key: [u8; 32],
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queue = self.logins.queue();
        queue.waiting.retain(|waiting| waiting.number != self.number);
        if queue.results.of(&self.key).is_none() {
            queue.results.keep(self.key, None);
        }
    }
}

impl Logins {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request of that address, on the connection of that number.
    pub(super) fn enter(self: &Arc<Self>, peer: Peer, connection: u64) -> Present {
        self.queue().present.entry(peer).or_default().requests += 1;
        Present { logins: Arc::clone(self), peer, connection }
    }

    /// Finds out whether the login is right. `is_scrape`: the request says by when it wants its answer.
    ///
    /// # Cancellation
    ///
    /// Dropped while it waits, it leaves the queue. Dropped while its hash is computed, the result is kept all the same.
    pub(super) async fn judge(self: &Arc<Self>, login: Login, present: &Present, is_scrape: bool) -> Verdict {
        let (ticket, answer) = {
            let mut queue = self.queue();
            let key = login.key;
            match queue.results.of(&key) {
                Some(true) => return Verdict::Right,
                Some(false) => return Verdict::Wrong,
                None => {}
            }
            let of_peer = queue.present.get(&present.peer).map_or(0, |presence| presence.requests);
            let all: usize = queue.present.values().map(|presence| presence.requests).sum();
            if of_peer > MOST_OF_ONE || all > MOST {
                queue.results.keep(key, None);
                return Verdict::TurnedAway;
            }
            let is_favored = is_scrape || queue.results.is_unsettled(&key);
            let (sender, answer) = oneshot::channel();
            let number = queue.number;
            queue.number += 1;
            let Present { peer, connection, .. } = *present;
            queue.waiting.push(Waiting { number, connection, peer, login, is_favored, answer: sender });
            if !std::mem::replace(&mut queue.is_running, true) {
                let logins = Arc::clone(self);
                tokio::task::spawn_blocking(move || logins.work());
            }
            (Ticket { logins: self, number, key }, answer)
        };
        let verdict = match timeout(PATIENCE, answer).await {
            Ok(Ok(true)) => Verdict::Right,
            Ok(Ok(false)) => Verdict::Wrong,
            Ok(Err(_)) | Err(_) => Verdict::TurnedAway,
        };
        drop(ticket);
        verdict
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
            let Some(Waiting { login, answer, .. }) = next else {
                // Another may run already.
                std::mem::forget(running);
                return;
            };
            let start = Instant::now();
            let is_right = login.verify();
            let mut queue = self.queue();
            queue.took = start.elapsed();
            queue.results.keep(login.key, Some(is_right));
            let _ = answer.send(is_right);
            // Whoever waits for the same need not be computed again.
            let same = queue.waiting.extract_if(.., |waiting| waiting.login.key == login.key);
            for waiting in same.collect::<Vec<_>>() {
                let _ = waiting.answer.send(is_right);
            }
        }
    }

    /// Counts a login that has failed, and says so in the log, but not for each.
    pub(super) fn note(&self, verdict: Verdict, peer: Peer) {
        match verdict {
            Verdict::Right => return,
            Verdict::Wrong => self.refused.fetch_add(1, Ordering::Relaxed),
            Verdict::TurnedAway => self.turned_away.fetch_add(1, Ordering::Relaxed),
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.1 += 1;
        if said.0.is_none_or(|at| at.elapsed() >= BETWEEN_LINES) {
            let (what, logins) = (if verdict == Verdict::Wrong { "wrong" } else { "not checked" }, said.1);
            *said = (Some(Instant::now()), 0);
            // Neither the name nor the password: people type the one in place of the other.
            tracing::warn!(
                client = %peer, logins,
                "a login is refused: user and password are {what}; `logins` is how many were since the last line"
            );
        }
    }

    /// How many logins were wrong, and how many were turned away.
    pub(crate) fn failed(&self) -> [u64; 2] {
        [&self.refused, &self.turned_away].map(|count| count.load(Ordering::Relaxed))
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
