//! The counts of each operation in Prometheus, before and after the deployment.

use std::collections::BTreeSet;

use txnscope_catalog as catalog;
use txnscope_rollout::Operation;

use super::aggregation::Aggregator;
use crate::client::services::ServiceError;
use crate::client::services::prometheus::{Prometheus, plain};

/// The number of slices of the baseline: enough to estimate its variation, and few enough for quick queries.
const MIN_SLICES: f64 = 12.0;
const MAX_SLICES: f64 = 48.0;
/// The minimum length of a slice, in seconds: two common scrape intervals. A shorter one would be empty.
const MIN_SLICE: f64 = 60.0;

/// A time range, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TimeRange {
    pub(crate) start: f64,
    pub(crate) end: f64,
}

impl TimeRange {
    pub(crate) fn seconds(self) -> f64 {
        self.end - self.start
    }
}

/// The counts of all operations, and the bounds of their histograms.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrafficCounts {
    pub(crate) bounds: Vec<f64>,
    pub(crate) operations: Vec<Operation>,
    /// The servers' transaction counters of each replica set, if there are no callers' metrics.
    pub(crate) servers: Vec<Operation>,
    /// Labels that series of the callers' metrics lack, so that they cannot be compared.
    pub(crate) missing_labels: BTreeSet<&'static str>,
    /// The share of the baseline that has data.
    pub(crate) baseline: f64,
}

fn matchers(selector: &str, more: &str) -> String {
    let all: Vec<&str> = [selector, more].into_iter().filter(|text| !text.is_empty()).collect();
    format!("{{{}}}", all.join(","))
}

/// The queries for the servers' counters. A member that several sidecars poll counts once.
fn server_queries(selector: &str) -> [(&'static str, String); 2] {
    let increase = |name: &str| {
        let labels = matchers(selector, "");
        format!(
            "sum by (deployment, rs) (max by (cluster, deployment, rs, member) (increase({name}{labels}[WINDOW])))"
        )
    };
    [
        ("committed", increase(catalog::MONGODB_TRANSACTIONS_COMMITTED.name)),
        ("server_aborted", increase(catalog::MONGODB_TRANSACTIONS_ABORTED.name)),
    ]
}

/// The existing values of the labels of a selector, if the selector matches no series that could be compared.
///
/// # Errors
///
/// If Prometheus does not respond.
pub(crate) async fn label_choices(
    prometheus: &Prometheus,
    selector: &str,
    whole: TimeRange,
) -> Result<Option<String>, ServiceError> {
    if selector.is_empty() {
        return Ok(None);
    }
    let window = format!("{:.0}ms", whole.seconds() * 1e3);
    let duration = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let families = [
        duration.as_str(),
        catalog::CLIENT_TRANSACTIONS_STARTED.name,
        catalog::MONGODB_TRANSACTIONS_COMMITTED.name,
    ];
    let any = |by: &str, labels: &str| {
        let counts =
            families.map(|name| format!("count by ({by}) (count_over_time({name}{labels}[{window}]))"));
        counts.join(" or ")
    };
    let at = Some(whole.end);
    if !prometheus.query(&any("", &matchers(selector, "")), at).await?.is_empty() {
        return Ok(None);
    }
    let mut choices = Vec::new();
    for label in label_names(selector) {
        let found = prometheus.query(&any(label, ""), at).await?;
        let values: BTreeSet<String> = found
            .iter()
            .map(|sample| sample.labels.get(label).map_or("", String::as_str))
            .filter(|value| !value.is_empty())
            .map(|value| format!("{:?}", plain(value)))
            .collect();
        let values: Vec<String> = values.into_iter().take(MAX_CHOICES).collect();
        choices.push(match values.as_slice() {
            [] => format!("no series of {} has a label {label}", families.join(", ")),
            values => format!("the values of {label} are {}", values.join(", ")),
        });
    }
    Ok(Some(choices.join("; ")))
}

/// The maximum number of values to list for a label.
const MAX_CHOICES: usize = 20;

/// The names of the labels of a selector.
fn label_names(selector: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut start = 0;
    for (at, letter) in selector.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => start = at + 1,
            '=' | '!' if !quoted => {
                let name = selector.get(start..at).unwrap_or_default().trim();
                if !name.is_empty() && !labels.contains(&name) {
                    labels.push(name);
                }
                // The rest of the operator and the value are not a part of a name.
                start = selector.len();
            }
            _ => {}
        }
    }
    labels
}

