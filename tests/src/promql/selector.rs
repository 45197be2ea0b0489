//! Checks one selector: its metric, and the labels and values that it matches.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::VectorSelector;
use txnscope_catalog::{self as catalog, Kind, Metric, Values};

use super::{TARGET_LABELS, Uses};

/// Series that txnscope does not export, with the reason why its queries may use them.
const FOREIGN: &[(&str, &[&str])] = &[
    // Prometheus: whether a target responded.
    ("up", &[]),
    // Prometheus: pending and firing alerts, for annotations on dashboards.
    ("ALERTS", &["alertname", "alertstate", "severity", "operation", "rs", "member", "check"]),
    // Prometheus: the duration of a scrape, and the number of its series.
    ("scrape_duration_seconds", &[]),
    ("scrape_samples_scraped", &[]),
    ("scrape_series_added", &[]),
];

/// The known properties of a selector's series.
pub(super) struct Series {
    /// The possible labels, if they are known.
    pub(super) labels: Option<BTreeSet<String>>,
    /// Whether they are counters, if that is known.
    pub(super) counter: Option<bool>,
}

pub(super) fn check(
    selector: &VectorSelector,
    recorded: &BTreeSet<String>,
    uses: &mut Uses,
    wrong: &mut Vec<String>,
) -> Series {
    let unknown = Series { labels: None, counter: None };
    let Some(name) = selector.name.as_deref() else {
        wrong.push(format!("{selector} names no metric"));
        return unknown;
    };
    if !selector.matchers.or_matchers.is_empty() {
        wrong.push(format!("{selector}: Prometheus knows no `or` between matchers"));
    }
    if recorded.contains(name) {
        uses.recorded.insert(name.to_owned());
        // Recording rules of rates are gauges, and all recording rules here are.
        return Series { labels: None, counter: Some(false) };
    }
    let target = TARGET_LABELS.iter().map(|&label| label.to_owned());
    if let Some((_, labels)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        let labels: BTreeSet<_> = target.chain(labels.iter().map(|&label| label.to_owned())).collect();
        for matcher in &selector.matchers.matchers {
            if !labels.contains(&matcher.name) {
                wrong.push(format!("{name} has no label {}", matcher.name));
            }
        }
        return Series { labels: Some(labels), counter: Some(false) };
    }
    let Some((metric, part)) = find(name) else {
        wrong.push(format!("{name} is neither in the catalog nor a recording rule"));
        return unknown;
    };
    uses.metrics.insert(metric.name.to_owned());
    if metric.kind == Kind::Histogram && part.is_empty() {
        wrong.push(format!("{name} is a histogram: its series end with _bucket, _count or _sum"));
    }
    let own = metric.labels.iter().map(|label| label.name.to_owned());
    let mut labels: BTreeSet<_> = target.chain(own).collect();
    if part == "_bucket" {
        labels.insert("le".to_owned());
    }
    for matcher in &selector.matchers.matchers {
        if !labels.contains(&matcher.name) {
            wrong.push(format!("{name} has no label {}", matcher.name));
        } else if matcher.name == "le" {
            bucket(metric, matcher, wrong);
        } else if let Some(label) = metric.labels.iter().find(|label| label.name == matcher.name)
            && let Values::Closed(values) | Values::Declared(values) = label.values
        {
            value(name, matcher, values, wrong);
        }
    }
    Series { labels: Some(labels), counter: Some(metric.kind != Kind::Gauge) }
}

/// The metric of a series, and the suffix of the series name.
fn find(name: &str) -> Option<(&'static Metric, &str)> {
    if let Some(metric) = catalog::find(name) {
        return Some((metric, ""));
    }
    ["_bucket", "_count", "_sum"].into_iter().find_map(|part| {
        let metric = catalog::find(name.strip_suffix(part)?)?;
        (metric.kind == Kind::Histogram).then_some((metric, part))
    })
}

/// A bucket boundary that the histogram does not have matches nothing.
fn bucket(metric: &Metric, matcher: &Matcher, wrong: &mut Vec<String>) {
    let exact = |text: &str| metric.buckets.iter().any(|bucket| bucket.to_string() == text) || text == "+Inf";
    match &matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => {
            if !exact(&matcher.value) {
                wrong.push(format!("{} has no bucket le={:?}", metric.name, matcher.value));
            }
        }
        MatchOp::Re(regex) | MatchOp::NotRe(regex) => {
            if !metric.buckets.iter().any(|bucket| regex.is_match(&bucket.to_string())) {
                wrong.push(format!("{} has no bucket le=~{:?}", metric.name, matcher.value));
            }
        }
    }
}

/// Each alternative must match an existing value. Values that an application declares itself must not occur in a
/// query for all applications.
fn value(name: &str, matcher: &Matcher, values: &[&str], wrong: &mut Vec<String>) {
    let alternatives: Vec<&str> = match &matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => vec![&matcher.value],
        MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
    };
    for alternative in alternatives {
        let is_plain = alternative.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let exists = match &matcher.op {
            MatchOp::Re(regex) | MatchOp::NotRe(regex) if !is_plain => {
                values.iter().any(|value| regex.is_match(value))
            }
            _ => alternative.is_empty() || values.contains(&alternative),
        };
        if !exists {
            wrong.push(format!("{name} has no value {alternative:?} of {}", matcher.name));
        }
    }
}
