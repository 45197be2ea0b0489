//! The catalogue's own metrics, in memory and on the page.
//!
//! What is in flight is not counted at all: it is what was admitted less what ended. So a request spares two
//! atomic additions, no gauge can drift, and on every page, also under load, attempts are exactly the durations'
//! counts and what is in flight.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::Key;
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use txnscope_catalog::{CONCURRENT_OPERATIONS, Metric, TRANSACTION_ATTEMPTS, TRANSACTION_DURATION};

use super::histogram::{FixedHistogram, Reading};

/// The series of one family, by their labels as the page prints them.
type Series<T> = BTreeMap<String, T>;

/// Families of one kind, by name.
type ByName<T> = BTreeMap<&'static str, (&'static Metric, Series<Arc<T>>)>;

#[derive(Debug, Default)]
pub(super) struct Families {
    counters: RwLock<ByName<AtomicU64>>,
    histograms: RwLock<ByName<FixedHistogram>>,
}

/// The page's way of writing a series' labels, without the braces.
fn labels(key: &Key) -> String {
    let pairs: Vec<_> = key
        .labels()
        .map(|label| format!("{}=\"{}\"", label.key(), sanitize_label_value(label.value())))
        .collect();
    pairs.join(",")
}

impl Families {
    pub(super) fn counter(&self, metric: &'static Metric, key: &Key) -> Arc<AtomicU64> {
        let mut families = self.counters.write().unwrap_or_else(PoisonError::into_inner);
        let (_, series) = families.entry(metric.name).or_insert_with(|| (metric, Series::new()));
        Arc::clone(series.entry(labels(key)).or_default())
    }

    pub(super) fn histogram(&self, metric: &'static Metric, key: &Key) -> Arc<FixedHistogram> {
        let mut families = self.histograms.write().unwrap_or_else(PoisonError::into_inner);
        let (_, series) = families.entry(metric.name).or_insert_with(|| (metric, Series::new()));
        let new = || Arc::new(FixedHistogram::new(metric.buckets));
        Arc::clone(series.entry(labels(key)).or_insert_with(new))
    }

    pub(super) fn render(&self, page: &mut String) {
        // Handles out of the locks first: a request that registers a series must not wait for a page. And what
        // ended is read before what was admitted, so that nothing is ever less than zero in flight.
        let histograms = self.histograms.read().unwrap_or_else(PoisonError::into_inner).clone();
        let ended: BTreeMap<_, _> = histograms
            .into_iter()
            .map(|(name, (metric, series))| {
                let read = |(labels, histogram): (String, Arc<FixedHistogram>)| (labels, histogram.read());
                (name, (metric, series.into_iter().map(read).collect::<Series<_>>()))
            })
            .collect();
        let counters = self.counters.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, (metric, series)) in counters {
            let values: Series<_> =
                series.into_iter().map(|(labels, count)| (labels, count.load(Relaxed))).collect();
            if name == TRANSACTION_ATTEMPTS.name {
                let durations = ended.get(TRANSACTION_DURATION.name).map(|(_, series)| series);
                scalars(page, &CONCURRENT_OPERATIONS, &in_flight(&values, durations));
            }
            scalars(page, metric, &values);
        }
        for (metric, series) in ended.into_values() {
            distributions(page, metric, &series);
        }
    }
}

/// What was admitted less what ended, for each operation.
fn in_flight(admitted: &Series<u64>, ended: Option<&Series<Reading>>) -> Series<u64> {
    let ended_of = |operation: &str| -> u64 {
        let Some(ended) = ended else { return 0 };
        let outcomes =
            ended.range(operation.to_owned()..).take_while(|(labels, _)| labels.starts_with(operation));
        outcomes.map(|(_, reading)| reading.count).sum()
    };
    // The operation's closing quote ends the prefix, so that no other operation begins with it.
    admitted.iter().map(|(labels, count)| (labels.clone(), count.saturating_sub(ended_of(labels)))).collect()
}

fn head(page: &mut String, metric: &Metric) {
    write_help_line(page, metric.name, None, None, metric.help);
    write_type_line(page, metric.name, None, None, metric.kind.as_str());
}

fn scalars(page: &mut String, metric: &Metric, series: &Series<u64>) {
    head(page, metric);
    for (labels, value) in series {
        let _ = writeln!(page, "{}{{{labels}}} {value}", metric.name);
    }
    page.push('\n');
}

fn distributions(page: &mut String, metric: &Metric, series: &Series<Reading>) {
    head(page, metric);
    let name = metric.name;
    for (labels, reading) in series {
        for (bound, count) in &reading.buckets {
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", reading.count);
        let _ = writeln!(page, "{name}_sum{{{labels}}} {}", reading.sum);
        let _ = writeln!(page, "{name}_count{{{labels}}} {}", reading.count);
    }
    page.push('\n');
}
