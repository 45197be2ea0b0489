//! The open transactions of this process: which operation holds which session.
//!
//! An idle transaction shows neither namespace nor command nor comment on the server. Only its session id leads back
//! to the code that started it; this table maps session ids to operations.

use std::cmp::Reverse;
use std::collections::{HashMap, hash_map};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document};
use quanta::Instant;
use serde::Serialize;

use super::connection_pools::{ConnectionPool, ConnectionPools};
use super::key::Key;
use super::keyed_queue::{KeyQueue, KeyedQueues};
use super::nesting::RunScope;

/// The most queues that are listed.
const MAX_QUEUES: usize = 20;
/// Reduces contention on the table.
const SHARDS: usize = 16;

/// The id of a session: the UUID that the server and the driver use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lsid([u8; 16]);

impl Lsid {
    /// Parses the document that the driver and the server use: `{"id": UUID}`.
    pub(crate) fn of(document: &Document) -> Option<Self> {
        match document.get("id") {
            Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid => {
                Some(Self(binary.bytes.as_slice().try_into().ok()?))
            }
            _ => None,
        }
    }

    /// Identifies the notes of the session's transactions. The lowest bit is set, in contrast to the runner's note
    /// ids.
    pub(crate) fn note_id(self) -> u64 {
        let (first, _) = self.0.split_at(8);
        first.iter().fold(0, |note_id, byte| note_id << 8 | u64::from(*byte)) | 1
    }

    fn shard(self) -> usize {
        usize::from(self.0[15]) % SHARDS
    }
}

/// Displays the id as a UUID.
impl fmt::Display for Lsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Lsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The component that counts a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Runner,
    Listener,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    txn_number: Option<i64>,
    operation: &'static str,
    since: Instant,
}

/// The open transactions of this process, as known to the runner and the listeners, and what transactions wait for here before
/// the server sees them: keys and connections.
#[derive(Debug, Default)]
pub struct OpenTransactions {
    shards: [Mutex<HashMap<Lsid, Entry>>; SHARDS],
    /// The queues of each runner.
    queues: Mutex<Vec<Weak<KeyedQueues>>>,
    pools: ConnectionPools,
}

impl OpenTransactions {
    pub(crate) fn insert(
        &self,
        lsid: Lsid,
        owner: Owner,
        txn_number: Option<i64>,
        operation: &'static str,
        since: Instant,
    ) {
        self.shard(lsid).insert(lsid, Entry { owner, txn_number, operation, since });
    }

    pub(crate) fn remove(&self, lsid: Lsid) {
        self.shard(lsid).remove(&lsid);
    }

    /// Removes the listener's entry of a transaction. If another transaction has taken the session meanwhile, its
    /// entry stays.
    pub(crate) fn remove_observed(&self, lsid: Lsid, txn_number: i64) {
        if let hash_map::Entry::Occupied(row) = self.shard(lsid).entry(lsid)
            && row.get().owner == Owner::Listener
            && row.get().txn_number == Some(txn_number)
        {
            row.remove();
        }
    }

    /// Whether the runner counts the session's transaction.
    pub(crate) fn is_owned_by_runner(&self, lsid: Lsid) -> bool {
        self.shard(lsid).get(&lsid).is_some_and(|entry| entry.owner == Owner::Runner)
    }

