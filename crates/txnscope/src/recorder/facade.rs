//! The recorder behind the facade: the exporter's, but for the catalogue's histograms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use txnscope_catalog::{Emitter, Kind, Metric};

use super::histogram::FixedHistogram;

/// Forwards to the exporter, and keeps the catalogue's histograms itself.
pub(super) struct Recorder {
    exporter: PrometheusRecorder,
    histograms: Arc<FixedHistograms>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { exporter: PrometheusBuilder::new().build_recorder(), histograms: Arc::default() }
    }

    pub(super) fn exporter(&self) -> PrometheusHandle {
        self.exporter.handle()
    }

    pub(super) fn histograms(&self) -> Arc<FixedHistograms> {
        Arc::clone(&self.histograms)
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if catalogued(key.as_str()).is_none() {
            self.exporter.describe_histogram(key, unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match catalogued(key.name()) {
            Some(metric) => Histogram::from_arc(self.histograms.register(metric, key)),
            None => self.exporter.register_histogram(key, metadata),
        }
    }
}

fn catalogued(name: &str) -> Option<&'static Metric> {
    txnscope_catalog::find(name)
        .filter(|metric| metric.kind == Kind::Histogram && metric.emitter == Emitter::Library)
}

/// The series of one family, by their labels as the page prints them.
type Family = BTreeMap<String, Arc<FixedHistogram>>;

/// Every series of the catalogue's histograms.
#[derive(Debug, Default)]
pub(super) struct FixedHistograms {
    families: RwLock<BTreeMap<&'static str, Family>>,
}

impl FixedHistograms {
    fn register(&self, metric: &'static Metric, key: &Key) -> Arc<FixedHistogram> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}=\"{}\"", label.key(), sanitize_label_value(label.value())))
            .collect();
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(metric.name).or_default();
        let series =
            family.entry(labels.join(",")).or_insert_with(|| Arc::new(FixedHistogram::new(metric.buckets)));
        Arc::clone(series)
    }

    pub(super) fn render(&self, page: &mut String) {
        // Handles out of the lock first: a request that registers a series must not wait for a page.
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, series) in families {
            let help = txnscope_catalog::find(name).map_or("", |metric| metric.help);
            write_help_line(page, name, None, None, help);
            write_type_line(page, name, None, None, Kind::Histogram.as_str());
            for (labels, histogram) in series {
                let reading = histogram.read();
                for (bound, count) in reading.buckets {
                    let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
                }
                let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", reading.count);
                let _ = writeln!(page, "{name}_sum{{{labels}}} {}", reading.sum);
                let _ = writeln!(page, "{name}_count{{{labels}}} {}", reading.count);
            }
            page.push('\n');
        }
    }
}
