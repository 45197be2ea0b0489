//! The recorder behind the `metrics` facade: the exporter's, with the catalog's metrics kept apart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use txnscope_catalog::{Emitter, Kind, Metric};

use super::families::{Families, is_derived};

/// Keeps the catalog's metrics itself, and forwards all others to the exporter.
pub(super) struct CompositeRecorder {
    exporter: PrometheusRecorder,
    families: Arc<Families>,
    /// Names of the catalog that the application has registered with another kind.
    rejected: Mutex<BTreeSet<String>>,
}

/// The recorder to which a metric belongs.
enum Route {
    Catalog(&'static Metric),
    Exporter,
    /// Dropped: Prometheus rejects a page with two families of one name.
    Rejected,
}

impl CompositeRecorder {
    pub(super) fn new(builder: PrometheusBuilder) -> Self {
        Self { exporter: builder.build_recorder(), families: Arc::default(), rejected: Mutex::default() }
    }

    pub(super) fn exporter(&self) -> PrometheusHandle {
        self.exporter.handle()
    }

    pub(super) fn families(&self) -> Arc<Families> {
        Arc::clone(&self.families)
    }

    fn route(&self, key: &Key, kind: Kind) -> Route {
        match find_catalog_metric(key.name()) {
            Some(metric) if metric.kind == kind => return Route::Catalog(metric),
            None if !is_histogram_line(key.name()) => return Route::Exporter,
            _ => {}
        }
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        if rejected.len() < MAX_WARNINGS && rejected.insert(key.name().to_owned()) {
            tracing::warn!(
                metric = key.name(),
                kind = kind.as_str(),
                "the application registers a metric of txnscope's with another kind; it is not exported: rename it"
            );
        }
        Route::Rejected
    }
}

/// The maximum number of names that are logged.
const MAX_WARNINGS: usize = 100;

/// Whether the name is that of a line of one of the catalog's histograms.
fn is_histogram_line(name: &str) -> bool {
    ["_bucket", "_sum", "_count"].iter().any(|suffix| {
        name.strip_suffix(suffix)
            .and_then(find_catalog_metric)
            .is_some_and(|metric| metric.kind == Kind::Histogram)
    })
}

/// Returns the catalog's metric of this name, if the library emits it.
fn find_catalog_metric(name: &str) -> Option<&'static Metric> {
    txnscope_catalog::find(name).filter(|metric| metric.emitter == Emitter::Library)
}

impl metrics::Recorder for CompositeRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if find_catalog_metric(key.as_str()).is_none() {
            self.exporter.describe_counter(key, unit, description);
        }
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if find_catalog_metric(key.as_str()).is_none() {
            self.exporter.describe_gauge(key, unit, description);
        }
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if find_catalog_metric(key.as_str()).is_none() {
            self.exporter.describe_histogram(key, unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match self.route(key, Kind::Counter) {
            Route::Catalog(metric) => Counter::from_arc(self.families.counter(metric, key)),
            Route::Exporter => self.exporter.register_counter(key, metadata),
            Route::Rejected => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match self.route(key, Kind::Gauge) {
            Route::Catalog(metric) if is_derived(metric) => Gauge::noop(),
            Route::Catalog(metric) => Gauge::from_arc(self.families.gauge(metric, key)),
            Route::Exporter => self.exporter.register_gauge(key, metadata),
            Route::Rejected => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match self.route(key, Kind::Histogram) {
            Route::Catalog(metric) => Histogram::from_arc(self.families.histogram(metric, key)),
            Route::Exporter => self.exporter.register_histogram(key, metadata),
            Route::Rejected => Histogram::noop(),
        }
    }
}
