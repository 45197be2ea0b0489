//! The queries of each runbook, evaluated when its notification arrives after recovery: they must still show the
//! trouble.

use serde_json::{Value, json};
use txnscope_catalog::{self as catalog, Kind, Metric, Unit, Values};

use super::files::{alert_names, files, folder, read};

/// The minutes at which the trouble begins and ends, and at which the notification is read.
const BEGIN: u32 = 60;
const OVER: u32 = 75;
const READ: u32 = 80;

/// The label values that identify the trouble.
const CULPRIT: &[(&str, &str)] = &[
    ("operation", "POST /pay"),
    ("application", "billing-worker"),
    ("reason", "write_conflict"),
    ("outcome", "failed"),
    ("member", "db1:27017"),
    ("rs", "rs0"),
    ("check", "balance"),
    ("severity", "critical"),
    ("peer", "db2:27017"),
    ("namespace", "ledger.retainers"),
    ("state", "inactive"),
    ("collector", "replication"),
];

/// The expected results: the runbook, a part of the query, the label and its value.
const SHOWS: &[(&str, &str, &str, &str)] = &[
    ("MongoDBOldestOpenTransaction", "oldest_open_by_application", "application", "billing-worker"),
    ("MongoDBOldestOpenTransaction", "oldest_open_by_operation", "operation", "POST /pay"),
    ("MongoDBOldestOpenTransaction", "oldest_open_seconds", "state", "inactive"),
    ("MongoDBIdleInTransaction", "open_by_application", "application", "billing-worker"),
    ("MongoDBIdleInTransaction", "open_by_operation", "operation", "POST /pay"),
    ("MongoDBLockWaits", "lock_wait_seconds", "mode", "exclusive"),
    ("MongoDBLockWaits", "oldest_open_by_application", "application", "billing-worker"),
    ("MongoDBWriteConflicts", "write_conflict\"", "operation", "POST /pay"),
    ("MongoDBTransactionAbortRatio", "aborted_total", "reason", "write_conflict"),
    ("MongoDBNoPrimary", "mongodb_up", "member", "db1:27017"),
    ("MongoDBNoPrimary", "peer_up", "peer", "db2:27017"),
    ("MongoDBMemberDown", "mongodb_up", "member", "db1:27017"),
    ("MongoDBMajorityLag", "peer_lag", "peer", "db2:27017"),
    ("MongoDBQueueSustained", "global_lock_queue", "type", "write"),
    ("TransactionCommitUnknown", "unknown_total", "operation", "POST /pay"),
    ("TransactionRetryAmplification", "aborted_total", "reason", "write_conflict"),
    ("TransactionConcurrencySaturated", "concurrent_operations", "operation", "POST /pay"),
    ("TransactionCancellationRatio", "count{outcome=\"cancelled\"}", "operation", "POST /pay"),
    ("TransactionFailureBudgetBurnFast", "transaction_failures_total", "reason", "write_conflict"),
    ("ConsistencyViolated", "mongodb_consistency_violations", "check", "balance"),
    ("ConsistencyCheckFailing", "check_errors_total", "check", "balance"),
    ("TxnscopeCollectorFailing", "poll_success", "collector", "replication"),
    ("TxnscopeSidecarDown", "over_time(up", "instance", "s:9917"),
    ("TxnscopeProbeFailing", "over_time(up", "deployment", "payments"),
];

