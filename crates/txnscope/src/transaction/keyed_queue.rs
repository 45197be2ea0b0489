//! Queues, in this process, that serialize transactions with the same key.
//!
//! Two transactions that write one document cannot both commit: one of them conflicts, and is retried until it meets
//! no other. If the application knows beforehand which document will conflict, the transactions wait for each other
//! here instead. A waiting transaction holds neither a session nor a connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quanta::Instant;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::key::Key;
use super::metrics::TransactionMetrics;
use super::nesting::{Deadlock, RunScope, WaitRegistration};

const SHARDS: usize = 16;

/// The queues of all keys.
#[derive(Default)]
pub(super) struct KeyedQueues {
    shards: [Mutex<HashMap<Key, Queue>>; SHARDS],
}

/// The queue of one key: its waiters and its holder.
struct Queue {
    acquire: Arc<Semaphore>,
    members: usize,
    holder: Option<Arc<RunScope>>,
}

/// A key that transactions of this process wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyQueue {
    /// The key, if it is a number or text; otherwise its type and a hash.
    pub key: String,
    /// The operation whose transaction holds the key; `None` while it passes from one to the next.
    pub operation: Option<&'static str>,
    /// How many transactions wait for it.
    pub waiting: usize,
}

/// The error of acquiring keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AcquireError {
    /// The queue is full.
    QueueFull,
    Deadlock(Deadlock),
}

impl KeyedQueues {
    /// Acquires all these keys, each queue in the order of arrival. Fails if a queue is full.
    ///
    /// # Cancellation
    ///
    /// Cancel safe: dropping the future leaves the queue.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        keys: &[Key],
        max_waiting: usize,
        run: &Arc<RunScope>,
    ) -> Result<Vec<QueuePermit>, AcquireError> {
        let _waiting = WaitTimer::begin(run.metrics);
        let mut permits = Vec::with_capacity(keys.len());
        // All transactions acquire keys in the same order, so that they do not deadlock.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (acquire, membership) = self.join(key, max_waiting)?;
            // Without a held key, no other transaction waits for this one.
            let holds = !permits.is_empty() || run.is_nested();
            let registered = holds
                .then(|| WaitRegistration::new(run, self, key))
                .transpose()
                .map_err(AcquireError::Deadlock)?;
            // The queue's semaphore is never closed.
            let permit = acquire.acquire_owned().await.ok();
            drop(registered);
            if let Some(queue) = self.shard(key).get_mut(&key) {
                queue.holder = Some(Arc::clone(run));
            }
            permits.push(QueuePermit { permit, membership });
        }
        Ok(permits)
    }

    fn join(
        self: &Arc<Self>,
        key: Key,
        max_waiting: usize,
    ) -> Result<(Arc<Semaphore>, Membership), AcquireError> {
        let mut shard = self.shard(key);
        let queue = shard.entry(key).or_insert_with(|| Queue {
            acquire: Arc::new(Semaphore::new(1)),
            members: 0,
            holder: None,
        });
        if queue.members > max_waiting {
            return Err(AcquireError::QueueFull);
        }
        queue.members += 1;
        Ok((Arc::clone(&queue.acquire), Membership { queues: Arc::clone(self), key }))
    }

    /// Returns the holder of a key.
    pub(super) fn holder(&self, key: Key) -> Option<Arc<RunScope>> {
        self.shard(key).get(&key)?.holder.clone()
    }

    /// Returns the keys that transactions wait for, with their numbers.
    pub(super) fn waiting(&self) -> Vec<(Key, usize, Option<Arc<RunScope>>)> {
        let of_shard = |shard: &Mutex<HashMap<Key, Queue>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let of_key = |(key, queue): (&Key, &Queue)| {
                let waiting = queue.members - usize::from(queue.holder.is_some());
                (waiting > 0).then(|| (*key, waiting, queue.holder.clone()))
            };
            shard.iter().filter_map(of_key).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, Queue>> {
        self.shards[key.shard(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Permission to run, until this is dropped.
pub(super) struct QueuePermit {
    permit: Option<OwnedSemaphorePermit>,
    membership: Membership,
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let Membership { queues, key } = &self.membership;
        if let Some(queue) = queues.shard(*key).get_mut(key) {
            queue.holder = None;
        }
        // Release the permit before the queue may be removed.
        self.permit.take();
    }
}

/// Counts a waiter or a holder; the last one removes the queue.
struct Membership {
    queues: Arc<KeyedQueues>,
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

/// Counts a waiter, and records its wait.
struct WaitTimer {
    metrics: &'static TransactionMetrics,
    since: Instant,
}

impl WaitTimer {
    fn begin(metrics: &'static TransactionMetrics) -> Self {
        metrics.queued.increment(1.0);
        Self { metrics, since: Instant::now() }
    }
}

impl Drop for WaitTimer {
    fn drop(&mut self) {
        self.metrics.queued.decrement(1.0);
        self.metrics.queue_wait.record(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metrics, OperationName};

    fn run() -> (Metrics, Arc<RunScope>) {
        let metrics = Metrics::isolated().unwrap();
        let operation = metrics.registry().resolve(OperationName::named("op"));
        (metrics, RunScope::new(operation.transaction_metrics()))
    }

    fn members(queues: &KeyedQueues) -> usize {
        queues
            .shards
            .iter()
            .flat_map(|shard| shard.lock().unwrap().values().map(|q| q.members).collect::<Vec<_>>())
            .sum()
    }

    #[tokio::test]
    async fn permits_are_granted_in_order_and_queue_is_removed() {
        let (metrics, run) = run();
        let (queues, key) = (Arc::<KeyedQueues>::default(), Key::of(&"retainer"));
        let first = queues.acquire(&[key], 10, &run).await.unwrap();
        let order = Arc::<Mutex<Vec<u32>>>::default();
        let mut waiters = Vec::new();
        for number in 0..5 {
            let (waiting, order, run) = (Arc::clone(&queues), Arc::clone(&order), Arc::clone(&run));
            waiters.push(tokio::spawn(async move {
                let _turn = waiting.acquire(&[key], 10, &run).await.unwrap();
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
        let waiting: Vec<_> = queues.waiting().iter().map(|(_, waiting, _)| *waiting).collect();
        assert_eq!(waiting, [5], "the holder does not wait");
        waiters.remove(2).abort();
        drop(first);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
        assert!(queues.waiting().is_empty());
        assert_eq!(members(&queues), 0);
        assert!(queues.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        assert!(metrics.render().contains("mongodb_client_transactions_queued{operation=\"op\"} 0"));
    }

    #[tokio::test]
    async fn full_queue_rejects() {
        let (_metrics, run) = run();
        let (queues, key) = (Arc::<KeyedQueues>::default(), Key::of(&7));
        let _turn = queues.acquire(&[key, key], 0, &run).await.unwrap();
        assert_eq!(queues.acquire(&[key], 0, &run).await.err(), Some(AcquireError::QueueFull));
        assert!(queues.acquire(&[Key::of(&8)], 0, &run).await.is_ok());
    }

    #[tokio::test]
    async fn multiple_keys_do_not_deadlock() {
        let (_metrics, run) = run();
        let queues = Arc::<KeyedQueues>::default();
        let (a, b) = (Key::of(&"a"), Key::of(&"b"));
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..100 {
            let (queues, run) = (Arc::clone(&queues), RunScope::new(run.metrics));
            let keys = if index % 2 == 0 { [a, b] } else { [b, a] };
            tasks.spawn(async move {
                let _turn = queues.acquire(&keys, 200, &run).await.unwrap();
                tokio::task::yield_now().await;
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(members(&queues), 0);
    }
}
