//! Names, types, buckets, labels and the values of labels.

use std::collections::BTreeSet;

use txnscope_catalog::{self as catalog, Emitter, Kind, Metric, Values};

use super::page::Page;
use crate::client::services::prometheus::plain;
use crate::commands::preflight::finding::Finding;
use txnscope_catalog::nearest;

const NAMES: &str = "metric names";
const LABELS: &str = "metric labels";
const OUTCOMES: &str = "outcomes";
const REASONS: &str = "reasons";
const OPERATIONS: &str = "operations";

/// The callers' metrics, which every backend needs.
pub(super) const CALLERS: [&Metric; 4] = [
    &catalog::TRANSACTION_ATTEMPTS,
    &catalog::TRANSACTION_FAILURES,
    &catalog::TRANSACTION_DURATION,
    &catalog::CONCURRENT_OPERATIONS,
];

/// How many names a message lists.
const MOST_NAMED: usize = 5;
/// The longest reason.
const MAX_REASON: usize = 64;

/// Some names for a message.
pub(super) fn list(names: &BTreeSet<String>) -> String {
    let mut text = names.iter().take(MOST_NAMED).map(|name| plain(name)).collect::<Vec<_>>().join(", ");
    if names.len() > MOST_NAMED {
        text.push_str(&format!(" and {} more", names.len() - MOST_NAMED));
    }
    text
}

pub(super) fn check(page: &Page) -> Vec<Finding> {
    vec![names(page), labels(page), operations(page), outcomes(page), reasons(page)]
}

/// The name of the family that a series belongs to.
fn family(name: &str) -> &str {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    of_histogram.filter(|family| catalog::find(family).is_some()).unwrap_or(name)
}

fn names(page: &Page) -> Finding {
    let found: BTreeSet<&str> = page.samples.iter().map(|sample| family(&sample.name)).collect();
    let known: Vec<&str> = catalog::emitted_by(Emitter::Library).map(|metric| metric.name).collect();
    let mut problems = BTreeSet::new();
    for metric in CALLERS.iter().filter(|metric| !found.contains(metric.name)) {
        problems.insert(format!("{} is missing", metric.name));
    }
    for name in found.iter().filter(|name| catalog::find(name).is_none()) {
        let ours = ["transaction_", "transactions_", "mongodb_client_", "concurrent_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if let Some(other) = nearest(name, &known).filter(|other| ours && !found.contains(other)) {
            problems.insert(format!("{name} is not known: did you mean {other}?"));
        }
    }
    for metric in catalog::emitted_by(Emitter::Library) {
        match page.types.get(metric.name) {
            Some(kind) if kind != metric.kind.as_str() => {
                problems.insert(format!(
                    "{} is a {kind}, and must be a {}",
                    metric.name,
                    metric.kind.as_str()
                ));
            }
            Some(_) if metric.kind == Kind::Histogram && found.contains(metric.name) => {
                problems.extend(buckets(page, metric));
            }
            _ => {}
        }
    }
    conclude(
        NAMES,
        problems,
        || {
            let ours = found.iter().filter(|name| known.contains(name)).count();
            format!("{ours} metrics of docs/metrics.md, each with its type and its buckets")
        },
        "export the metrics with the names, types and buckets of docs/metrics.md; docs/prom-client.md has a module to copy",
    )
}

/// Alerts and panels compare buckets by their bounds.
fn buckets(page: &Page, metric: &Metric) -> Option<String> {
    let name = format!("{}_bucket", metric.name);
    let found: Vec<f64> = page.of(&name).filter_map(|sample| sample.label("le").parse().ok()).collect();
    let missing = metric.buckets.iter().filter(|bound| !found.contains(bound));
    let missing: BTreeSet<String> = missing.map(f64::to_string).collect();
    (!missing.is_empty()).then(|| format!("{} has no bucket {}", metric.name, list(&missing)))
}