/// The labels of a metric's series: those of the trouble, the first of a closed set, or those that queries match.
fn labels(metric: &Metric, swap: Option<(&str, &str)>) -> String {
    let value = |name: &str, values: Values| -> String {
        if let Some((_, swapped)) = swap.filter(|(label, _)| *label == name) {
            return swapped.to_owned();
        }
        let culprit = CULPRIT.iter().find(|(label, _)| *label == name).map(|(_, value)| *value);
        match values {
            Values::Closed(all) => culprit.filter(|value| all.contains(value)).unwrap_or(all[0]).to_owned(),
            Values::Declared(_) | Values::Bounded { .. } | Values::Deployment => {
                culprit.unwrap_or("some").to_owned()
            }
        }
    };
    metric
        .labels
        .iter()
        .map(|label| format!(r#",{}="{}""#, label.name, value(label.name, label.values)))
        .collect()
}

/// A series with its worst value between [`BEGIN`] and [`OVER`], and a normal value afterwards. A gauge whose good
/// value is 1 is 0 meanwhile.
fn values(metric: &Metric) -> String {
    let last = READ + 20 - OVER;
    if metric.kind == Kind::Gauge {
        let good_is_one = ["_up", "_success", "_successful"].iter().any(|end| metric.name.ends_with(end));
        let (good, bad) = match metric.name {
            _ if good_is_one => (1, 0),
            "mongodb_consistency_last_success_timestamp_seconds" | "process_start_time_seconds" => (1, 60),
            _ if metric.unit == Unit::Boolean => (0, 1),
            _ => (0, 90),
        };
        return format!("{good}x{} {bad}x{} {good}x{last}", BEGIN - 1, OVER - BEGIN);
    }
    format!("0x{} 0+60x{} {}x{last}", BEGIN - 1, OVER - BEGIN, 60 * (OVER - BEGIN))
}

/// All exported series, all of them in trouble for a quarter of an hour.
fn environment() -> Vec<Value> {
    let mut series = Vec::new();
    let mut add = |name: String, labels: String, values: &str| {
        let (job, instance) = if name.starts_with("mongodb_client")
            || name.starts_with("transaction")
            || name.starts_with("concurrent")
        {
            ("ledger", "a:3000")
        } else {
            ("txnscope", "s:9917")
        };
        let series_name =
            format!(r#"{name}{{deployment="payments",job="{job}",instance="{instance}"{labels}}}"#);
        series.push(json!({"series": series_name, "values": values}));
    };
    for metric in catalog::METRICS {
        let values = values(metric);
        let swaps: &[Option<(&str, &str)>] = match metric.name {
            "transaction_duration_seconds" => {
                &[None, Some(("outcome", "succeeded")), Some(("outcome", "cancelled"))]
            }
            "mongodb_operation_latency_seconds" => &[None, Some(("type", "writes"))],
            "mongodb_replication_member_state" => &[Some(("state", "primary"))],
            "mongodb_client_transactions_aborted_total" => {
                &[None, Some(("reason", "transaction_expired")), Some(("reason", "overloaded"))]
            }
            "mongodb_lock_wait_seconds_total" | "mongodb_lock_deadlocks_total" => {
                &[Some(("mode", "exclusive"))]
            }
            "mongodb_global_lock_queue" | "mongodb_ticket_queue" => &[Some(("type", "write"))],
            "txnscope_poll_errors_total" => &[None, Some(("collector", "server_status"))],
            _ => &[None],
        };
        for swap in swaps {
            let labels = labels(metric, *swap);
            if metric.kind == Kind::Histogram {
                add(format!("{}_count", metric.name), labels.clone(), &values);
                for bound in metric.buckets.iter().map(f64::to_string).chain(["+Inf".to_owned()]) {
                    add(format!("{}_bucket", metric.name), format!(r#"{labels},le="{bound}""#), &values);
                }
            } else {
                add(metric.name.to_owned(), labels, &values);
            }
        }
    }
    let down = format!("1x{} 0x{} 1x25", BEGIN - 1, OVER - BEGIN);
    add("up".to_owned(), String::new(), &down);
    add("scrape_duration_seconds".to_owned(), String::new(), "1x100");
    add("scrape_samples_scraped".to_owned(), String::new(), "1x100");
    series
}

/// The queries of a runbook's section "Diagnosis".
fn queries(name: &str) -> Vec<String> {
    let text = read(&folder().join(format!("runbooks/{name}.md")));
    let diagnosis = text.split("\n## Diagnosis\n").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let blocks = diagnosis.split("```promql\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// Queries that compare with an earlier time need more history than an hour and a half.
fn needs_more_history(query: &str) -> bool {
    query.contains("offset 1w") || query.contains("offset 1h")
}

#[tokio::test]
async fn runbook_queries_show_trouble_after_recovery() {
    let mut asked = Vec::new();
    let mut shown = 0;
    for name in alert_names() {
        for query in queries(&name).into_iter().filter(|query| !needs_more_history(query)) {
            let something = json!([{"labels": "{}", "value": 1}]);
            asked.push(json!({"expr": format!("count({query}) > bool 0"), "eval_time": format!("{READ}m"), "exp_samples": something}));
            for (_, _, label, value) in
                SHOWS.iter().filter(|shows| shows.0 == name && query.contains(shows.1))
            {
                // The expected series is among the results.
                let expr = format!(
                    r#"count(label_replace(group by ({label}) ({query}), "found", "yes", "{label}", "{value}") and on ({label}, found) label_replace(label_replace(vector(1), "{label}", "{value}", "", ""), "found", "yes", "", ""))"#
                );
                asked.push(json!({"expr": expr, "eval_time": format!("{READ}m"), "exp_samples": [{"labels": "{}", "value": 1}]}));
                shown += 1;
            }
        }
    }
    assert!(shown >= SHOWS.len(), "{shown} of {} were looked for", SHOWS.len());
    let rules: Vec<_> =
        files("rules", "yml").iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let order = [
        "txnscope-objectives",
        "txnscope-burn-rates",
        "txnscope-burn-rates-long",
        "txnscope-transactions",
        "txnscope-accounting",
    ];
    let file = json!({
        "rule_files": rules, "evaluation_interval": "5m", "group_eval_order": order,
        "tests": [{"interval": "1m", "input_series": environment(), "promql_expr_test": asked}],
    });
    let place = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    std::fs::write(place.path(), file.to_string()).unwrap();
    testkit::promtool::test_rules(&[place.path().to_owned()]).await.unwrap();
}
