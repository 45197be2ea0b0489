//! Queues, in this process, of transactions that would only get in each other's way.
//!
//! Two transactions that write one document cannot both commit: the second one's work is thrown away, and tried again
//! until it does not meet another. Where the application knows beforehand what they will meet on, they take turns
//! instead. Who waits holds neither a session nor a connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quanta::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::books::Books;

const SHARDS: usize = 16;

/// A key, as the queues know it. Two keys that hash alike share a queue, which costs a little time and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(key: &impl Hash) -> Self {
        Self(foldhash::fast::FixedState::default().hash_one(key))
    }
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    shards: [Mutex<HashMap<Key, Queue>>; SHARDS],
}

/// Those who wait for one key, and the one whose turn it is.
#[derive(Debug)]
struct Queue {
    turn: Arc<Semaphore>,
    members: usize,
}

/// As many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Queues {
    /// Waits for the turn of all these keys, each queue in the order of arrival.
    ///
    /// # Cancellation
    ///
    /// Who is dropped leaves the queue.
    pub(super) async fn turn(
        self: &Arc<Self>,
        keys: &[Key],
        most: usize,
        books: &'static Books,
    ) -> Result<Vec<Turn>, Full> {
        let _waiting = Waiting::begin(books);
        let mut turns = Vec::with_capacity(keys.len());
        // In one order for everybody, so that no two wait for each other.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (turn, membership) = self.join(key, most)?;
            // The queue's semaphore is never closed.
            let permit = turn.acquire_owned().await.ok();
            turns.push(Turn { permit, _membership: membership });
        }
        Ok(turns)
    }

    fn join(self: &Arc<Self>, key: Key, most: usize) -> Result<(Arc<Semaphore>, Membership), Full> {
        let mut shard = self.shard(key);
        let queue =
            shard.entry(key).or_insert_with(|| Queue { turn: Arc::new(Semaphore::new(1)), members: 0 });
        if queue.members > most {
            return Err(Full);
        }
        queue.members += 1;
        Ok((Arc::clone(&queue.turn), Membership { queues: Arc::clone(self), key }))
    }

    #[allow(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, Queue>> {
        self.shards[key.0 as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    _membership: Membership,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The next one's turn begins before the queue may be forgotten.
        self.permit.take();
    }
}

/// One who waits or whose turn it is; the last to go takes the queue along.
#[derive(Debug)]
struct Membership {
    queues: Arc<Queues>,
    key: Key,
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Entry::Occupied(mut queue) = self.queues.shard(self.key).entry(self.key) {
            queue.get_mut().members -= 1;
            if queue.get().members == 0 {
                queue.remove();
            }
        }
    }
}

/// Counts one who waits, and how long.
struct Waiting {
    books: &'static Books,
    since: Instant,
}

impl Waiting {
    fn begin(books: &'static Books) -> Self {
        books.queued.increment(1.0);
        Self { books, since: Instant::now() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.books.queued.decrement(1.0);
        self.books.queue_wait.record(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metrics, OperationName};

    fn books() -> (Metrics, &'static Books) {
        let metrics = Metrics::isolated().unwrap();
        let books = metrics.registry().resolve(OperationName::named("op")).books();
        (metrics, books)
    }

    fn members(queues: &Queues) -> usize {
        queues
            .shards
            .iter()
            .flat_map(|shard| shard.lock().unwrap().values().map(|q| q.members).collect::<Vec<_>>())
            .sum()
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival_and_nothing_is_left_behind() {
        let (metrics, books) = books();
        let (queues, key) = (Arc::<Queues>::default(), Key::of(&"retainer"));
        let first = queues.turn(&[key], 10, books).await.unwrap();
        let order = Arc::<Mutex<Vec<u32>>>::default();
        let mut waiters = Vec::new();
        for number in 0..5 {
            let (waiting, order) = (Arc::clone(&queues), Arc::clone(&order));
            waiters.push(tokio::spawn(async move {
                let _turn = waiting.turn(&[key], 10, books).await.unwrap();
                order.lock().unwrap().push(number);
            }));
            while members(&queues) < number as usize + 2 {
                tokio::task::yield_now().await;
            }
        }
        let depth = |metrics: &Metrics| {
            metrics.render().contains("mongodb_client_transactions_queued{operation=\"op\"} 5")
        };
        assert!(depth(&metrics), "{}", metrics.render());
        waiters.remove(2).abort();
        drop(first);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
        assert_eq!(members(&queues), 0);
        assert!(queues.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        assert!(metrics.render().contains("mongodb_client_transactions_queued{operation=\"op\"} 0"));
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let (_metrics, books) = books();
        let (queues, key) = (Arc::<Queues>::default(), Key::of(&7));
        let _turn = queues.turn(&[key, key], 0, books).await.unwrap();
        assert_eq!(queues.turn(&[key], 0, books).await.unwrap_err(), Full);
        assert!(queues.turn(&[Key::of(&8)], 0, books).await.is_ok());
    }

    #[tokio::test]
    async fn two_who_want_the_same_two_keys_do_not_wait_for_each_other() {
        let (_metrics, books) = books();
        let queues = Arc::<Queues>::default();
        let (a, b) = (Key::of(&"a"), Key::of(&"b"));
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..100 {
            let queues = Arc::clone(&queues);
            let keys = if index % 2 == 0 { [a, b] } else { [b, a] };
            tasks.spawn(async move {
                let _turn = queues.turn(&keys, 200, books).await.unwrap();
                tokio::task::yield_now().await;
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(members(&queues), 0);
    }
}
