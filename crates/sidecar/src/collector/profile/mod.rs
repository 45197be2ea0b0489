//! `system.profile` of named databases: slow operations as counters by namespace and plan.
//!
//! It is polled, never tailed: at level 2 a tailing cursor records itself, and fills the collection with its own
//! `getMore`s. Whether anything is profiled is the DBA's decision; nothing here turns the profiler on.

mod mark;
mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use txnscope_catalog as catalog;
use txnscope_catalog::{MAX_NAMESPACES, OVERFLOW};

use self::mark::{Mark, time};
use self::plan::Plan;
use super::names::Names;
use super::{Ask, Collector, Privilege, ProfileSettings, Schedule};
use crate::decode::{Found, documents, number, text};
use crate::error::PollError;
use crate::reading::Reading;

const COLLECTION: &str = "system.profile";

/// The most entries that are read of one database at once; a profiler of the default size holds about as many.
const BATCH: usize = 1_000;

/// The code of an operation that a write conflict ended.
const WRITE_CONFLICT: f64 = 112.0;

#[derive(Debug)]
pub(super) struct Profile {
    interval: Duration,
    databases: Vec<Database>,
    counts: Counts,
}

#[derive(Debug)]
struct Database {
    name: String,
    /// `None` until its end was found: what is older than we are is not ours to count.
    mark: Option<Mark>,
    /// How often in a row it could not be read.
    failures: u32,
}

/// After so many failures in a row, what was counted of a database is no longer shown, as a reading that is as old
/// would not be.
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

    /// A database that cannot be read costs its own namespaces; but the poll has failed in part, and says so.
    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        let mut failure = None;
        for database in &mut self.databases {
            match database.read(ask, &mut self.counts).await {
                Ok(()) => database.failures = 0,
                Err(error) => {
                    database.failures = database.failures.saturating_add(1);
                    failure = Some(error.at(&database.name));
                }
            }
        }
        match failure {
            Some(error) if self.databases.iter().all(|database| database.failures > 0) => Err(error),
            failure => {
                let hidden = self.databases.iter().filter(|database| database.failures >= HIDDEN_AFTER);
                let hidden: Vec<_> = hidden.map(|database| database.name.as_str()).collect();
                Ok(Some(self.counts.reading(&hidden).lacks(failure)))
            }
        }
    }
}

impl Profile {
    pub(super) fn new(settings: &ProfileSettings) -> Self {
        let database = |name: &String| Database { name: name.clone(), mark: None, failures: 0 };
        let databases = settings.databases.iter().map(database).collect();
        Self { interval: settings.interval, databases, counts: Counts::new() }
    }
}

impl Database {
    async fn read(&mut self, ask: Ask<'_>, counts: &mut Counts) -> Result<(), PollError> {
        let Some(mark) = &mut self.mark else {
            self.mark = Some(end(ask, &self.name).await?);
            return Ok(());
        };
        let reply = ask.cursor_in(&self.name, command(*mark)).await?;
        let entries = entries(&reply)?;
        let (new, lost) = mark.advance(&entries);
        counts.gaps += u64::from(lost);
        if new.is_empty() && entries.len() == BATCH {
            mark.skip_moment();
            counts.gaps += 1;
        }
        for entry in new {
            counts.add(entry);
        }
        Ok(())
    }
}

/// The mark behind all that is there now.
async fn end(ask: Ask<'_>, database: &str) -> Result<Mark, PollError> {
    let newest = doc! {
        "find": COLLECTION, "sort": {"$natural": -1},
        "projection": {"ts": 1}, "limit": 1, "singleBatch": true,
    };
    let reply = ask.cursor_in(database, newest).await?;
    let mut mark = Mark::START;
    let Some(newest) = entries(&reply)?.first().and_then(|entry| time(entry)) else { return Ok(mark) };
    let mut from = Mark::START;
    from.advance(&[&doc! {"ts": mongodb::bson::DateTime::from_millis(newest)}]);
    let reply = ask.cursor_in(database, command(from)).await?;
    mark.advance(&entries(&reply)?);
    Ok(mark)
}

/// Our own readings of the collection, if they are recorded, are read like all others, though not counted: on a quiet
/// server nothing else moves the mark, and they would overwrite it in the end.
fn command(from: Mark) -> Document {
    let batch = i32::try_from(BATCH).unwrap_or(i32::MAX);
    doc! {
        "find": COLLECTION, "filter": {"ts": {"$gte": from.at()}}, "sort": {"$natural": 1},
        "projection": {"ts": 1, "ns": 1, "millis": 1, "planSummary": 1, "errCode": 1, "writeConflicts": 1},
        "limit": batch, "batchSize": batch, "singleBatch": true,
    }
}

fn entries(reply: &Document) -> Result<Vec<&Document>, PollError> {
    match documents(reply, &["cursor", "firstBatch"]) {
        Found::Value(entries) => Ok(entries),
        Found::Missing | Found::Odd => {
            Err(PollError::malformed("the reply of find has no cursor.firstBatch"))
        }
    }
}

/// What a poll makes of a reply, when nothing was read before.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(reply: &Document) -> Reading {
    let mut counts = Counts::new();
    let entries = entries(reply).unwrap_or_default();
    let mut mark = Mark::START;
    for entry in mark.advance(&entries).0 {
        counts.add(entry);
    }
    counts.reading(&[])
}

