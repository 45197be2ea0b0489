//! The aggregation of query results to the counts of each operation, with limits on their number.

use std::collections::{BTreeMap, BTreeSet};

use txnscope_catalog as catalog;
use txnscope_rollout::{Operation, WindowCounts};

use super::traffic::TrafficCounts;
use crate::client::services::prometheus::{Labels, plain};

/// The maximum number of operations that are compared. The operations of each process are limited as well.
const MAX_OPERATIONS: usize = 5 * catalog::MAX_OPERATIONS;
/// The maximum number of distinct bounds of all histograms. Each operation has a count for each bound in each slice, so the
/// memory is proportional to their product.
const MAX_BOUNDS: usize = 200;

/// A slice of the baseline, or `None` for the window after the deployment.
pub(super) type Slice = Option<usize>;

/// Adds up the results of the queries.
#[derive(Debug, Default)]
pub(super) struct Aggregator {
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
    pub(super) fn check_limits(&self) -> Result<(), String> {
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
    pub(super) fn add(&mut self, kind: &str, labels: &Labels, slice: Slice, value: f64) {
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
    pub(super) fn finish(self, slices: f64) -> TrafficCounts {
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

    use super::super::traffic::queries;
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
