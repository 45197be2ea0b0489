//! Helpers of the layer's tests.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use txnscope::Metrics;

/// The exported value of one series.
pub(crate) fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let page = metrics.render();
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Asserts the value of a series, and prints the family on failure.
#[track_caller]
pub(crate) fn assert_value(metrics: &Metrics, series: &str, expected: f64) {
    let family = series.split('{').next().unwrap();
    let page = metrics.render();
    let near: Vec<_> =
        page.lines().filter(|line| line.starts_with(family) && !line.contains("_bucket")).collect();
    assert_eq!(value(metrics, series), Some(expected), "{series}; the family has:\n{}", near.join("\n"));
}

/// Asserts for every operation that attempts = durations + in flight, and durations = successes + failures.
#[track_caller]
pub(crate) fn assert_counters_balance(metrics: &Metrics) {
    let page = metrics.render();
    let sum = |family: &str, labels: &str| -> f64 {
        let wanted = format!("{family}{{{labels}");
        let lines = page.lines().filter(|line| line.starts_with(&wanted));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert!(page.contains("transaction_attempts_total{"), "no operation on the page:\n{page}");
    for line in page.lines().filter(|line| line.starts_with("transaction_attempts_total{")) {
        let operation = &line["transaction_attempts_total{".len()..line.rfind('}').unwrap()];
        let attempts = sum("transaction_attempts_total", operation);
        let ended = sum("transaction_duration_seconds_count", operation);
        let in_flight = sum("concurrent_operations", operation);
        assert_eq!(attempts, ended + in_flight, "{operation}: attempts = durations + in flight");
        let succeeded =
            sum("transaction_duration_seconds_count", &format!("{operation},outcome=\"succeeded\""));
        let failures = sum("transaction_failures_total", operation);
        assert_eq!(ended, succeeded + failures, "{operation}: durations = successes + failures");
    }
}
