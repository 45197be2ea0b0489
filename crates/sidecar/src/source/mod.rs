//! What the sidecar asks of a member. Each source is one file here and one line in [`all`].
//!
//! A source has its own schedule, timeout, success, age and error reason, and costs only its own families when it
//! fails: the poller sees to that, and a source knows nothing of it.

mod current_op;
mod server_status;
mod storage_engine;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::Database;
use mongodb::bson::{Document, doc};

use crate::error::PollError;
use crate::reading::Reading;

/// Something that is asked of one member, again and again.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send {
    /// Its word in the catalogue's `POLL_SOURCES`.
    fn name(&self) -> &'static str;

    /// When it is due.
    fn schedule(&self) -> Schedule {
        Schedule::Every(1)
    }

    /// Asks the member. `None`: it is not due yet by its own account, and what was read last stands.
    ///
    /// # Cancellation
    ///
    /// Dropped when the timeout is over. The next poll may follow at any time.
    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError>;

    /// The time between two readings, if it is not what the schedule says.
    fn pace(&self) -> Option<Duration> {
        None
    }

    /// The member did not answer at all: what was learned about it may no longer hold.
    fn forget(&mut self) {}
}

/// When a source is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Every so many intervals of the configuration.
    Every(u32),
    /// Whenever the status was read; not at all while the member does not answer.
    AfterStatus,
}

/// The means by which a source asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    admin: &'a Database,
    timeout: Duration,
    /// How many transactions the status has just said to be open, if it said so.
    pub(crate) open_transactions: Option<f64>,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(admin: &'a Database, timeout: Duration, open_transactions: Option<f64>) -> Self {
        Self { admin, timeout, open_transactions }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs a command on `admin`. The server gives up a little before we do: an answer, even that one, keeps the
    /// connection, while our own timeout closes it.
    pub(crate) async fn run(&self, mut command: Document) -> Result<Document, PollError> {
        let patience = i64::try_from(self.timeout.as_millis() * 4 / 5).unwrap_or(i64::MAX);
        command.insert("maxTimeMS", patience.max(1));
        Ok(self.admin.run_command(command).await?)
    }
}

/// The sources of one member. The first is the status, which others follow.
pub(crate) fn all() -> Vec<Box<dyn Source>> {
    vec![
        Box::new(server_status::ServerStatus),
        Box::<current_op::CurrentOp>::default(),
        Box::new(storage_engine::StorageEngine),
    ]
}

/// The source that says whether the member is up, and how many transactions are open.
pub(crate) const STATUS: &str = "server_status";

/// `serverStatus` with these sections only. It sends all that are not refused by name, so what a newer server adds
/// is sent, and ignored. The whole is 63 kB and takes the server twice as long.
fn server_status_with(sections: &[&str]) -> Document {
    const ALL: &[&str] = &[
        "activeIndexBuilds",
        "asserts",
        "batchedDeletes",
        "catalogStats",
        "changeStreamPreImages",
        "collectionCatalog",
        "connections",
        "defaultRWConcern",
        "electionMetrics",
        "encryptionAtRest",
        "extra_info",
        "featureCompatibilityVersion",
        "flowControl",
        "freeMonitoring",
        "globalLock",
        "health",
        "hedgingMetrics",
        "indexBuilds",
        "indexBulkBuilder",
        "indexStats",
        "ingressSessionEstablishmentQueues",
        "internalTransactions",
        "locks",
        "logicalSessionRecordCache",
        "metrics",
        "mirroredReads",
        "network",
        "opLatencies",
        "opWorkingTime",
        "opWriteConcernCounters",
        "opcounters",
        "opcountersRepl",
        "oplogTruncation",
        "planCache",
        "queryAnalyzers",
        "querySettings",
        "queues",
        "readConcernCounters",
        "readPreferenceCounters",
        "repl",
        "scramCache",
        "security",
        "service",
        "shardSplits",
        "shardedIndexConsistency",
        "sharding",
        "shardingStatistics",
        "spillWiredTiger",
        "storageEngine",
        "tcmalloc",
        "tenantMigrations",
        "trafficRecording",
        "transactions",
        "transportSecurity",
        "twoPhaseCommitCoordinator",
        "watchdog",
        "wiredTiger",
    ];
    let mut command = doc! {"serverStatus": 1};
    let refused = ALL.iter().filter(|section| !sections.contains(section));
    command.extend(refused.map(|section| ((*section).to_owned(), 0.into())));
    command
}

/// The part of `metrics` that we read. Its filter can only leave out, and wants booleans.
fn metrics_but_for_operation() -> Document {
    const REST: &[&str] = &[
        "aggStageCounters",
        "apiVersions",
        "changeStreams",
        "commands",
        "cursor",
        "diskSpillingStats",
        "document",
        "dotsAndDollarsFields",
        "getLastError",
        "mongos",
        "network",
        "operatorCounters",
        "query",
        "queryExecutor",
        "queryFramework",
        "record",
        "repl",
        "serviceExecutor",
        "storage",
        "ttl",
    ];
    REST.iter().map(|group| ((*group).to_owned(), false.into())).collect()
}

#[cfg(test)]
mod tests {
    use txnscope_catalog::POLL_SOURCES;

    use super::*;

    #[test]
    fn the_sources_are_the_catalogue_s_and_the_status_is_first() {
        let names: Vec<_> = all().iter().map(|source| source.name()).collect();
        assert_eq!(names, POLL_SOURCES);
        assert_eq!(names[0], STATUS);
    }
}
