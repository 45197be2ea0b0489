//! The metric handles of one operation.

use std::fmt;
use std::sync::{Arc, Once, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, HistogramFn};
use txnscope_catalog::{
    CONCURRENT_OPERATIONS, TRANSACTION_ATTEMPTS, TRANSACTION_DURATION, TRANSACTION_FAILURES, UNMATCHED,
};

use super::Inner;
use super::backend::{RecorderHandle, label, operation};
#[cfg(feature = "mongodb")]
use crate::transaction::{OpenTransactions, TransactionMetrics};
use crate::{Operation, OperationName, Outcome, Reason};

/// The handles of one operation.
pub(crate) struct OperationMetrics {
    pub(crate) name: &'static str,
    /// The two parts of the name; without a method, the first one is empty.
    method: &'static str,
    rest: &'static str,
    recorder: &'static RecorderHandle,
    /// Whether this is the placeholder of names that are not registered yet.
    is_placeholder: bool,
    pub(crate) attempts: Counter,
    pub(crate) concurrent: Gauge,
    durations: [Histogram; Outcome::ALL.len()],
    failures: RwLock<Vec<(Outcome, Reason, Counter)>>,
    /// The table that lists this operation's open transactions.
    #[cfg(feature = "mongodb")]
    open: &'static OpenTransactions,
    /// The metrics of the operation's transactions, created with the first transaction.
    #[cfg(feature = "mongodb")]
    transaction_metrics: std::sync::OnceLock<TransactionMetrics>,
    /// The declared reasons, for transaction metrics that are created later.
    #[cfg(feature = "mongodb")]
    declared: std::sync::Mutex<Vec<Reason>>,
}

impl OperationMetrics {
    pub(super) fn leak(inner: &'static Inner, name: String) -> &'static Self {
        let recorder = &inner.recorder;
        let name: &'static str = name.leak();
        let OperationName { method, rest } = OperationName::named(name).canonical();
        let metrics: &'static Self = Box::leak(Box::new(Self {
            name,
            method,
            rest,
            recorder,
            is_placeholder: false,
            attempts: recorder.counter(&TRANSACTION_ATTEMPTS, vec![operation(name)]),
            concurrent: recorder.gauge(&CONCURRENT_OPERATIONS, vec![operation(name)]),
            durations: Outcome::ALL.map(|outcome| {
                let labels = vec![operation(name), label("outcome", outcome.as_str())];
                let duration = recorder.histogram(&TRANSACTION_DURATION, labels);
                if name == UNMATCHED && outcome == Outcome::Succeeded {
                    return Histogram::from_arc(Arc::new(Unmatched { duration, warned: Once::new() }));
                }
                duration
            }),
            failures: RwLock::default(),
            #[cfg(feature = "mongodb")]
            open: &inner.open,
            #[cfg(feature = "mongodb")]
            transaction_metrics: std::sync::OnceLock::new(),
            #[cfg(feature = "mongodb")]
            declared: std::sync::Mutex::default(),
        }));
        metrics.declare(&Operation::new(name));
        metrics
    }

    /// Creates the placeholder of names that are not registered yet. It is never exported.
    pub(super) fn placeholder(inner: &'static Inner) -> &'static Self {
        Box::leak(Box::new(Self {
            name: UNMATCHED,
            method: "",
            rest: UNMATCHED,
            recorder: &inner.recorder,
            is_placeholder: true,
            attempts: Counter::noop(),
            concurrent: Gauge::noop(),
            durations: Outcome::ALL.map(|_| Histogram::noop()),
            failures: RwLock::default(),
            #[cfg(feature = "mongodb")]
            open: &inner.open,
            #[cfg(feature = "mongodb")]
            transaction_metrics: std::sync::OnceLock::new(),
            #[cfg(feature = "mongodb")]
            declared: std::sync::Mutex::default(),
        }))
    }

    pub(crate) fn is_placeholder(&self) -> bool {
        self.is_placeholder
    }

    /// Whether this is the operation's name, in one part or in two.
    pub(super) fn is_named(&self, name: OperationName<'_>) -> bool {
        if name.method.is_empty() {
            self.name == name.rest
        } else {
            self.rest == name.rest && self.method == name.method
        }
    }

    pub(super) fn declare(&self, operation: &Operation) {
        for reason in operation.rejection_reasons {
            let _ = self.failure(Outcome::Rejected, *reason);
        }
        for reason in operation.failure_reasons.iter().chain(&[Reason::OTHER]) {
            let _ = self.failure(Outcome::Failed, *reason);
        }
        let _ = self.failure(Outcome::Cancelled, Reason::CANCELLED);
        let _ = self.failure(Outcome::Panicked, Reason::PANIC);
        #[cfg(feature = "mongodb")]
        {
            let reasons = operation.rejection_reasons.iter().chain(operation.failure_reasons);
            let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
            declared.extend(reasons.copied());
            if let Some(transaction_metrics) = self.transaction_metrics.get() {
                transaction_metrics.declare(&declared);
            }
        }
    }

    /// Returns the metrics of the operation's transactions. Allocates only the first time.
    #[cfg(feature = "mongodb")]
    pub(crate) fn transaction_metrics(&'static self) -> &'static TransactionMetrics {
        self.transaction_metrics.get_or_init(|| {
            let transaction_metrics = TransactionMetrics::new(self.recorder, self.name, self.open);
            transaction_metrics.declare(&self.declared.lock().unwrap_or_else(PoisonError::into_inner));
            transaction_metrics
        })
    }

    pub(crate) fn duration(&self, outcome: Outcome) -> &Histogram {
        &self.durations[outcome as usize]
    }

    /// Returns the counter of one outcome and reason, registered the first time.
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
            let counter = self.recorder.counter(&TRANSACTION_FAILURES, labels);
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

/// The duration histogram of `unmatched` requests that succeed: the layer is where it cannot see route templates, and
/// every operation has the same name.
struct Unmatched {
    duration: Histogram,
    warned: Once,
}

impl HistogramFn for Unmatched {
    fn record(&self, value: f64) {
        self.duration.record(value);
        self.warned.call_once(|| {
            tracing::warn!(
                operation = UNMATCHED,
                "requests without a matched route succeed and are all counted as one operation: put the TransactionLayer inside \
                 of the router (Router::layer), use axum 0.8, whose MatchedPath it reads, or name the operations with \
                 TransactionLayer::name_operations"
            );
        });
    }
}
