//! `serverStatus` commands without unneeded sections.

use mongodb::bson::{Document, doc};

/// `serverStatus` with these sections only; `repl` identifies the server. All sections are sent that are not
/// excluded by name, so those of newer servers are sent, and ignored. The full reply has 63 kB and takes the
/// server twice as long.
pub(crate) fn server_status_with(sections: &[&str]) -> Document {
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
        "extensions",
        "freeMonitoring",
        "globalLock",
        "globalIndex",
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
        "otelMetrics",
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

/// The projection for `metrics.operation`. The filter can only exclude, with booleans.
pub(crate) fn metrics_but_for_operation() -> Document {
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
