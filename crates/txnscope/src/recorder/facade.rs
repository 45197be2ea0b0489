//! The recorder behind the facade: the exporter's, but for the catalogue's own metrics.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use txnscope_catalog::{Emitter, Metric};

use super::families::{Families, is_derived};

/// Forwards to the exporter, and keeps the catalogue's metrics itself.
pub(super) struct Recorder {
    exporter: PrometheusRecorder,
    families: Arc<Families>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { exporter: PrometheusBuilder::new().build_recorder(), families: Arc::default() }
    }

    pub(super) fn exporter(&self) -> PrometheusHandle {
        self.exporter.handle()
    }

    pub(super) fn families(&self) -> Arc<Families> {
        Arc::clone(&self.families)
    }
}

/// The catalogue's metric of that name, if the library emits it.
fn catalogued(name: &str) -> Option<&'static Metric> {
    txnscope_catalog::find(name).filter(|metric| metric.emitter == Emitter::Library)
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if catalogued(key.as_str()).is_none() {
            self.exporter.describe_counter(key, unit, description);
        }
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if catalogued(key.as_str()).is_none() {
            self.exporter.describe_gauge(key, unit, description);
        }
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if catalogued(key.as_str()).is_none() {
            self.exporter.describe_histogram(key, unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match catalogued(key.name()) {
            Some(metric) => Counter::from_arc(self.families.counter(metric, key)),
            None => self.exporter.register_counter(key, metadata),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match catalogued(key.name()) {
            Some(metric) if is_derived(metric) => Gauge::noop(),
            Some(metric) => Gauge::from_arc(self.families.gauge(metric, key)),
            None => self.exporter.register_gauge(key, metadata),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match catalogued(key.name()) {
            Some(metric) => Histogram::from_arc(self.families.histogram(metric, key)),
            None => self.exporter.register_histogram(key, metadata),
        }
    }
}
