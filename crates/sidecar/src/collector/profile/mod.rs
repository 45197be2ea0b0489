//! `system.profile` of named databases: slow operations by namespace and plan.
//!
//! The collection is polled, not tailed: at level 2 a tailing cursor records itself, and fills the collection
//! with its own `getMore`s. The DBA decides what is profiled; the sidecar never turns the profiler on.

mod cursor;
mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use txnscope_catalog as catalog;
use txnscope_catalog::{MAX_NAMESPACES, OVERFLOW};

use self::cursor::{ReadPosition, time};
use self::plan::Plan;
use super::label_limiter::CardinalityLimiter;
use super::{Collector, PollContext, Privilege, ProfileSettings, Schedule};
use crate::decode::{Field, documents, number, text};
use crate::error::PollError;
use crate::sample_set::SampleSet;

const COLLECTION: &str = "system.profile";

/// The maximum number of entries per read of one database. A profiler of the default size holds about as many.
const BATCH: usize = 1_000;

/// The error code of a write conflict.
const WRITE_CONFLICT: f64 = 112.0;

#[derive(Debug)]
pub(super) struct Profile {
    interval: Duration,
    databases: Vec<Database>,
    counters: ProfileCounters,
}

#[derive(Debug)]
struct Database {
    name: String,
    /// `None` before the end of the collection was found: entries from before the start are not counted.
    position: Option<ReadPosition>,
    /// Consecutive failed reads.
    failures: u32,
}

/// The counters of a database are no longer exported after this many consecutive failed reads, like any stale
/// sample.
const HIDDEN_AFTER: u32 = 3;

#[async_trait]
impl Collector for Profile {
    fn name(&self) -> &'static str {
        "profile"
    }

    fn schedule(&self) -> Schedule {
        Schedule::Interval(self.interval)
    }

    fn privileges(&self) -> Vec<Privilege> {
        self.databases.iter().map(|database| Privilege::find(&database.name, COLLECTION)).collect()
    }

    /// A database that cannot be read costs its own namespaces only, and makes the poll a partial failure.
    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let mut failure = None;
        for database in &mut self.databases {
            match database.read(context, &mut self.counters).await {
                Ok(()) => database.failures = 0,
                Err(error) => {
                    database.failures = database.failures.saturating_add(1);
                    failure = Some(error.with_context(&database.name));
                }
            }
        }
        match failure {
            Some(error) if self.databases.iter().all(|database| database.failures > 0) => Err(error),
            failure => {
                let samples = self.counters.samples(&hidden(&self.databases));
                Ok(Some(samples.mark_partial(failure)))
            }
        }
    }
}

/// The databases whose counters are too old to be exported.
fn hidden(databases: &[Database]) -> Vec<&str> {
    let hidden = databases.iter().filter(|database| database.failures >= HIDDEN_AFTER);
    hidden.map(|database| database.name.as_str()).collect()
}

impl Profile {
    pub(super) fn new(settings: &ProfileSettings) -> Self {
        let database = |name: &String| Database { name: name.clone(), position: None, failures: 0 };
        let databases = settings.databases.iter().map(database).collect();
        Self { interval: settings.interval, databases, counters: ProfileCounters::new() }
    }
}

impl Database {
    async fn read(
        &mut self,
        context: PollContext<'_>,
        counters: &mut ProfileCounters,
    ) -> Result<(), PollError> {
        let Some(position) = &mut self.position else {
            self.position = Some(end(context, &self.name).await?);
            return Ok(());
        };
        let reply = context.cursor_in(&self.name, command(*position)).await?;
        let entries = entries(&reply)?;
        let (new, lost) = position.advance(&entries);
        counters.gaps += u64::from(lost);
        if new.is_empty() && entries.len() == BATCH {
            position.skip_timestamp();
            counters.gaps += 1;
        }
        for entry in new {
            counters.add(entry);
        }
        Ok(())
    }
}

