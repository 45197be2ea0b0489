//! The counts of each operation in Prometheus, before and after the deployment.

use std::collections::{BTreeMap, BTreeSet};

use txnscope_catalog as catalog;

use crate::client::services::ServiceError;
use crate::client::services::prometheus::{Labels, Prometheus, plain};
use txnscope_rollout::{Operation, WindowCounts};

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

/// The maximum number of operations that are compared. The operations of each process are limited as well.
const MAX_OPERATIONS: usize = 5 * catalog::MAX_OPERATIONS;
/// The maximum number of distinct bounds of all histograms. Each operation has a count for each bound in each slice, so the
/// memory is proportional to their product.
const MAX_BOUNDS: usize = 200;

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

/// The queries for the callers' and the driver's counters. `WINDOW` is resliced by the length of a window.
fn queries(selector: &str) -> [(&'static str, String); 5] {
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

/// A slice of the baseline, or `None` for the window after the deployment.
type Slice = Option<usize>;

/// Adds up the results of the queries.
#[derive(Debug, Default)]
struct Aggregator {
    windows: BTreeMap<(String, Slice), WindowCounts>,
    /// Counts by bound. The key is the bits of the bound, which sort as the numbers do, since all bounds are positive.
    buckets: BTreeMap<(String, Slice), BTreeMap<u64, f64>>,
    slices_with_data: BTreeSet<Slice>,
    missing_labels: BTreeSet<&'static str>,
    names: BTreeSet<String>,
    bounds: BTreeSet<u64>,
}

impl Aggregator {
    /// Checks the limits on operations and bounds.
    fn check_limits(&self) -> Result<(), String> {
        let hint = "select fewer series with --selector";
        if self.names.len() > MAX_OPERATIONS {
            return Err(format!("it has more than {MAX_OPERATIONS} operations: {hint}"));
        }
        if self.bounds.len() > MAX_BOUNDS {
            return Err(format!("its histograms have more than {MAX_BOUNDS} different bounds: {hint}"));
        }
        Ok(())
    }

    /// Adds a count. A malformed one (negative, or with an invalid bound) is skipped.
    fn add(&mut self, kind: &str, labels: &Labels, slice: Slice, value: f64) {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let is_server_count = ["committed", "server_aborted"].contains(&kind);
        let operation = if is_server_count { replica_set_name(labels) } else { plain(label("operation")) };
        if !value.is_finite() || value < 0.0 {
            return;
        }
        // The name of a set may be empty, that of an operation may not. A missing outcome does not mean success.
        if operation.is_empty() {
            self.missing_labels.insert("operation");
        }
        if kind == "ended" && label("outcome").is_empty() {
            self.missing_labels.insert("outcome");
        }
        if operation.is_empty() {
            return;
        }
        self.slices_with_data.insert(slice);
        // One more than the maximum is kept, so that the limit is detected.
        if !self.names.contains(&operation) && self.names.len() <= MAX_OPERATIONS {
            self.names.insert(operation.clone());
        }
        if !self.names.contains(&operation) {
            return;
        }
        let key = (operation, slice);
        if kind == "buckets" {
            let Ok(bound) = label("le").parse::<f64>() else { return };
            if bound > 0.0 && (self.bounds.len() <= MAX_BOUNDS || self.bounds.contains(&bound.to_bits())) {
                self.bounds.insert(bound.to_bits());
                *self.buckets.entry(key).or_default().entry(bound.to_bits()).or_default() += value;
            }
            return;
        }
        let window = self.windows.entry(key).or_default();
        match kind {
            "ended" => {
                window.ended += value;
                if ["failed", "panicked"].contains(&label("outcome")) {
                    window.failed += value;
                }
            }
            "started" => window.started += value,
            "aborted" => window.aborted += value,
            "committed" => window.started += value,
            // A server does not know the reason of an abort, so all aborts are compared.
            "server_aborted" => {
                window.started += value;
                window.aborted += value;
                window.conflicts += value;
            }
            _ => window.conflicts += value,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "there are some tens of slices")]
    fn finish(self, slices: f64) -> TrafficCounts {
        let infinity = f64::INFINITY.to_bits();
        let bounds: Vec<f64> =
            self.bounds.iter().filter(|bits| **bits != infinity).map(|bits| f64::from_bits(*bits)).collect();
        let window = |name: &String, slice: Slice| {
            let key = (name.clone(), slice);
            let mut window = self.windows.get(&key).cloned().unwrap_or_default();
            if let Some(buckets) = self.buckets.get(&key) {
                // Prometheus extrapolates each series, so a count may be slightly smaller than that of a lower bound.
                let mut lowest = 0.0_f64;
                window.cumulative = bounds
                    .iter()
                    .map(|bound| bound.to_bits())
                    .chain([infinity])
                    .map(|bound| {
                        lowest = lowest.max(buckets.get(&bound).copied().unwrap_or_default());
                        lowest
                    })
                    .collect();
            }
            window
        };
        let slices_with_data: Vec<Slice> =
            self.slices_with_data.iter().copied().filter(Option::is_some).collect();
        let baseline = (slices_with_data.len() as f64 / slices).min(1.0);
        let operations: Vec<Operation> = self
            .names
            .iter()
            .map(|name| Operation {
                name: name.clone(),
                slices: slices_with_data.iter().map(|slice| window(name, *slice)).collect(),
                after: window(name, None),
            })
            .collect();
        TrafficCounts {
            bounds,
            operations,
            servers: Vec::new(),
            missing_labels: self.missing_labels,
            baseline,
        }
    }
}

/// The name of a replica set, or of the mongos of a cluster, in the table.
fn replica_set_name(labels: &Labels) -> String {
    let label = |name: &str| plain(labels.get(name).map_or("", String::as_str));
    let set = match label("rs") {
        name if name.is_empty() => "servers without a set".to_owned(),
        name => format!("replica set {name}"),
    };
    match label("deployment") {
        name if name.is_empty() => set,
        name => format!("{set} of {name}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn counts_are_added_by_operation_and_window() {
        let mut aggregator = Aggregator::default();
        aggregator.add("ended", &labels(&[("operation", "a"), ("outcome", "succeeded")]), None, 90.0);
        aggregator.add("ended", &labels(&[("operation", "a"), ("outcome", "failed")]), None, 10.0);
        aggregator.add("ended", &labels(&[("operation", "a"), ("outcome", "rejected")]), Some(1), 7.0);
        for (bound, count) in [("0.1", 50.0), ("0.5", 49.9), ("+Inf", 90.0)] {
            aggregator.add("buckets", &labels(&[("operation", "a"), ("le", bound)]), None, count);
        }
        aggregator.add("conflicts", &labels(&[("operation", "b")]), Some(0), f64::NAN);
        let counts = aggregator.finish(12.0);
        assert_eq!(counts.baseline, 1.0 / 12.0, "one slice of twelve has data; NaN counts as missing");
        assert_eq!(counts.bounds, [0.1, 0.5]);
        let [operation] = counts.operations.as_slice() else { panic!("{counts:?}") };
        assert_eq!((operation.after.ended, operation.after.failed), (100.0, 10.0));
        assert_eq!(operation.after.cumulative, [50.0, 50.0, 90.0]);
        assert_eq!(operation.before().ended, 7.0);
    }

    /// A response of 600 kB once took 1.1 GiB, since each operation has a count for each bound of all operations.
    #[test]
    fn excess_operations_and_bounds_are_rejected_and_not_stored() {
        let mut many = Aggregator::default();
        let mut wide = Aggregator::default();
        for index in 0..20_000 {
            let (name, bound) = (format!("op {index}"), format!("{}", 1.0 + f64::from(index)));
            many.add("buckets", &labels(&[("operation", &name), ("le", "0.1")]), None, 1.0);
            wide.add("buckets", &labels(&[("operation", "a"), ("le", &bound)]), None, 1.0);
        }
        assert!(many.check_limits().unwrap_err().contains("more than 1000 operations"));
        assert!(wide.check_limits().unwrap_err().contains("more than 200 different bounds"));
        let (many, wide) = (many.finish(12.0), wide.finish(12.0));
        assert_eq!((many.operations.len(), wide.bounds.len()), (MAX_OPERATIONS + 1, MAX_BOUNDS + 1));
        assert_eq!(wide.operations[0].after.cumulative.len(), MAX_BOUNDS + 2);
    }

    #[test]
    fn missing_labels_are_reported_and_do_not_count_as_success() {
        let mut aggregator = Aggregator::default();
        aggregator.add("ended", &labels(&[]), None, 90.0);
        let counts = aggregator.finish(12.0);
        assert!(counts.operations.is_empty());
        assert_eq!(counts.missing_labels, ["operation", "outcome"].into());
    }

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

    proptest! {
        #[test]
        fn arbitrary_series_do_not_panic(
            rows in prop::collection::vec(
                ("[a-c]?", prop_oneof![Just("0.1"), Just("+Inf"), Just("NaN"), Just("-1"), Just("x")],
                 prop::option::of(0_usize..3), any::<f64>(), 0_usize..5),
                0..40,
            )
        ) {
            let kinds = queries("").map(|(kind, _)| kind);
            let mut aggregator = Aggregator::default();
            for (operation, bound, slice, value, kind) in rows {
                let labels = labels(&[("operation", &operation), ("le", bound), ("outcome", "failed")]);
                aggregator.add(kinds[kind], &labels, slice, value);
            }
            let counts = aggregator.finish(12.0);
            prop_assert!(counts.operations.iter().all(|operation| !operation.name.is_empty()));
        }
    }
}
