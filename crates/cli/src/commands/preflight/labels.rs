//! Whether the metrics of the backends fit the alerts: labels, metric families, and the position of timeouts.

use txnscope_catalog as catalog;

use super::finding::Finding;
use super::monitoring::unknown;
use crate::client::services::ServiceError;
use crate::client::services::prometheus::{Labels, Prometheus, plain};

pub(super) const METRICS: &str = "backend metrics";
pub(super) const CANCELLED: &str = "cancelled operations";
pub(super) const UNMATCHED: &str = "unmatched requests";

/// The share of cancelled operations above which disconnecting clients are not the likely cause.
const HIGH_CANCELLED_SHARE: f64 = 0.1;
/// The minimum number of operations within the hour; the share of fewer is not significant.
const MIN_OPERATIONS: u32 = 20;

const BURNS: &str = "TransactionFailureBudgetBurnFast and Slow, TransactionLatencyBudgetBurnFast and Slow, TransactionCancellationRatio";
const OF_DRIVER: &str = "TransactionCommitUnknown, TransactionRetryAmplification, TransactionCountMismatch";

/// The jobs in the result of a query, sorted.
async fn jobs(prometheus: &Prometheus, query: &str) -> Result<Vec<String>, ServiceError> {
    let found = prometheus.query(query, None).await?;
    let job = |labels: &Labels| plain(labels.get("job").map_or("a job without a name", String::as_str));
    let mut jobs: Vec<String> = found.iter().map(|sample| job(&sample.labels)).collect();
    jobs.sort();
    jobs.dedup();
    Ok(jobs)
}

/// The finding that passed, unless series lack the labels that alerts compare and group by.
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
            (Err(error), _) | (_, Err(error)) => return unknown(passed.check, &error),
        };
    let mut problems = Vec::new();
    if !outcome.is_empty() {
        problems.push(format!(
            "{duration} of {} lacks the label outcome: {BURNS} can never fire",
            outcome.join(", ")
        ));
    }
    if !operation.is_empty() {
        problems.push(format!(
            "series of {} lack the label operation: no alert can name the operation",
            operation.join(", ")
        ));
    }
    if problems.is_empty() {
        return passed;
    }
    Finding::fail(
        passed.check,
        problems.join("; "),
        "export operation and outcome with the values of docs/metrics.md (--backend.metrics-url checks a page), or put \
         `txnscope proxy` in front of the backend",
    )
}

/// Optional metric families, and the alerts that cannot fire without them.
pub(super) async fn families(prometheus: &Prometheus) -> Finding {
    let attempts = catalog::TRANSACTION_ATTEMPTS.name;
    let without = async |name: &str| {
        jobs(prometheus, &format!("count by (job) ({attempts}) unless on (job) {name}")).await
    };
    let duration = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let driver = catalog::CLIENT_TRANSACTIONS_STARTED.name;
    let mut missing = Vec::new();
    for (name, dead) in [(duration.as_str(), BURNS), (driver, OF_DRIVER)] {
        match without(name).await {
            Ok(jobs) if jobs.is_empty() => {}
            Ok(jobs) => missing.push(format!("{} without {name}: {dead} cannot fire", jobs.join(", "))),
            Err(error) => return unknown(METRICS, &error),
        }
    }
    if missing.is_empty() {
        return Finding::pass(METRICS, "each backend exports the callers' metrics and the driver's counters");
    }
    Finding::warn(
        METRICS,
        missing.join("; "),
        "in Rust, run transactions with the transaction runner, or register the TransactionListener; elsewhere, count the driver's \
         command events (docs/prom-client.md); behind `txnscope proxy` alone, do without these alerts",
    )
}

/// A timeout outside of the layer makes operations of an outage count as cancelled instead of failed.
pub(super) async fn cancelled(prometheus: &Prometheus) -> Finding {
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let share = format!(
        "sum by (job, operation) (increase({count}{{outcome=\"cancelled\"}}[1h])) / (sum by (job, operation) (increase({count}[1h])) > {MIN_OPERATIONS}) > {HIGH_CANCELLED_SHARE}"
    );
    let found = match prometheus.query(&share, None).await {
        Ok(found) => found,
        Err(error) => return unknown(CANCELLED, &error),
    };
    if found.is_empty() {
        return Finding::pass(CANCELLED, "no operation of the last hour is cancelled often");
    }
    let label = |labels: &Labels, name: &str| plain(labels.get(name).map_or("", String::as_str));
    let mut operations: Vec<String> = found
        .iter()
        .map(|sample| {
            let (operation, job) = (label(&sample.labels, "operation"), label(&sample.labels, "job"));
            format!("{:.0} % of {operation} of {job}", sample.value * 100.0)
        })
        .collect();
    operations.sort();
    Finding::warn(
        CANCELLED,
        format!("within the last hour: {}", operations.join(", ")),
        "let timeouts answer inside of what counts (in Rust, TimeoutLayer inside of TransactionLayer): outside of it, timeouts count as \
         cancelled and never as failed",
    )
}

/// Successful requests that match no route belong to a router that the layer cannot see.
pub(super) async fn unmatched(prometheus: &Prometheus) -> Finding {
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let query = format!(
        "sum by (job) (increase({count}{{operation=\"{}\",outcome=\"succeeded\"}}[1h])) > 0",
        catalog::UNMATCHED
    );
    match jobs(prometheus, &query).await {
        Ok(jobs) if jobs.is_empty() => {
            Finding::pass(UNMATCHED, "no successful request of the last hour matches no route")
        }
        Ok(jobs) => Finding::warn(
            UNMATCHED,
            format!(
                "successful requests of {} match no route: all of them count as the operation `unmatched`",
                jobs.join(", ")
            ),
            "in Rust, put the TransactionLayer inside of the router (Router::layer), use axum 0.8, or name the operations; elsewhere, declare \
         the routes",
        ),
        Err(error) => unknown(UNMATCHED, &error),
    }
}
