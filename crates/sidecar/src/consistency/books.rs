//! What the checks of one deployment have found.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use txnscope_checks::{Check, CheckResult, Checks, Reason, Report};

/// Shared by the task that runs the checks and the scrapes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books(Vec<Arc<Entry>>);

/// A check, and what is known of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(super) check: Check,
    record: Mutex<Record>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) success: Option<Success>,
    pub(super) took: Option<Duration>,
    pub(super) failures: [u64; Reason::ALL.len()],
    /// So that a state is logged when it begins, and not at every run.
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Success {
    pub(super) at: Instant,
    /// By the clock on the wall, for Prometheus.
    pub(super) unix: f64,
    pub(super) violations: u64,
    pub(super) documents: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Violations(u64),
    Failure(Reason),
}

impl Books {
    /// Books of these checks. What `before` knows of a check that is still the same goes on: a reload of the file
    /// does not make a violation vanish until the next run.
    pub(super) fn new(checks: &Checks, before: &Self) -> Self {
        let entry = |check: &Check| {
            let known = before.0.iter().find(|entry| entry.check == *check).map(Arc::clone);
            known.unwrap_or_else(|| Arc::new(Entry { check: check.clone(), record: Mutex::default() }))
        };
        Self(checks.iter().map(entry).collect())
    }

    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.0
    }
}

impl Entry {
    pub(super) fn record(&self) -> Record {
        locked(&self.record).clone()
    }

    /// Takes note of a run, and logs it where something has changed. `rs` is for the log.
    pub(super) fn note(&self, rs: &str, report: &Report) {
        let mut record = locked(&self.record);
        record.took = Some(report.took);
        let told = match &report.result {
            CheckResult::Clean { documents } => {
                record.success = Some(Success::now(0, *documents));
                Told::Violations(0)
            }
            CheckResult::Violated { count, documents, .. } => {
                record.success = Some(Success::now(*count, *documents));
                Told::Violations(*count)
            }
            CheckResult::Failed(failure) => {
                record.failures[failure.reason as usize] += 1;
                Told::Failure(failure.reason)
            }
        };
        let before = record.told.replace(told);
        drop(record);
        if before != Some(told) {
            self.tell(rs, before, &report.result);
        }
    }

    fn tell(&self, rs: &str, before: Option<Told>, verdict: &CheckResult) {
        let (check, severity) = (self.check.name.as_str(), self.check.severity.as_str());
        match verdict {
            CheckResult::Clean { .. } if before.is_some() => {
                tracing::info!(rs, check, "the check is clean again")
            }
            CheckResult::Clean { .. } => {}
            // Which documents they are may be nobody's business who reads the log.
            CheckResult::Violated { count, .. } => tracing::error!(
                rs,
                check,
                severity,
                violations = count,
                "the data is wrong; `txnscope audit` shows where"
            ),
            // Nor what the server says of it, which may quote a document.
            CheckResult::Failed(failure) => {
                let (reason, error) = (failure.reason.as_str(), failure.summary());
                tracing::warn!(rs, check, reason, error, "a check cannot run");
            }
        }
    }
}

impl Success {
    fn now(violations: u64, documents: u64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { at: Instant::now(), unix, violations, documents }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
