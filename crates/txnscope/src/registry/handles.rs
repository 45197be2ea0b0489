//! The metric handles of one operation.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram};
use txnscope_catalog::{
    CONCURRENT_OPERATIONS, TRANSACTION_ATTEMPTS, TRANSACTION_DURATION, TRANSACTION_FAILURES,
};

use super::Inner;
use super::sink::{Sink, label, operation};
#[cfg(feature = "mongodb")]
use crate::transaction::{Books, OpenTransactions};
use crate::{Operation, OperationName, Outcome, Reason};

/// The handles of one operation.
pub(crate) struct OperationMetrics {
    pub(crate) name: &'static str,
    /// The two parts of the name; without a method, the first is empty.
    method: &'static str,
    rest: &'static str,
    sink: &'static Sink,
    pub(crate) attempts: Counter,
    pub(crate) concurrent: Gauge,
    durations: [Histogram; Outcome::ALL.len()],
    failures: RwLock<Vec<(Outcome, Reason, Counter)>>,
    /// The table of open transactions that its own are in.
    #[cfg(feature = "mongodb")]
    open: &'static OpenTransactions,
    /// The driver's side, from the first transaction on.
    #[cfg(feature = "mongodb")]
    books: std::sync::OnceLock<Books>,
    /// The reasons of declared operations, for books that are opened later.
    #[cfg(feature = "mongodb")]
    declared: std::sync::Mutex<Vec<Reason>>,
}

impl OperationMetrics {
    pub(super) fn leak(inner: &'static Inner, name: String) -> &'static Self {
        let sink = &inner.recorder;
        let name: &'static str = name.leak();
        let OperationName { method, rest } = OperationName::named(name).canonical();
        let metrics: &'static Self = Box::leak(Box::new(Self {
            name,
            method,
            rest,
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
            #[cfg(feature = "mongodb")]
            open: &inner.open,
            #[cfg(feature = "mongodb")]
            books: std::sync::OnceLock::new(),
            #[cfg(feature = "mongodb")]
            declared: std::sync::Mutex::default(),
        }));
        metrics.declare(&Operation::new(name));
        metrics
    }

    /// Whether that is its name, in one part or in two.
    pub(super) fn is_named(&self, name: OperationName<'_>) -> bool {
        if name.method.is_empty() {
            self.name == name.rest
        } else {
            self.rest == name.rest && self.method == name.method
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
        #[cfg(feature = "mongodb")]
        {
            let reasons = operation.rejects.iter().chain(operation.fails);
            let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
            declared.extend(reasons.copied());
            if let Some(books) = self.books.get() {
                books.declare(&declared);
            }
        }
    }

    /// The driver's side of this operation. Allocates only the first time.
    #[cfg(feature = "mongodb")]
    pub(crate) fn books(&'static self) -> &'static Books {
        self.books.get_or_init(|| {
            let books = Books::open(self.sink, self.name, self.open);
            books.declare(&self.declared.lock().unwrap_or_else(PoisonError::into_inner));
            books
        })
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
