//! The metric handles of one operation.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use txnscope_catalog::{
    CONCURRENT_OPERATIONS, Emitter, Kind, Metric, TRANSACTION_ATTEMPTS, TRANSACTION_DURATION,
    TRANSACTION_FAILURES, Unit, emitted_by,
};

use crate::{Operation, OperationName, Outcome, Reason};

/// The handles of one operation.
pub(crate) struct OperationMetrics {
    pub(crate) name: &'static str,
    /// Where the name's method ends; 0 if it has none.
    method: usize,
    sink: &'static Sink,
    pub(crate) attempts: Counter,
    pub(crate) concurrent: Gauge,
    durations: [Histogram; Outcome::ALL.len()],
    failures: RwLock<Vec<(Outcome, Reason, Counter)>>,
}

impl OperationMetrics {
    pub(super) fn leak(sink: &'static Sink, name: String) -> &'static Self {
        let name: &'static str = name.leak();
        let metrics: &'static Self = Box::leak(Box::new(Self {
            name,
            method: name.split_once(' ').map_or(0, |(method, _)| method.len()),
            sink,
            attempts: sink.counter(&TRANSACTION_ATTEMPTS, vec![operation(name)]),
            concurrent: sink.gauge(&CONCURRENT_OPERATIONS, vec![operation(name)]),
            durations: Outcome::ALL.map(|outcome| {
                sink.histogram(
                    &TRANSACTION_DURATION,
                    vec![operation(name), label("outcome", outcome.as_str())],
                )
            }),
            failures: RwLock::default(),
        }));
        metrics.declare(&Operation::new(name));
        metrics
    }

    pub(super) fn is_named(&self, name: OperationName<'_>) -> bool {
        match self.method {
            0 => name.method.is_empty() && self.name == name.rest,
            end => self.name[..end] == *name.method && self.name[end + 1..] == *name.rest,
        }
    }

    pub(super) fn declare(&self, operation: &Operation) {
        for reason in operation.rejects {
            let _ = self.failure(Outcome::Rejected, *reason);
        }
        for reason in operation.fails.iter().chain(&[Reason::OTHER]) {
            let _ = self.failure(Outcome::Failed, *reason);
        }
        let _ = self.failure(Outcome::Cancelled, Reason::CANCELLED);
        let _ = self.failure(Outcome::Panicked, Reason::PANIC);
    }

    pub(crate) fn duration(&self, outcome: Outcome) -> &Histogram {
        &self.durations[outcome as usize]
    }

    /// The counter of one way to fail, resolved the first time.
    pub(crate) fn failure(&self, outcome: Outcome, reason: Reason) -> Counter {
        let known = |failures: &[(Outcome, Reason, Counter)]| {
            failures
                .iter()
                .find(|(o, r, _)| (*o, *r) == (outcome, reason))
                .map(|(_, _, counter)| counter.clone())
        };
        if let Some(counter) = known(&self.failures.read().unwrap_or_else(PoisonError::into_inner)) {
            return counter;
        }
        let mut failures = self.failures.write().unwrap_or_else(PoisonError::into_inner);
        known(&failures).unwrap_or_else(|| {
            let labels = vec![
                operation(self.name),
                label("outcome", outcome.as_str()),
                label("reason", reason.as_str()),
            ];
            let counter = self.sink.counter(&TRANSACTION_FAILURES, labels);
            failures.push((outcome, reason, counter.clone()));
            counter
        })
    }
}

impl fmt::Debug for OperationMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationMetrics").field("name", &self.name).finish_non_exhaustive()
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn label(name: &'static str, value: &'static str) -> Label {
    Label::from_static_parts(name, value)
}

fn operation(name: &'static str) -> Label {
    label("operation", name)
}

/// Where handles come from.
pub(super) enum Sink {
    Global,
    Own(Box<dyn Recorder + Send + Sync>),
}

impl Sink {
    fn with<T>(&self, f: impl FnOnce(&dyn Recorder) -> T) -> T {
        match self {
            Self::Global => metrics::with_recorder(f),
            Self::Own(recorder) => f(recorder),
        }
    }

    fn counter(&self, metric: &Metric, labels: Vec<Label>) -> Counter {
        self.with(|recorder| recorder.register_counter(&Key::from_parts(metric.name, labels), &METADATA))
    }

    fn gauge(&self, metric: &Metric, labels: Vec<Label>) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&Key::from_parts(metric.name, labels), &METADATA))
    }

    fn histogram(&self, metric: &Metric, labels: Vec<Label>) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&Key::from_parts(metric.name, labels), &METADATA))
    }

    pub(super) fn describe(&self) {
        for metric in emitted_by(Emitter::Library) {
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
