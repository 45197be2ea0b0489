//! The recorder behind the facade: the exporter's, but for the catalogue's own metrics.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use txnscope_catalog::{Emitter, Kind, Metric};

use super::families::{Families, is_derived};

/// Forwards to the exporter, and keeps the catalogue's metrics itself.
pub(super) struct Recorder {
    exporter: PrometheusRecorder,
    families: Arc<Families>,
    /// Names that the application has recorded as what they are not.
    refused: Mutex<BTreeSet<String>>,
}

/// Where a metric of that name and kind belongs.
enum Place {
    Ours(&'static Metric),
    Exporter,
    /// A page with two families of one name is none that Prometheus reads.
    Nowhere,
}

impl Recorder {
    pub(super) fn new(builder: PrometheusBuilder) -> Self {
        Self { exporter: builder.build_recorder(), families: Arc::default(), refused: Mutex::default() }
    }

    pub(super) fn exporter(&self) -> PrometheusHandle {
        self.exporter.handle()
    }

    pub(super) fn families(&self) -> Arc<Families> {
        Arc::clone(&self.families)
    }

    fn place(&self, key: &Key, kind: Kind) -> Place {
        match catalogued(key.name()) {
            Some(metric) if metric.kind == kind => return Place::Ours(metric),
            None if !is_of_a_histogram(key.name()) => return Place::Exporter,
            _ => {}
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < MAX_REFUSED && refused.insert(key.name().to_owned()) {
            tracing::warn!(
                metric = key.name(),
                kind = kind.as_str(),
                "the application records a metric of txnscope's name as something else; it is not on the page: give it \
                 another name"
            );
        }
        Place::Nowhere
    }
}

/// So many names are told of.
const MAX_REFUSED: usize = 100;

/// Whether it is the name of a line of one of the catalogue's histograms.
fn is_of_a_histogram(name: &str) -> bool {
    ["_bucket", "_sum", "_count"].iter().any(|suffix| {
        name.strip_suffix(suffix).and_then(catalogued).is_some_and(|metric| metric.kind == Kind::Histogram)
    })
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
        match self.place(key, Kind::Counter) {
            Place::Ours(metric) => Counter::from_arc(self.families.counter(metric, key)),
            Place::Exporter => self.exporter.register_counter(key, metadata),
            Place::Nowhere => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match self.place(key, Kind::Gauge) {
            Place::Ours(metric) if is_derived(metric) => Gauge::noop(),
            Place::Ours(metric) => Gauge::from_arc(self.families.gauge(metric, key)),
            Place::Exporter => self.exporter.register_gauge(key, metadata),
            Place::Nowhere => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match self.place(key, Kind::Histogram) {
            Place::Ours(metric) => Histogram::from_arc(self.families.histogram(metric, key)),
            Place::Exporter => self.exporter.register_histogram(key, metadata),
            Place::Nowhere => Histogram::noop(),
        }
    }
}