fn labels(page: &Page) -> Finding {
    let (mut missing, mut more) = (BTreeSet::new(), BTreeSet::new());
    for sample in &page.samples {
        let name = family(&sample.name);
        let Some(metric) = catalog::find(name).filter(|metric| metric.emitter == Emitter::Library) else {
            continue;
        };
        let expected: BTreeSet<&str> = metric.labels.iter().map(|label| label.name).collect();
        let has = |label: &str| !sample.label(label).is_empty();
        missing.extend(
            expected.iter().filter(|label| !has(label)).map(|label| format!("{name} has no {label}")),
        );
        let others =
            sample.labels.keys().filter(|label| *label != "le" && !expected.contains(label.as_str()));
        more.extend(others.map(|label| format!("{name} has {label}")));
    }
    if !missing.is_empty() || more.is_empty() {
        return conclude(
            LABELS,
            missing,
            || "each metric has its labels".to_owned(),
            "set these labels on every series, as docs/metrics.md lists them: alerts group and compare by them",
        );
    }
    Finding::warn(
        LABELS,
        format!("further labels: {}", list(&more)),
        "leave out labels of your own, if they have many values: each value is another series of every metric",
    )
}

/// A path in place of a template makes a series of every document.
fn operations(page: &Page) -> Finding {
    let found: BTreeSet<&str> = page
        .samples
        .iter()
        .filter(|sample| CALLERS.iter().any(|metric| metric.name == family(&sample.name)))
        .map(|sample| sample.label("operation"))
        .filter(|name| !name.is_empty())
        .collect();
    let is_id = |part: &str| {
        let hex = part.len() >= 24 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        hex || (!part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
    };
    let is_path = |name: &&&str| name.contains('?') || name.split('/').skip(1).any(is_id);
    let mut problems: BTreeSet<String> =
        found.iter().filter(is_path).map(|name| (*name).to_owned()).collect();
    if found.len() > catalog::MAX_OPERATIONS {
        problems.insert(format!(
            "{} operations, and at most {} can be shown",
            found.len(),
            catalog::MAX_OPERATIONS
        ));
    }
    conclude(
        OPERATIONS,
        problems,
        || format!("{} operations, none with an id or a query in its name", found.len()),
        "use the method and the route template as the label operation, such as POST /api/retainers/{id}/consume, and never the path",
    )
}

fn outcomes(page: &Page) -> Finding {
    let mut problems = BTreeSet::new();
    for metric in [&catalog::TRANSACTION_FAILURES, &catalog::TRANSACTION_DURATION] {
        let label = metric.labels.iter().find(|label| label.name == "outcome");
        let Some(Values::Closed(valid)) = label.map(|label| label.values) else { continue };
        let found = page.samples.iter().filter(|sample| family(&sample.name) == metric.name);
        let invalid = found
            .map(|sample| sample.label("outcome"))
            .filter(|outcome| !outcome.is_empty() && !valid.contains(outcome));
        problems.extend(invalid.map(|outcome| format!("{outcome} in {}", metric.name)));
    }
    conclude(
        OUTCOMES,
        problems,
        || "each outcome is one of docs/metrics.md".to_owned(),
        "use succeeded (below 400), rejected (4xx: a rule or the request), failed (408 and 5xx) and cancelled (the client left); \
         transaction_failures_total has no successes",
    )
}

fn reasons(page: &Page) -> Finding {
    let name = |text: &str| {
        text.len() <= MAX_REASON
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let found: BTreeSet<&str> = page
        .of(catalog::TRANSACTION_FAILURES.name)
        .map(|sample| sample.label("reason"))
        .filter(|reason| !reason.is_empty())
        .collect();
    let invalid: BTreeSet<String> =
        found.iter().filter(|reason| !name(reason)).map(|reason| format!("{reason:?}")).collect();
    conclude(
        REASONS,
        invalid,
        || format!("{} reasons, each a name in snake case", found.len()),
        "use a closed set of names from your code, such as insufficient_balance: the text of an error has another value for every \
         document",
    )
}

/// Passes without problems.
pub(super) fn conclude(
    check: &'static str,
    problems: BTreeSet<String>,
    passed: impl FnOnce() -> String,
    remediation: &str,
) -> Finding {
    if problems.is_empty() {
        Finding::pass(check, passed())
    } else {
        Finding::fail(check, list(&problems), remediation)
    }
}