/// The position after all present entries.
async fn end(context: PollContext<'_>, database: &str) -> Result<ReadPosition, PollError> {
    let newest = doc! {
        "find": COLLECTION, "sort": {"$natural": -1},
        "projection": {"ts": 1}, "limit": 1, "singleBatch": true,
    };
    let reply = context.cursor_in(database, newest).await?;
    let mut position = ReadPosition::START;
    let Some(newest) = entries(&reply)?.first().and_then(|entry| time(entry)) else { return Ok(position) };
    let mut from = ReadPosition::START;
    from.advance(&[&doc! {"ts": mongodb::bson::DateTime::from_millis(newest)}]);
    let reply = context.cursor_in(database, command(from)).await?;
    position.advance(&entries(&reply)?);
    Ok(position)
}

/// Entries of the sidecar's own reads are read as well, though not counted: on a quiet server nothing else moves
/// the position, and they would overwrite it in the end.
fn command(from: ReadPosition) -> Document {
    let batch = i32::try_from(BATCH).unwrap_or(i32::MAX);
    doc! {
        "find": COLLECTION, "filter": {"ts": {"$gte": from.at()}}, "sort": {"$natural": 1},
        "projection": {"ts": 1, "ns": 1, "millis": 1, "planSummary": 1, "errCode": 1, "writeConflicts": 1},
        "limit": batch, "batchSize": batch, "singleBatch": true,
    }
}

fn entries(reply: &Document) -> Result<Vec<&Document>, PollError> {
    match documents(reply, &["cursor", "firstBatch"]) {
        Field::Value(entries) => Ok(entries),
        Field::Missing | Field::Invalid => {
            Err(PollError::malformed("the reply of find has no cursor.firstBatch"))
        }
    }
}

/// Decodes a reply, and counts all its entries.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(reply: &Document) -> SampleSet {
    let mut counters = ProfileCounters::new();
    let entries = entries(reply).unwrap_or_default();
    let mut position = ReadPosition::START;
    for entry in position.advance(&entries).0 {
        counters.add(entry);
    }
    counters.samples(&[])
}

/// Counters since the start of the sidecar. A restart of the server does not reset them.
#[derive(Debug)]
struct ProfileCounters {
    limiter: CardinalityLimiter,
    namespaces: BTreeMap<String, NamespaceCounters>,
    gaps: u64,
    /// Entries that could not be decoded since the last poll.
    malformed: u64,
}

#[derive(Debug, Clone, Default)]
struct NamespaceCounters {
    plans: [PlanCounters; Plan::ALL.len()],
    conflicts: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct PlanCounters {
    operations: u64,
    seconds: f64,
}

impl ProfileCounters {
    fn new() -> Self {
        Self {
            limiter: CardinalityLimiter::new(MAX_NAMESPACES),
            namespaces: BTreeMap::new(),
            gaps: 0,
            malformed: 0,
        }
    }

    fn add(&mut self, entry: &Document) {
        let Field::Value(namespace) = text(entry, &["ns"]) else {
            self.malformed += 1;
            return;
        };
        if namespace.split_once('.').is_some_and(|(_, collection)| collection == COLLECTION) {
            return;
        }
        let namespace = self.limiter.label_for(namespace).into_owned();
        let namespace_counters = self.namespaces.entry(namespace).or_default();
        let plan = &mut namespace_counters.plans
            [Plan::of(text(entry, &["planSummary"]).ok().unwrap_or_default()) as usize];
        plan.operations += 1;
        plan.seconds += number(entry, &["millis"]).ok().unwrap_or_default() / 1e3;
        let retried = number(entry, &["writeConflicts"]).ok().unwrap_or_default();
        // Inside a transaction a conflict ends the operation, which then has no `writeConflicts`.
        let ended = number(entry, &["errCode"]) == Field::Value(WRITE_CONFLICT) && retried == 0.0;
        namespace_counters.conflicts += retried + f64::from(u8::from(ended));
    }

