use std::collections::BTreeSet;

use super::check;

fn recorded() -> BTreeSet<String> {
    BTreeSet::from(["job:something:ratio_rate5m".to_owned(), "txnscope:threshold:something".to_owned()])
}

#[track_caller]
fn right(query: &str) -> super::Uses {
    check(query, &recorded()).unwrap_or_else(|wrong| panic!("{query}: {wrong:?}"))
}

#[track_caller]
fn wrong(query: &str, because: &str) {
    let wrong = check(query, &recorded()).expect_err(query);
    assert!(wrong.iter().any(|wrong| wrong.contains(because)), "{query}: {wrong:?} and not {because:?}");
}

#[test]
fn valid_promql_is_accepted() {
    let uses = right(
        r#"histogram_quantile(0.99, sum by (le, job, operation) (rate(transaction_duration_seconds_bucket{outcome=~"succeeded|rejected"}[5m])))"#,
    );
    assert_eq!(uses.metrics, BTreeSet::from(["transaction_duration_seconds".to_owned()]));
    let uses = right("job:something:ratio_rate5m > scalar(txnscope:threshold:something)");
    assert_eq!(uses.recorded, recorded());
    for query in [
        r#"1 - rate(transaction_duration_seconds_bucket{le="0.25"}[5m])"#,
        r#"rate(mongodb_operation_latency_seconds_bucket{le="0.131072",type="reads"}[5m])"#,
        "max by (rs) (mongodb_transactions_oldest_open_seconds) / on (rs) max by (rs) (mongodb_transaction_lifetime_limit_seconds)",
        "sum by (cluster) (increase(mongodb_transactions_committed_total[30m]))",
        "mongodb_up * on (rs, member, job, instance) group_left (version) mongodb_info",
        r#"label_replace(mongodb_up, "host", "$1", "member", "(.*):.*")"#,
        "min_over_time(mongodb_global_lock_queue[5m]) or min_over_time(mongodb_ticket_queue[5m])",
        r#"absent(up{job="shop"})"#,
        "changes(process_start_time_seconds[5m]) > 0",
        r#"sum by (cluster, deployment) (up{deployment!=""})"#,
        r#"ALERTS{alertstate="firing",severity="critical"}"#,
        "topk(5, sum by (operation) (rate(transaction_attempts_total[5m])))",
        "max_over_time(sum by (rs) (mongodb_transactions_open)[5m:1m])",
        r#"mongodb_transactions_open{state=~".+"}"#,
        "time() - mongodb_consistency_last_success_timestamp_seconds > 3 * mongodb_consistency_interval_seconds",
    ] {
        right(query);
    }
}

#[test]
fn invalid_promql_is_reported() {
    wrong("rate(transaction_attempts_total[5m]", "not valid PromQL");
    wrong("sum(rate(transaction_attempts_total))", "not valid PromQL");
}

#[test]
fn unexported_metric_is_reported() {
    wrong("mongodb_mongod_replset_member_health == 0", "neither in the catalog");
    wrong("job:something:ratio_rate1h", "neither in the catalog");
    wrong("mongodb_up_bucket", "neither in the catalog");
    wrong("transaction_duration_seconds", "is a histogram");
    wrong(r#"{job="shop"}"#, "names no metric");
    wrong("scalar(absent(nothing))", "neither in the catalog");
}

#[test]
fn unknown_label_is_reported_everywhere() {
    wrong(r#"transaction_attempts_total{route="/"}"#, "no label route");
    wrong(r#"up{member="a"}"#, "no label member");
    wrong("sum by (rs) (transaction_attempts_total)", "rs is grouped by");
    wrong("sum without (rs) (transaction_attempts_total)", "rs is aggregated without");
    wrong("sum by (operation) (sum by (job) (transaction_attempts_total))", "operation is grouped by");
    wrong("sum by (rs) (sum(mongodb_up) by (member))", "rs is grouped by");
    wrong("mongodb_up * on (operation) transaction_attempts_total", "operation is joined on");
    wrong("mongodb_up * on (member) group_left (host) mongodb_info", "host is copied");
    wrong("histogram_quantile(0.9, sum(rate(transaction_duration_seconds_bucket[5m])))", "le is needed");
    wrong(r#"label_replace(mongodb_up, "host", "$1", "node", ".*")"#, "node is read");
}

#[test]
fn label_value_outside_closed_set_is_reported() {
    wrong(r#"transaction_failures_total{outcome="error"}"#, "no value \"error\"");
    wrong(r#"transaction_failures_total{outcome!~"rejected|aborted"}"#, "no value \"aborted\"");
    wrong(r#"transaction_failures_total{outcome=~"fatal.*"}"#, "no value \"fatal.*\"");
    wrong(r#"transaction_failures_total{reason="insufficient_balance"}"#, "no value");
    wrong(r#"transaction_duration_seconds_bucket{le="0.3"}"#, "no bucket");
    wrong(r#"transaction_duration_seconds_bucket{le="1.0"}"#, "no bucket");
}

#[test]
fn rate_needs_counter_and_delta_needs_gauge() {
    wrong("rate(concurrent_operations[5m])", "not a counter");
    wrong("increase(mongodb_replication_term[5m])", "not a counter");
    wrong("delta(transaction_attempts_total[5m])", "is a counter");
    wrong("rate(job:something:ratio_rate5m[5m])", "not a counter");
    wrong("rate(sum(transaction_attempts_total)[5m:1m])", "a counter's own series");
    right("delta(mongodb_transactions_open[5m])");
    right("resets(transaction_attempts_total[5m])");
}
