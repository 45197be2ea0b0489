//! Registration of the catalog's metrics in one recorder.

use std::sync::Arc;
#[cfg(feature = "mongodb")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
#[cfg(feature = "mongodb")]
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use txnscope_catalog::{Emitter, Kind, Metric, Unit, emitted_by};

use crate::recorder::Families;
#[cfg(feature = "mongodb")]
use crate::recorder::ShardedCounter;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

pub(crate) fn label(name: &'static str, value: &'static str) -> Label {
    Label::from_static_parts(name, value)
}

pub(crate) fn operation(name: &'static str) -> Label {
    label("operation", name)
}

/// A recorder: the process's global one, or one of the registry's own.
pub(crate) enum RecorderHandle {
    Global,
    Own {
        recorder: Box<dyn Recorder + Send + Sync>,
        /// Present if the recorder is this crate's.
        #[cfg_attr(
            not(feature = "mongodb"),
            allow(dead_code, reason = "only seconds are counted past the facade")
        )]
        families: Option<Arc<Families>>,
    },
}

impl RecorderHandle {
    fn with<T>(&self, f: impl FnOnce(&dyn Recorder) -> T) -> T {
        match self {
            Self::Global => metrics::with_recorder(f),
            Self::Own { recorder, .. } => f(recorder),
        }
    }

    pub(crate) fn counter(&self, metric: &Metric, labels: Vec<Label>) -> Counter {
        self.with(|recorder| recorder.register_counter(&Key::from_parts(metric.name, labels), &METADATA))
    }

    pub(crate) fn gauge(&self, metric: &Metric, labels: Vec<Label>) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&Key::from_parts(metric.name, labels), &METADATA))
    }

    pub(crate) fn histogram(&self, metric: &Metric, labels: Vec<Label>) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&Key::from_parts(metric.name, labels), &METADATA))
    }

    /// Registers a counter of seconds. The `metrics` facade counts in whole numbers: this crate's recorder is given
    /// nanoseconds, another recorder each completed second.
    #[cfg(feature = "mongodb")]
    pub(crate) fn seconds(&self, metric: &'static Metric, labels: Vec<Label>) -> SecondsCounter {
        let families = match self {
            Self::Global => crate::recorder::installed(),
            Self::Own { families, .. } => families.as_ref(),
        };
        match families {
            Some(families) => {
                SecondsCounter::Nanos(families.counter(metric, &Key::from_parts(metric.name, labels)))
            }
            None => SecondsCounter::Whole { counter: self.counter(metric, labels), nanos: AtomicU64::new(0) },
        }
    }

    pub(super) fn describe(&self) {
        for metric in emitted_by(Emitter::Library).filter(|metric| metric.emitter == Emitter::Library) {
            let (name, help) = (metric.name.into(), SharedString::const_str(metric.help));
            let unit = match metric.unit {
                Unit::Seconds => Some(metrics::Unit::Seconds),
                Unit::Bytes => Some(metrics::Unit::Bytes),
                Unit::Count => Some(metrics::Unit::Count),
                Unit::Boolean | Unit::Info => None,
            };
            self.with(|recorder| match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            });
        }
    }
}

/// A counter of durations.
#[cfg(feature = "mongodb")]
pub(crate) enum SecondsCounter {
    Nanos(Arc<ShardedCounter>),
    Whole { counter: Counter, nanos: AtomicU64 },
}

#[cfg(feature = "mongodb")]
impl SecondsCounter {
    pub(crate) fn add(&self, time: Duration) {
        let added = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match self {
            Self::Nanos(nanos) => nanos.add(added),
            Self::Whole { counter, nanos } => {
                const SECOND: u64 = 1_000_000_000;
                let before = nanos.fetch_add(added, Relaxed);
                let whole_seconds = before.saturating_add(added) / SECOND - before / SECOND;
                if whole_seconds > 0 {
                    counter.increment(whole_seconds);
                }
            }
        }
    }
}
