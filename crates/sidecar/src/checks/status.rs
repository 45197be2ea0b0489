//! The results of the checks, for the live page.

use serde::Serialize;

use super::export::DeploymentCheckResults;

/// One check on one deployment.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct CheckStatus {
    /// Empty while it is unknown.
    replica_set: String,
    check: String,
    severity: &'static str,
    interval_seconds: f64,
    /// Of the last run that succeeded.
    violations: Option<u64>,
    documents_examined: Option<u64>,
    /// Seconds since 1970.
    last_success: Option<f64>,
    /// Why the last run has failed.
    failure: Option<&'static str>,
}

/// The checks of all deployments. The documents and the server's messages are left out: they may be confidential.
pub(crate) fn statuses(results: &[DeploymentCheckResults]) -> Vec<CheckStatus> {
    let of_deployment = |DeploymentCheckResults { results, snapshot }: &DeploymentCheckResults| {
        let rs = snapshot.rs();
        let status = |entry: &std::sync::Arc<super::results::CheckEntry>| {
            let history = entry.history();
            CheckStatus {
                replica_set: rs.clone(),
                check: entry.check.name.clone(),
                severity: entry.check.severity.as_str(),
                interval_seconds: entry.check.interval.as_secs_f64(),
                violations: history.success.map(|success| success.violations),
                documents_examined: history.success.map(|success| success.documents),
                last_success: history.success.map(|success| success.unix),
                failure: history.failure().map(txnscope_checks::Reason::as_str),
            }
        };
        results.entries().iter().map(status).collect::<Vec<_>>()
    };
    results.iter().flat_map(of_deployment).collect()
}
