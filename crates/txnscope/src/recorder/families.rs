//! The catalog's metrics: storage and rendering.
//!
//! The number of operations in flight is not counted but derived: started less ended. A request thereby saves two
//! atomic additions, the gauge cannot drift, and on every page, also under load, started is exactly the sum of ended
//! and in flight.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::Key;
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use txnscope_catalog::{
    CLIENT_TRANSACTIONS_ABORTED, CLIENT_TRANSACTIONS_COMMITTED, CLIENT_TRANSACTIONS_OPEN,
    CLIENT_TRANSACTIONS_STARTED, CLIENT_TRANSACTIONS_UNKNOWN, CONCURRENT_OPERATIONS, Metric,
    TRANSACTION_ATTEMPTS, TRANSACTION_DURATION, Unit, process_now,
};

use super::counter::ShardedCounter;
use super::histogram::{FixedHistogram, HistogramSnapshot};

/// The series of one family, by their rendered labels.
type Series<T> = BTreeMap<String, T>;

/// Families of one kind, by name.
type ByName<T> = BTreeMap<&'static str, (&'static Metric, Series<Arc<T>>)>;

/// A gauge that is derived: started less ended.
struct InFlight {
    gauge: &'static Metric,
    began: &'static Metric,
    ended: &'static [&'static Metric],
}

const IN_FLIGHT: [InFlight; 2] = [
    InFlight { gauge: &CONCURRENT_OPERATIONS, began: &TRANSACTION_ATTEMPTS, ended: &[&TRANSACTION_DURATION] },
    InFlight {
        gauge: &CLIENT_TRANSACTIONS_OPEN,
        began: &CLIENT_TRANSACTIONS_STARTED,
        ended: &[&CLIENT_TRANSACTIONS_COMMITTED, &CLIENT_TRANSACTIONS_ABORTED, &CLIENT_TRANSACTIONS_UNKNOWN],
    },
];

/// Whether the gauge is derived at rendering.
pub(super) fn is_derived(metric: &Metric) -> bool {
    IN_FLIGHT.iter().any(|derived| derived.gauge.name == metric.name)
}

/// Whether every request adds to the metric, on all cores at the same time. A transaction's metrics can be shared: a
/// transaction takes a network round trip.
fn is_hot(metric: &Metric) -> bool {
    [TRANSACTION_ATTEMPTS.name, TRANSACTION_DURATION.name].contains(&metric.name)
}

#[derive(Debug, Default)]
pub(crate) struct Families {
    counters: RwLock<ByName<ShardedCounter>>,
    /// The bits of an `f64`, as the facade stores gauges.
    gauges: RwLock<ByName<AtomicU64>>,
    histograms: RwLock<ByName<FixedHistogram>>,
}

/// Renders a series' labels, without the braces.
fn labels(key: &Key) -> String {
    let pairs: Vec<_> = key
        .labels()
        .map(|label| format!("{}=\"{}\"", label.key(), sanitize_label_value(label.value())))
        .collect();
    pairs.join(",")
}

/// Returns the series of this key, creating it if needed.
fn series<T>(
    families: &RwLock<ByName<T>>,
    metric: &'static Metric,
    key: &Key,
    new: impl FnOnce() -> T,
) -> Arc<T> {
    let mut families = families.write().unwrap_or_else(PoisonError::into_inner);
    let (_, series) = families.entry(metric.name).or_insert_with(|| (metric, Series::new()));
    Arc::clone(series.entry(labels(key)).or_insert_with(|| Arc::new(new())))
}

