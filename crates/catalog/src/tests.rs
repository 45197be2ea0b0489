//! Invariants of every entry.

use std::collections::HashSet;

use crate::{
    ATTEMPT_OUTCOMES, CHECK_ERROR_REASONS, CLEANUP_RESULTS, COLLECTORS, FAILED_LOGIN_RESULTS,
    FAILURE_OUTCOMES, Kind, METRICS, NOT_STARTED_CAUSES, OUTCOMES, POLL_ERROR_REASONS, REASONS, SEVERITIES,
    Unit, Values,
};

fn is_snake_case(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn metric_names_are_valid_and_unique() {
    let mut seen = HashSet::new();
    for metric in METRICS {
        assert!(is_snake_case(metric.name), "{} is not snake case", metric.name);
        assert!(seen.insert(metric.name), "{} is listed twice", metric.name);
        assert!(metric.help.ends_with('.'), "{}: the help is no sentence", metric.name);
        assert!(!metric.source.is_empty(), "{} has no source", metric.name);
    }
}

#[test]
fn metric_suffixes_follow_prometheus_conventions() {
    for metric in METRICS {
        let counter_suffix = metric.name.ends_with("_total");
        assert_eq!(counter_suffix, metric.kind == Kind::Counter, "{}: _total is for counters", metric.name);
        let base = metric.name.trim_end_matches("_total");
        match metric.unit {
            Unit::Seconds => assert!(base.ends_with("_seconds"), "{}: seconds", metric.name),
            Unit::Bytes => assert!(base.ends_with("_bytes"), "{}: bytes", metric.name),
            Unit::Info => assert!(base.ends_with("_info"), "{}: info", metric.name),
            Unit::Count | Unit::Boolean => {
                assert!(!base.ends_with("_seconds") && !base.ends_with("_bytes"), "{}: unit", metric.name);
            }
        }
    }
}

#[test]
fn only_histograms_have_buckets_and_they_increase() {
    for metric in METRICS {
        assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{}", metric.name);
        assert!(
            metric.buckets.windows(2).all(|pair| pair[0] < pair[1]),
            "{}: buckets must grow",
            metric.name
        );
    }
}

#[test]
fn labels_are_valid_and_unique() {
    for metric in METRICS {
        let mut seen = HashSet::new();
        for label in metric.labels {
            assert!(is_snake_case(label.name), "{}: label {}", metric.name, label.name);
            assert!(
                !["job", "instance", "le", "quantile"].contains(&label.name),
                "{}: {} is taken",
                metric.name,
                label.name
            );
            assert!(seen.insert(label.name), "{}: label {} twice", metric.name, label.name);
            if let Values::Closed(values) | Values::Declared(values) = label.values {
                assert!(!values.is_empty(), "{}: {} has no value", metric.name, label.name);
                assert!(values.iter().all(|value| is_snake_case(value)), "{}: {}", metric.name, label.name);
            }
        }
    }
}

#[test]
fn closed_sets_have_no_duplicates() {
    for set in [
        OUTCOMES,
        FAILURE_OUTCOMES,
        REASONS,
        ATTEMPT_OUTCOMES,
        NOT_STARTED_CAUSES,
        CLEANUP_RESULTS,
        COLLECTORS,
        POLL_ERROR_REASONS,
        FAILED_LOGIN_RESULTS,
        SEVERITIES,
        CHECK_ERROR_REASONS,
    ] {
        assert_eq!(set.iter().collect::<HashSet<_>>().len(), set.len(), "{set:?}");
    }
    assert!(FAILURE_OUTCOMES.iter().all(|outcome| OUTCOMES.contains(outcome)));
}

#[test]
fn member_states_are_named_by_their_protocol_number() {
    let named: Vec<_> = crate::MEMBER_STATE_NUMBERS.iter().zip(crate::MEMBER_STATES).collect();
    assert_eq!(crate::MEMBER_STATE_NUMBERS.len(), crate::MEMBER_STATES.len());
    for (number, name) in [
        (0, "startup"),
        (1, "primary"),
        (2, "secondary"),
        (3, "recovering"),
        (5, "startup2"),
        (6, "unknown"),
        (7, "arbiter"),
        (8, "down"),
        (9, "rollback"),
        (10, "removed"),
    ] {
        assert!(named.contains(&(&number, &name)), "{number} is {name}: {named:?}");
    }
}

#[test]
fn layer_metric_names_are_stable() {
    let caller: Vec<_> = METRICS[..4].iter().map(|metric| metric.name).collect();
    assert_eq!(
        caller,
        [
            "transaction_attempts_total",
            "transaction_failures_total",
            "transaction_duration_seconds",
            "concurrent_operations"
        ],
    );
}

/// Members of replica sets have the pages with the most series. A scrape must stay small, so an entry that
/// multiplies its closed labels must be noticed.
#[test]
fn series_of_one_member_are_limited() {
    let series = |metric: &crate::Metric| -> usize {
        let of_labels = metric.labels.iter().map(|label| match label.values {
            Values::Closed(values) | Values::Declared(values) => values.len(),
            Values::Bounded { .. } | Values::Deployment => 1,
        });
        of_labels.product::<usize>() * if metric.buckets.is_empty() { 1 } else { metric.buckets.len() + 3 }
    };
    let all: usize = crate::emitted_by(crate::Emitter::Sidecar).map(series).sum();
    assert!(all < 600, "{all} series");
}

#[test]
fn age_buckets_match_the_label() {
    let Values::Closed(values) = crate::MONGODB_TRANSACTIONS_OPEN_BY_AGE.labels[2].values else {
        panic!("the age label is closed")
    };
    let age_names: Vec<_> = crate::AGE_BUCKETS.iter().map(|(_, name)| *name).collect();
    assert_eq!(values, age_names);
    assert!(crate::AGE_BUCKETS.is_sorted());
}

#[test]
fn metrics_page_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(path).expect("docs/metrics.md is in the repository");
    assert!(page == crate::markdown(), "docs/metrics.md is not what the catalog says; run `cargo xtask gen`");
}
