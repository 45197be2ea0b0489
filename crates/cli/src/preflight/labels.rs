//! Whether what a backend exports is what the alerts need: its labels, its families, and where its time limits are.

use txnscope_catalog as catalog;

use super::finding::Finding;
use super::monitoring::unknown;
use crate::services::Trouble;
use crate::services::prometheus::{Prometheus, plain};

pub(super) const METRICS: &str = "backend metrics";
pub(super) const CANCELLED: &str = "cancelled operations";
pub(super) const UNMATCHED: &str = "unmatched requests";

/// From this share on, cancelled operations are more than callers that leave.
const MANY: f64 = 0.1;
/// Of fewer within the hour, a share says nothing.
const FEW: u32 = 20;

const BURNS: &str = "TransactionFailureBudgetBurnFast and Slow, TransactionLatencyBudgetBurnFast and Slow, TransactionCancellationRatio";
const OF_DRIVER: &str = "TransactionCommitUnknown, TransactionRetryAmplification, TransactionCountMismatch";

/// The jobs that a query finds, in order.
async fn jobs(prometheus: &Prometheus, query: &str) -> Result<Vec<String>, Trouble> {
    let found = prometheus.query(query, None).await?;
    let job = |labels: &crate::services::prometheus::Labels| {
        plain(labels.get("job").map_or("a job without a name", String::as_str))
    };
    let mut jobs: Vec<String> = found.iter().map(|sample| job(&sample.labels)).collect();
    jobs.sort();
    jobs.dedup();
    Ok(jobs)
}

/// What passed so far, unless its series are without the labels that alerts compare and group by.
pub(super) async fn present(prometheus: &Prometheus, passed: Finding) -> Finding {
    let (attempts, duration) =
        (catalog::TRANSACTION_ATTEMPTS.name, format!("{}_count", catalog::TRANSACTION_DURATION.name));
    let no_outcome =
        format!("count by (job) ({duration}{{outcome=\"\"}}) unless on (job) {duration}{{outcome!=\"\"}}");
    let no_operation =
        format!("count by (job) ({attempts}{{operation=\"\"}} or {duration}{{operation=\"\"}})");
    let (outcome, operation) =
        match (jobs(prometheus, &no_outcome).await, jobs(prometheus, &no_operation).await) {
            (Ok(outcome), Ok(operation)) => (outcome, operation),
            (Err(trouble), _) | (_, Err(trouble)) => return unknown(passed.check, &trouble),
        };
    let mut wrong = Vec::new();
    if !outcome.is_empty() {
        wrong.push(format!(
            "{duration} of {} is without the label outcome: {BURNS} can never fire",
            outcome.join(", ")
        ));
    }
    if !operation.is_empty() {
        wrong.push(format!(
            "series of {} are without the label operation: no alert can say which operation it is",
            operation.join(", ")
        ));
    }
    if wrong.is_empty() {
        return passed;
    }
    Finding::fail(
        passed.check,
        wrong.join("; "),
        "export operation and outcome with the values of docs/metrics.md, or wrap the router in TransactionLayer",
    )
}

/// Families that a backend need not export, and the alerts that are silent without them.
pub(super) async fn families(prometheus: &Prometheus) -> Finding {
    let attempts = catalog::TRANSACTION_ATTEMPTS.name;
    let without = async |name: &str| {
        jobs(prometheus, &format!("count by (job) ({attempts}) unless on (job) {name}")).await
    };
    let duration = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let driver = catalog::CLIENT_TRANSACTIONS_STARTED.name;
    let mut lacking = Vec::new();
    for (name, dead) in [(duration.as_str(), BURNS), (driver, OF_DRIVER)] {
        match without(name).await {
            Ok(jobs) if jobs.is_empty() => {}
            Ok(jobs) => lacking.push(format!("{} without {name}: {dead} cannot fire", jobs.join(", "))),
            Err(trouble) => return unknown(METRICS, &trouble),
        }
    }
    if lacking.is_empty() {
        return Finding::pass(METRICS, "each backend exports the callers' metrics and the driver's counters");
    }
    Finding::warn(
        METRICS,
        lacking.join("; "),
        "run transactions with the transaction runner, or let the TransactionListener hear the client",
    )
}

/// A time limit outside of the layer turns an outage into cancelled operations, which are no failures.
pub(super) async fn cancelled(prometheus: &Prometheus) -> Finding {
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let share = format!(
        "sum by (job, operation) (increase({count}{{outcome=\"cancelled\"}}[1h])) / (sum by (job, operation) (increase({count}[1h])) > {FEW}) > {MANY}"
    );
    let found = match prometheus.query(&share, None).await {
        Ok(found) => found,
        Err(trouble) => return unknown(CANCELLED, &trouble),
    };
    if found.is_empty() {
        return Finding::pass(
            CANCELLED,
            "no operation is cancelled often, by what was called within the hour",
        );
    }
    let label = |labels: &crate::services::prometheus::Labels, name: &str| {
        plain(labels.get(name).map_or("", String::as_str))
    };
    let mut many: Vec<String> = found
        .iter()
        .map(|sample| {
            let (operation, job) = (label(&sample.labels, "operation"), label(&sample.labels, "job"));
            format!("{:.0} % of {operation} of {job}", sample.value * 100.0)
        })
        .collect();
    many.sort();
    Finding::warn(
        CANCELLED,
        format!("within the hour: {}", many.join(", ")),
        "put time limits (TimeoutLayer) inside of TransactionLayer: outside of it, what times out counts as cancelled and never as failed",
    )
}

/// Requests that match no route and yet succeed are those of a router that the layer cannot see.
pub(super) async fn unmatched(prometheus: &Prometheus) -> Finding {
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let query = format!(
        "sum by (job) (increase({count}{{operation=\"{}\",outcome=\"succeeded\"}}[1h])) > 0",
        catalog::UNMATCHED
    );
    match jobs(prometheus, &query).await {
        Ok(jobs) if jobs.is_empty() => {
            Finding::pass(UNMATCHED, "no request succeeded within the hour that matches no route")
        }
        Ok(jobs) => Finding::warn(
            UNMATCHED,
            format!(
                "requests of {} succeed and match no route: all are one operation, `unmatched`",
                jobs.join(", ")
            ),
            "put the TransactionLayer inside of the router (Router::layer), use axum 0.8, or name the operations",
        ),
        Err(trouble) => unknown(UNMATCHED, &trouble),
    }
}