/// Copies the handles out of the lock: a request that registers a series must not wait for rendering.
fn handles<T>(families: &RwLock<ByName<T>>) -> ByName<T> {
    families.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn read<T, R>(series: Series<Arc<T>>, read: impl Fn(&T) -> R) -> Series<R> {
    series.into_iter().map(|(labels, value)| (labels, read(&value))).collect()
}

impl Families {
    pub(crate) fn counter(&self, metric: &'static Metric, key: &Key) -> Arc<ShardedCounter> {
        let new = if is_hot(metric) { ShardedCounter::per_core } else { ShardedCounter::shared };
        series(&self.counters, metric, key, new)
    }

    pub(super) fn gauge(&self, metric: &'static Metric, key: &Key) -> Arc<AtomicU64> {
        series(&self.gauges, metric, key, AtomicU64::default)
    }

    pub(super) fn histogram(&self, metric: &'static Metric, key: &Key) -> Arc<FixedHistogram> {
        let new = if is_hot(metric) { FixedHistogram::per_core } else { FixedHistogram::shared };
        series(&self.histograms, metric, key, || new(metric.buckets))
    }

    pub(super) fn render(&self, page: &mut String) {
        // Read the ended counters before the started ones, so that no derived gauge is negative.
        let distributions: BTreeMap<_, _> = handles(&self.histograms)
            .into_iter()
            .map(|(name, (metric, series))| (name, (metric, read(series, FixedHistogram::read))))
            .collect();
        let begins = |name| IN_FLIGHT.iter().any(|derived| derived.began.name == name);
        let load = |(name, (metric, series))| (name, (metric, read(series, ShardedCounter::read)));
        let (began, others): (ByName<_>, ByName<_>) =
            handles(&self.counters).into_iter().partition(|(name, _)| begins(*name));
        let mut counts: BTreeMap<_, (&Metric, Series<u64>)> = others.into_iter().map(load).collect();
        counts.extend(began.into_iter().map(load));

        for derived in &IN_FLIGHT {
            if let Some((_, began)) = counts.get(derived.began.name) {
                scalars(page, derived.gauge, &in_flight(began, derived.ended, &counts, &distributions));
            }
        }
        for (metric, series) in counts.into_values() {
            match metric.unit {
                Unit::Seconds => scalars(page, metric, &read_seconds(series)),
                Unit::Count | Unit::Bytes | Unit::Boolean | Unit::Info => scalars(page, metric, &series),
            }
        }
        for (metric, series) in handles(&self.gauges).into_values() {
            scalars(page, metric, &read(series, |bits| f64::from_bits(bits.load(Relaxed))));
        }
        for (metric, series) in distributions.into_values() {
            histograms(page, metric, &series);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "2^53 ns are 104 days of work; then the last digit rounds")]
fn read_seconds(series: Series<u64>) -> Series<f64> {
    series.into_iter().map(|(labels, nanos)| (labels, nanos as f64 / 1e9)).collect()
}

/// Derives a gauge for each operation: started less ended.
fn in_flight(
    began: &Series<u64>,
    ended: &[&Metric],
    counts: &BTreeMap<&'static str, (&Metric, Series<u64>)>,
    distributions: &BTreeMap<&'static str, (&Metric, Series<HistogramSnapshot>)>,
) -> Series<u64> {
    // The operation's closing quote ends the prefix, so that no other operation begins with it.
    fn sum<T>(series: &Series<T>, operation: &str, count: impl Fn(&T) -> u64) -> u64 {
        let of_operation =
            series.range(operation.to_owned()..).take_while(|(labels, _)| labels.starts_with(operation));
        of_operation.map(|(_, value)| count(value)).sum()
    }
    let ended_of = |operation: &str| -> u64 {
        ended
            .iter()
            .map(|metric| match (counts.get(metric.name), distributions.get(metric.name)) {
                (Some((_, series)), _) => sum(series, operation, |count| *count),
                (_, Some((_, series))) => sum(series, operation, |snapshot| snapshot.count),
                (None, None) => 0,
            })
            .sum()
    };
    began.iter().map(|(labels, count)| (labels.clone(), count.saturating_sub(ended_of(labels)))).collect()
}

/// Renders the `process_*` metrics that every Prometheus client library exports.
pub(super) fn render_process(page: &mut String) {
    for (metric, value) in process_now() {
        head(page, metric);
        let _ = writeln!(page, "{} {value}\n", metric.name);
    }
}

fn head(page: &mut String, metric: &Metric) {
    write_help_line(page, metric.name, None, None, metric.help);
    write_type_line(page, metric.name, None, None, metric.kind.as_str());
}

fn scalars<T: Display>(page: &mut String, metric: &Metric, series: &Series<T>) {
    head(page, metric);
    for (labels, value) in series {
        let _ = writeln!(page, "{}{{{labels}}} {value}", metric.name);
    }
    page.push('\n');
}

fn histograms(page: &mut String, metric: &Metric, series: &Series<HistogramSnapshot>) {
    head(page, metric);
    let name = metric.name;
    for (labels, snapshot) in series {
        for (bound, count) in &snapshot.buckets {
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", snapshot.count);
        let _ = writeln!(page, "{name}_sum{{{labels}}} {}", snapshot.sum);
        let _ = writeln!(page, "{name}_count{{{labels}}} {}", snapshot.count);
    }
    page.push('\n');
}