/// What was read since the sidecar began: counters of ours, which a restart of the server does not reset.
#[derive(Debug)]
struct Counts {
    names: Names,
    namespaces: BTreeMap<String, OfNamespace>,
    gaps: u64,
    /// Entries that could not be read, since the last reading.
    odd: u64,
}

#[derive(Debug, Clone, Default)]
struct OfNamespace {
    plans: [OfPlan; Plan::ALL.len()],
    conflicts: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfPlan {
    operations: u64,
    seconds: f64,
}

impl Counts {
    fn new() -> Self {
        Self { names: Names::new(MAX_NAMESPACES), namespaces: BTreeMap::new(), gaps: 0, odd: 0 }
    }

    fn add(&mut self, entry: &Document) {
        let Found::Value(namespace) = text(entry, &["ns"]) else {
            self.odd += 1;
            return;
        };
        if namespace.split_once('.').is_some_and(|(_, collection)| collection == COLLECTION) {
            return;
        }
        let namespace = self.names.admit(namespace).into_owned();
        let of = self.namespaces.entry(namespace).or_default();
        let plan = &mut of.plans[Plan::of(text(entry, &["planSummary"]).ok().unwrap_or_default()) as usize];
        plan.operations += 1;
        plan.seconds += number(entry, &["millis"]).ok().unwrap_or_default() / 1e3;
        let retried = number(entry, &["writeConflicts"]).ok().unwrap_or_default();
        // Inside a transaction a conflict ends the operation, which then counts none.
        let ended = number(entry, &["errCode"]) == Found::Value(WRITE_CONFLICT) && retried == 0.0;
        of.conflicts += retried + f64::from(u8::from(ended));
    }

    /// What is to be shown, without those databases.
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
    fn reading(&mut self, hidden: &[&str]) -> Reading {
        let mut reading = Reading::default();
        (0..std::mem::take(&mut self.odd)).for_each(|_| reading.drop_one());
        // Who has lost its place begins anew if it comes back.
        let names = &self.names;
        self.namespaces.retain(|namespace, _| namespace == OVERFLOW || names.has(namespace));
        reading.number(&catalog::MONGODB_PROFILE_GAPS, &[], Found::Value(self.gaps as f64));
        let is_hidden = |namespace: &str| {
            namespace.split_once('.').is_some_and(|(database, _)| hidden.contains(&database))
        };
        for (namespace, of) in self.namespaces.iter().filter(|(namespace, _)| !is_hidden(namespace)) {
            for plan in Plan::ALL {
                let labels = || vec![namespace.clone().into(), plan.as_str().into()];
                let OfPlan { operations, seconds } = of.plans[plan as usize];
                let operations = Found::Value(operations as f64);
                reading.labelled(&catalog::MONGODB_PROFILED_OPERATIONS, labels(), operations);
                reading.labelled(
                    &catalog::MONGODB_PROFILED_OPERATIONS_SECONDS,
                    labels(),
                    Found::Value(seconds),
                );
            }
            let conflicts = Found::Value(of.conflicts);
            reading.labelled(
                &catalog::MONGODB_PROFILED_WRITE_CONFLICTS,
                vec![namespace.clone().into()],
                conflicts,
            );
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_counters_by_namespace_and_plan() {
        let mut counts = Counts::new();
        for entry in [
            doc! {"ns": "shop.orders", "planSummary": "COLLSCAN", "millis": 1_500},
            doc! {"ns": "shop.orders", "planSummary": "COLLSCAN", "millis": 500, "writeConflicts": 3_i64},
            doc! {"ns": "shop.orders", "planSummary": "IDHACK", "errCode": 112, "millis": "long"},
            doc! {"ns": 7},
            doc! {"ns": "shop.system.profile", "planSummary": "COLLSCAN"},
        ] {
            counts.add(&entry);
        }
        let reading = counts.reading(&[]);
        assert_eq!((reading.dropped(), reading.samples().len()), (1, 10));
        let of = |name, labels: &[&str]| reading.find(name, labels);
        assert_eq!(of("mongodb_profiled_operations_total", &["shop.orders", "collscan"]), Some(2.0));
        assert_eq!(of("mongodb_profiled_operations_seconds_total", &["shop.orders", "collscan"]), Some(2.0));
        assert_eq!(of("mongodb_profiled_operations_total", &["shop.orders", "ixscan"]), Some(0.0));
        assert_eq!(of("mongodb_profiled_write_conflicts_total", &["shop.orders"]), Some(4.0));
        assert_eq!(counts.reading(&[]).dropped(), 0, "what was odd is counted once");
    }

    #[test]
    fn namespaces_over_the_bound_are_counted_together() {
        let mut counts = Counts::new();
        for index in 0..MAX_NAMESPACES + 5 {
            counts.add(&doc! {"ns": format!("shop.c{index}"), "planSummary": "EOF"});
        }
        let reading = counts.reading(&[]);
        assert_eq!(reading.find("mongodb_profiled_operations_total", &["overflow", "other"]), Some(5.0));
        assert_eq!(reading.dropped(), 0);
    }
}