/// The queries for the callers' and the driver's counters. `WINDOW` is replaced by the length of a window.
pub(super) fn queries(selector: &str) -> [(&'static str, String); 5] {
    let labels = |more: &str| matchers(selector, more);
    let increase = |by: &str, name: &str, more: &str| {
        format!("sum by ({by}) (increase({name}{}[WINDOW]))", labels(more))
    };
    let duration = catalog::TRANSACTION_DURATION.name;
    [
        ("ended", increase("operation, outcome", &format!("{duration}_count"), "")),
        ("buckets", increase("operation, le", &format!("{duration}_bucket"), "outcome=\"succeeded\"")),
        ("started", increase("operation", catalog::CLIENT_TRANSACTIONS_STARTED.name, "")),
        ("aborted", increase("operation", catalog::CLIENT_TRANSACTIONS_ABORTED.name, "")),
        (
            "conflicts",
            increase("operation", catalog::CLIENT_TRANSACTIONS_ABORTED.name, "reason=\"write_conflict\""),
        ),
    ]
}

/// The number of slices of the baseline, each as long as the window if possible.
fn slices(baseline: f64, window: f64) -> f64 {
    let wanted = (baseline / window).round().clamp(MIN_SLICES, MAX_SLICES);
    wanted.min((baseline / MIN_SLICE).floor()).max(1.0)
}

/// Queries all counts.
///
/// # Errors
///
/// If Prometheus does not respond, or its response is malformed.
pub(crate) async fn read(
    prometheus: &Prometheus,
    selector: &str,
    before: TimeRange,
    after: TimeRange,
) -> Result<TrafficCounts, ServiceError> {
    let slices = slices(before.seconds(), after.seconds());
    let mut counts = query_all(prometheus, &queries(selector), before, after, slices).await?.finish(slices);
    if counts.operations.is_empty() && counts.missing_labels.is_empty() {
        let servers = query_all(prometheus, &server_queries(selector), before, after, slices).await?;
        let servers = servers.finish(slices);
        (counts.servers, counts.baseline) = (servers.operations, servers.baseline);
    }
    Ok(counts)
}

async fn query_all(
    prometheus: &Prometheus,
    queries: &[(&'static str, String)],
    before: TimeRange,
    after: TimeRange,
    slices: f64,
) -> Result<Aggregator, ServiceError> {
    let mut aggregator = Aggregator::default();
    let step = before.seconds() / slices;
    for (kind, expression) in queries {
        let window = |seconds: f64| expression.replace("WINDOW", &format!("{:.0}ms", seconds * 1e3));
        let now = prometheus.query(&window(after.seconds()), Some(after.end)).await?;
        for sample in now {
            aggregator.add(kind, &sample.labels, None, sample.value);
        }
        aggregator.check_limits().map_err(ServiceError::Malformed)?;
        // Each point covers the slice before it, so the first point is at the end of the first slice.
        let first = before.start + step;
        for series in prometheus.range(&window(step), (first, before.end), step).await? {
            for (time, value) in series.values {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a number from 0 to 48"
                )]
                let slice = ((time - first) / step).round().clamp(0.0, slices - 1.0) as usize;
                aggregator.add(kind, &series.labels, Some(slice), value);
            }
        }
        aggregator.check_limits().map_err(ServiceError::Malformed)?;
    }
    Ok(aggregator)
}

/// The counts of samples whose labels name the kind of count and the slice.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn counts_of_samples(samples: &[crate::client::services::prometheus::Sample]) -> TrafficCounts {
    let mut aggregator = Aggregator::default();
    for sample in samples {
        let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
        let slice = label("slice").parse::<usize>().ok().filter(|slice| *slice < 48);
        aggregator.add(label("kind"), &sample.labels, slice, sample.value);
    }
    aggregator.finish(12.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_names_are_those_before_each_operator() {
        assert_eq!(label_names(r#"job="shop",env!="prod""#), ["job", "env"]);
        assert_eq!(label_names(r#" job =~ "a,b=\"c" , env!~"x" "#), ["job", "env"]);
        assert!(label_names("").is_empty());
    }

    #[test]
    fn slices_are_as_long_as_the_window_if_possible() {
        assert_eq!(slices(86_400.0, 1_800.0), 48.0);
        assert_eq!(slices(3_600.0, 1_800.0), 12.0);
        assert_eq!(slices(300.0, 300.0), 5.0);
        assert_eq!(slices(10.0, 10.0), 1.0);
    }
}
