//! Series that exist from the start, and counters that belong together.

use std::collections::{BTreeMap, BTreeSet};

use txnscope_catalog as catalog;

use super::names::{conclude, list};
use super::page::Page;
use crate::client::services::prometheus::plain;
use crate::commands::preflight::finding::Finding;

const START: &str = "series from the start";
const OPERATIONS: &str = "operation counters";
const DRIVER: &str = "driver counters";

/// The outcomes that every operation may have; only a runtime that can panic has `panicked`.
const OUTCOMES: [&str; 4] = ["succeeded", "rejected", "failed", "cancelled"];

pub(super) fn check(page: &Page) -> Vec<Finding> {
    vec![start(page), operations(page), driver(page)]
}

/// A rate over a series that appears with its first event does not contain that event.
fn start(page: &Page) -> Finding {
    let of = |name: &str| -> BTreeSet<String> {
        page.of(name).map(|sample| sample.label("operation").to_owned()).collect()
    };
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let (attempts, failures) = (catalog::TRANSACTION_ATTEMPTS.name, catalog::TRANSACTION_FAILURES.name);
    let known: BTreeSet<String> =
        [attempts, failures, &count].into_iter().flat_map(of).filter(|name| !name.is_empty()).collect();
    let mut missing = BTreeSet::new();
    for operation in &known {
        let name = plain(operation);
        for metric in [attempts, catalog::CONCURRENT_OPERATIONS.name] {
            if !page.of(metric).any(|sample| sample.label("operation") == operation) {
                missing.insert(format!("{metric} of {name}"));
            }
        }
        let has = |metric: &str, outcome: &str| {
            page.of(metric)
                .any(|sample| sample.label("operation") == operation && sample.label("outcome") == outcome)
        };
        for outcome in OUTCOMES {
            if !has(&count, outcome) {
                missing.insert(format!("{} {outcome} of {name}", catalog::TRANSACTION_DURATION.name));
            }
            if outcome != "succeeded" && !has(failures, outcome) {
                missing.insert(format!("{failures} {outcome} of {name}"));
            }
        }
    }
    if known.is_empty() {
        return Finding::fail(
            START,
            "no operation has a series",
            "set the series of every operation to zero when the process starts, before its first request",
        );
    }
    conclude(
        START,
        missing,
        || format!("{} operations, each with a series for every outcome", known.len()),
        "set them to zero when the process starts: the rate of a series that appears with its first failure misses that failure",
    )
}

/// Each operation that was admitted has ended once, or is in flight.
fn operations(page: &Page) -> Finding {
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let mut problems = BTreeSet::new();
    let ended = page.sums(&count, ["operation"]);
    let in_flight = page.sums(catalog::CONCURRENT_OPERATIONS.name, ["operation"]);
    for (key, admitted) in page.sums(catalog::TRANSACTION_ATTEMPTS.name, ["operation"]) {
        let value = |of: &BTreeMap<[String; 1], f64>| of.get(&key).copied().unwrap_or_default();
        let (ended, open) = (value(&ended), value(&in_flight));
        if admitted != ended + open {
            problems.insert(format!("{}: {admitted} admitted, {ended} ended, {open} in flight", key[0]));
        }
    }
    let failures = page.sums(catalog::TRANSACTION_FAILURES.name, ["operation", "outcome"]);
    for (key, ended) in page.sums(&count, ["operation", "outcome"]) {
        let counted = failures.get(&key).copied().unwrap_or_default();
        if key[1] != "succeeded" && counted != ended {
            problems.insert(format!(
                "{}: {ended} ended {}, and {counted} are counted as failures",
                key[0], key[1]
            ));
        }
    }
    conclude(
        OPERATIONS,
        problems,
        || "each operation has ended once, or is in flight".to_owned(),
        "count an operation once at its start, and once at its end in the histogram and, unless it succeeded, in the failures, also if \
         the client leaves; run preflight again if the backend is under load now",
    )
}

/// The counters of the driver are useful together only.
fn driver(page: &Page) -> Finding {
    let together = [
        &catalog::CLIENT_TRANSACTIONS_STARTED,
        &catalog::CLIENT_TRANSACTIONS_COMMITTED,
        &catalog::CLIENT_TRANSACTIONS_ABORTED,
        &catalog::CLIENT_TRANSACTIONS_UNKNOWN,
        &catalog::CLIENT_TRANSACTIONS_OPEN,
    ];
    let (found, missing): (Vec<&catalog::Metric>, Vec<&catalog::Metric>) =
        together.into_iter().partition(|metric| page.of(metric.name).next().is_some());
    if found.is_empty() {
        return Finding::pass(
            DRIVER,
            "none, so that TransactionCommitUnknown, TransactionRetryAmplification and TransactionCountMismatch cannot fire",
        );
    }
    let missing: BTreeSet<String> = missing.into_iter().map(|metric| metric.name.to_owned()).collect();
    if !missing.is_empty() {
        return Finding::fail(
            DRIVER,
            format!("missing beside {}: {}", found[0].name, list(&missing)),
            "export all of them or none: started = committed + aborted + unknown + open",
        );
    }
    let sum = |metric: &catalog::Metric| page.of(metric.name).map(|sample| sample.value).sum::<f64>();
    let [started, committed, aborted, unknown, open] = together.map(sum);
    let problem = (started != committed + aborted + unknown + open).then(|| {
        format!(
            "{started} started, and {committed} committed, {aborted} aborted, {unknown} unknown, {open} open"
        )
    });
    conclude(
        DRIVER,
        problem.into_iter().collect(),
        || format!("started = committed + aborted + unknown + open: {started}"),
        "count each attempt once at its start, by the command with startTransaction, and once at its end; run preflight again if the \
         backend is under load now",
    )
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
