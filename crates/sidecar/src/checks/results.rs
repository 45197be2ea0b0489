//! Results of the checks of one deployment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use txnscope_checks::{Check, CheckResult, Checks, Reason, Report};

/// Shared by the task that runs the checks and by the scrapes.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckResults(Vec<Arc<CheckEntry>>);

/// A check and its results.
#[derive(Debug)]
pub(crate) struct CheckEntry {
    pub(super) check: Check,
    history: Mutex<CheckHistory>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CheckHistory {
    pub(super) success: Option<Success>,
    pub(super) took: Option<Duration>,
    pub(super) failures: [u64; Reason::ALL.len()],
    /// The last logged state, so that a state is logged when it begins, and not at every run.
    logged: Option<LoggedState>,
}

impl CheckHistory {
    /// Why the last run has failed, if it has.
    pub(super) fn failure(&self) -> Option<Reason> {
        match self.logged? {
            LoggedState::Failure(reason) => Some(reason),
            LoggedState::Violations(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Success {
    pub(super) at: Instant,
    /// Wall clock time, for Prometheus.
    pub(super) unix: f64,
    pub(super) violations: u64,
    pub(super) documents: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoggedState {
    Violations(u64),
    Failure(Reason),
}

impl CheckResults {
    /// Results for these checks. Those that `before` has for an unchanged check are kept: a reload does not
    /// remove a violation until the next run.
    pub(super) fn new(checks: &Checks, before: &Self) -> Self {
        let entry = |check: &Check| {
            let known = before.0.iter().find(|entry| entry.check == *check).map(Arc::clone);
            known.unwrap_or_else(|| Arc::new(CheckEntry { check: check.clone(), history: Mutex::default() }))
        };
        Self(checks.iter().map(entry).collect())
    }

    pub(super) fn entries(&self) -> &[Arc<CheckEntry>] {
        &self.0
    }
}

impl CheckEntry {
    pub(super) fn history(&self) -> CheckHistory {
        lock(&self.history).clone()
    }

    /// Records a run, and logs it if the state has changed. `rs` is for the log.
    pub(super) fn record(&self, rs: &str, report: &Report) {
        let mut history = lock(&self.history);
        history.took = Some(report.took);
        let logged = match &report.result {
            CheckResult::Clean { documents } => {
                history.success = Some(Success::now(0, *documents));
                LoggedState::Violations(0)
            }
            CheckResult::Violated { count, documents, .. } => {
                history.success = Some(Success::now(*count, *documents));
                LoggedState::Violations(*count)
            }
            CheckResult::Failed(failure) => {
                history.failures[failure.reason as usize] += 1;
                LoggedState::Failure(failure.reason)
            }
        };
        let before = history.logged.replace(logged);
        drop(history);
        if before != Some(logged) {
            self.log(rs, before, &report.result);
        }
    }

    fn log(&self, rs: &str, before: Option<LoggedState>, result: &CheckResult) {
        let (check, severity) = (self.check.name.as_str(), self.check.severity.as_str());
        match result {
            CheckResult::Clean { .. } if before.is_some() => {
                tracing::info!(rs, check, "the check is clean again")
            }
            CheckResult::Clean { .. } => {}
            // The documents are not logged: their contents may be confidential.
            CheckResult::Violated { count, .. } => tracing::error!(
                rs,
                check,
                severity,
                violations = count,
                "the check found violations; run `txnscope audit` for details"
            ),
            // Neither is the server's message, which may quote a document.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