    fn shard(&self, lsid: Lsid) -> MutexGuard<'_, HashMap<Lsid, Entry>> {
        self.shards[lsid.shard()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all open transactions, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<OpenTransaction> {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut list: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let entry = |(lsid, entry): (&Lsid, &Entry)| {
                    let open = now.duration_since(entry.since);
                    OpenTransaction {
                        lsid: lsid.to_string(),
                        txn_number: entry.txn_number,
                        operation: entry.operation,
                        since_seconds: unix_seconds(clock, open),
                        open_seconds: open.as_secs_f64(),
                    }
                };
                shard.iter().map(entry).collect::<Vec<_>>()
            })
            .collect();
        list.sort_by(|a, b| b.open_seconds.total_cmp(&a.open_seconds));
        list
    }

    pub(super) fn watch_queues(&self, queues: &Arc<KeyedQueues>) {
        let mut watched = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|queues| queues.strong_count() > 0);
        watched.push(Arc::downgrade(queues));
    }

    pub(super) fn pools(&self) -> &ConnectionPools {
        &self.pools
    }

    /// Returns the keys that transactions wait for, those with the longest queues first, and at most 20.
    ///
    /// A key is what the application passes to
    /// [`serialize_on`](crate::transaction::TransactionBuilder::serialize_on), such as the id of an account.
    #[must_use]
    pub fn queues(&self) -> Vec<KeyQueue> {
        let watched = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut waiting: Vec<_> =
            watched.iter().filter_map(Weak::upgrade).flat_map(|queues| queues.waiting()).collect();
        waiting.sort_by_key(|(key, waiting, _)| (Reverse(*waiting), *key));
        waiting.truncate(MAX_QUEUES);
        let queue = |(key, waiting, holder): (Key, usize, Option<Arc<RunScope>>)| KeyQueue {
            key: key.to_string(),
            operation: holder.map(|holder| holder.metrics.operation()),
            waiting,
        };
        waiting.into_iter().map(queue).collect()
    }

    /// Returns the use of the connection pools of clients with a [`ConnectionPoolListener`], sorted by server.
    ///
    /// [`ConnectionPoolListener`]: crate::ConnectionPoolListener
    #[must_use]
    pub fn connection_pools(&self) -> Vec<ConnectionPool> {
        self.pools.list()
    }

    /// Returns the number of open transactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Returns whether no transaction is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn unix_seconds(clock: SystemTime, ago: Duration) -> f64 {
    clock.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago).as_secs_f64()
}

/// One open transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OpenTransaction {
    /// The session's id as a UUID: `lsid.id` in `$currentOp`.
    pub lsid: String,
    /// The transaction's number in its session, if the driver exposes it.
    pub txn_number: Option<i64>,
    /// The operation that started the transaction.
    pub operation: &'static str,
    /// When the first statement was passed to the driver, in seconds since 1970, by this machine's clock.
    pub since_seconds: f64,
    /// How long the transaction has been open, in seconds.
    pub open_seconds: f64,
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Binary, doc};

    use super::*;

    fn lsid(last: u8) -> Lsid {
        let bytes: Vec<u8> = (0..15).chain([last]).collect();
        Lsid::of(&doc! { "id": Binary { subtype: BinarySubtype::Uuid, bytes } }).unwrap()
    }

    #[test]
    fn lsid_is_displayed_as_uuid() {
        assert_eq!(lsid(255).to_string(), "00010203-0405-0607-0809-0a0b0c0d0eff");
        for invalid in
            [doc! {}, doc! {"id": 7}, doc! {"id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![1] }}]
        {
            assert_eq!(Lsid::of(&invalid), None, "{invalid}");
        }
    }

    #[test]
    fn list_is_sorted_oldest_first() {
        let open = OpenTransactions::default();
        let now = Instant::now();
        open.insert(lsid(1), Owner::Runner, Some(3), "young", now);
        open.insert(lsid(2), Owner::Listener, None, "old", now - Duration::from_secs(5));
        let list = open.list();
        assert_eq!(list.iter().map(|entry| entry.operation).collect::<Vec<_>>(), ["old", "young"]);
        assert!(list[0].open_seconds >= 5.0 && list[1].since_seconds - list[0].since_seconds > 4.9);
        assert!(
            open.is_owned_by_runner(lsid(1))
                && !open.is_owned_by_runner(lsid(2))
                && !open.is_owned_by_runner(lsid(3))
        );
        open.remove(lsid(1));
        open.remove(lsid(2));
        assert!(open.is_empty());
    }

    #[test]
    fn listener_removes_only_its_own_rows() {
        let open = OpenTransactions::default();
        let now = Instant::now();
        open.insert(lsid(1), Owner::Runner, Some(3), "the runner's", now);
        open.insert(lsid(2), Owner::Listener, Some(4), "a later one", now);
        open.remove_observed(lsid(1), 3);
        open.remove_observed(lsid(2), 3);
        assert_eq!(open.len(), 2);
        open.remove_observed(lsid(2), 4);
        assert_eq!(open.list()[0].operation, "the runner's");
    }
}