    /// The samples, without those of hidden databases.
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
    fn samples(&mut self, hidden: &[&str]) -> SampleSet {
        let mut samples = SampleSet::default();
        (0..std::mem::take(&mut self.malformed)).for_each(|_| samples.count_dropped());
        // A namespace that the limiter has dropped starts from zero if it comes back.
        let limiter = &self.limiter;
        self.namespaces.retain(|namespace, _| namespace == OVERFLOW || limiter.is_tracked(namespace));
        samples.number(&catalog::MONGODB_PROFILE_GAPS, &[], Field::Value(self.gaps as f64));
        let is_hidden = |namespace: &str| {
            namespace.split_once('.').is_some_and(|(database, _)| hidden.contains(&database))
        };
        for (namespace, namespace_counters) in
            self.namespaces.iter().filter(|(namespace, _)| !is_hidden(namespace))
        {
            for plan in Plan::ALL {
                let labels = || vec![namespace.clone().into(), plan.as_str().into()];
                let PlanCounters { operations, seconds } = namespace_counters.plans[plan as usize];
                let operations = Field::Value(operations as f64);
                samples.labeled(&catalog::MONGODB_PROFILED_OPERATIONS, labels(), operations);
                samples.labeled(
                    &catalog::MONGODB_PROFILED_OPERATIONS_SECONDS,
                    labels(),
                    Field::Value(seconds),
                );
            }
            let conflicts = Field::Value(namespace_counters.conflicts);
            samples.labeled(
                &catalog::MONGODB_PROFILED_WRITE_CONFLICTS,
                vec![namespace.clone().into()],
                conflicts,
            );
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiler_entries_are_counted_by_namespace_and_plan() {
        let mut counters = ProfileCounters::new();
        for entry in [
            doc! {"ns": "shop.orders", "planSummary": "COLLSCAN", "millis": 1_500},
            doc! {"ns": "shop.orders", "planSummary": "COLLSCAN", "millis": 500, "writeConflicts": 3_i64},
            doc! {"ns": "shop.orders", "planSummary": "IDHACK", "errCode": 112, "millis": "long"},
            doc! {"ns": 7},
            doc! {"ns": "shop.system.profile", "planSummary": "COLLSCAN"},
        ] {
            counters.add(&entry);
        }
        let samples = counters.samples(&[]);
        assert_eq!((samples.dropped(), samples.as_slice().len()), (1, 10));
        let namespace_counters = |name, labels: &[&str]| samples.find(name, labels);
        assert_eq!(
            namespace_counters("mongodb_profiled_operations_total", &["shop.orders", "collscan"]),
            Some(2.0)
        );
        assert_eq!(
            namespace_counters("mongodb_profiled_operations_seconds_total", &["shop.orders", "collscan"]),
            Some(2.0)
        );
        assert_eq!(
            namespace_counters("mongodb_profiled_operations_total", &["shop.orders", "ixscan"]),
            Some(0.0)
        );
        assert_eq!(namespace_counters("mongodb_profiled_write_conflicts_total", &["shop.orders"]), Some(4.0));
        assert_eq!(counters.samples(&[]).dropped(), 0, "malformed entries are counted once");
    }

    #[test]
    fn counters_of_a_database_are_hidden_after_three_failed_reads() {
        let database = |failures| Database { name: "shop".to_owned(), position: None, failures };
        let mut counters = ProfileCounters::new();
        counters.add(&doc! {"ns": "shop.orders", "planSummary": "EOF"});
        let mut count = |failures| {
            let samples = counters.samples(&hidden(&[database(failures)]));
            samples.find("mongodb_profiled_operations_total", &["shop.orders", "other"])
        };
        assert_eq!([0, 2, 3, 4].map(&mut count), [Some(1.0), Some(1.0), None, None]);
        assert_eq!(count(0), Some(1.0), "they are not lost");
    }

    #[test]
    fn namespaces_over_the_limit_overflow() {
        let mut counters = ProfileCounters::new();
        for index in 0..MAX_NAMESPACES + 5 {
            counters.add(&doc! {"ns": format!("shop.c{index}"), "planSummary": "EOF"});
        }
        let samples = counters.samples(&[]);
        assert_eq!(samples.find("mongodb_profiled_operations_total", &["overflow", "other"]), Some(5.0));
        assert_eq!(samples.dropped(), 0);
    }
}
