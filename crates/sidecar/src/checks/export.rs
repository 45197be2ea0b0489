//! Export of the check results.
//!
//! The labels of a check are its own name and the name of the replica set. If two deployments have the same
//! name, or two URIs lead to one deployment, they share series, and the higher value is exported: Prometheus
//! rejects a page with duplicate series, and a violation must not be hidden.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use txnscope_catalog as catalog;
use txnscope_checks::Reason;

use super::results::{CheckEntry, CheckHistory, CheckResults};
use crate::export::FamilyBuilder;
use crate::snapshot::Snapshot;

/// Results are no longer exported after this many intervals without a successful run.
const STALE_AFTER: u32 = 3;

/// The check results of one deployment, with the state that knows the name of its replica set.
#[derive(Debug, Clone)]
pub(crate) struct DeploymentCheckResults {
    pub(crate) results: CheckResults,
    pub(crate) snapshot: Snapshot,
}

/// Adds the check results to the metric families.
pub(crate) fn export_checks(families: &mut FamilyBuilder, results: &[DeploymentCheckResults], now: Instant) {
    let mut namesakes: BTreeMap<(String, &str), Vec<&Arc<CheckEntry>>> = BTreeMap::new();
    for DeploymentCheckResults { results, snapshot } in results {
        let rs = snapshot.rs();
        for entry in results.entries() {
            namesakes.entry((rs.clone(), &entry.check.name)).or_default().push(entry);
        }
    }
    for ((rs, _), entries) in namesakes {
        export_check(families, &rs, &entries, now);
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
fn export_check(families: &mut FamilyBuilder, rs: &str, entries: &[&Arc<CheckEntry>], now: Instant) {
    let Some(check) = entries.first().map(|entry| &entry.check) else { return };
    let histories: Vec<CheckHistory> = entries.iter().map(|entry| entry.history()).collect();
    let check_labels = [rs, check.name.as_str()];
    families.number(&catalog::MONGODB_CONSISTENCY_INTERVAL, &check_labels, check.interval.as_secs_f64());
    let last = histories.iter().map(|history| history.success.map_or(0.0, |success| success.unix));
    families.number(
        &catalog::MONGODB_CONSISTENCY_LAST_SUCCESS,
        &check_labels,
        last.fold(f64::INFINITY, f64::min),
    );
    if let Some(took) = histories.iter().filter_map(|history| history.took).max() {
        families.number(&catalog::MONGODB_CONSISTENCY_CHECK_DURATION, &check_labels, took.as_secs_f64());
    }
    for reason in Reason::ALL {
        let failures: u64 = histories.iter().map(|history| history.failures[reason as usize]).sum();
        let labels = [rs, check.name.as_str(), reason.as_str()];
        families.number(&catalog::MONGODB_CONSISTENCY_CHECK_ERRORS, &labels, failures as f64);
    }
    let fresh = histories.iter().filter_map(|history| history.success);
    let limit = check.interval * STALE_AFTER;
    let fresh: Vec<_> = fresh.filter(|success| now.saturating_duration_since(success.at) <= limit).collect();
    let Some(violations) = fresh.iter().map(|success| success.violations).max() else { return };
    // No zero is exported while one of the results is missing.
    if violations > 0 || fresh.len() == histories.len() {
        let labels = [rs, check.name.as_str(), check.severity.as_str()];
        families.number(&catalog::MONGODB_CONSISTENCY_VIOLATIONS, &labels, violations as f64);
        let documents = fresh.iter().map(|success| success.documents).max().unwrap_or_default();
        families.number(&catalog::MONGODB_CONSISTENCY_DOCUMENTS_EXAMINED, &check_labels, documents as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;
    use testkit::Scrape;
    use txnscope_checks::{CheckResult, Checks, Failure, Report};

    use super::*;
    use crate::export;
    use crate::store::MetricStore;

    const FILE: &str = r#"
        [[check]]
        name = "balance"
        severity = "critical"
        database = "d"
        collection = "c"
        interval = "10s"
        forbid = '{}'
    "#;
    const SECOND: Duration = Duration::from_secs(1);

    fn checks(text: &str) -> Checks {
        Checks::parse(text).unwrap()
    }

    fn results_in_store() -> (CheckResults, MetricStore) {
        let results = CheckResults::new(&checks(FILE), &CheckResults::default());
        let store = MetricStore::default();
        store.set_check_results(vec![of_deployment(&results)]);
        (results, store)
    }

    fn of_deployment(results: &CheckResults) -> DeploymentCheckResults {
        DeploymentCheckResults { results: results.clone(), snapshot: Snapshot::default() }
    }

    fn violations(store: &MetricStore) -> Option<f64> {
        let labels = [("check", "balance"), ("severity", "critical")];
        scrape(store).value("mongodb_consistency_violations", &labels)
    }

    fn scrape(store: &MetricStore) -> Scrape {
        let families = export::families(store);
        Scrape::parse(&TextEncoder::new().encode_to_string(&families).unwrap()).unwrap()
    }

    fn found(count: u64) -> Report {
        let result = match count {
            0 => CheckResult::Clean { documents: 7 },
            count => CheckResult::Violated { count, sample: Vec::new(), documents: 7 },
        };
        Report::new(result, SECOND)
    }

    fn failed(reason: Reason) -> Report {
        Report::failed(Failure::new(reason, "no"), SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn check_without_a_run_exports_no_violations_and_zero_errors() {
        let (results, store) = results_in_store();
        let errors = |store: &MetricStore, reason| {
            let labels = [("check", "balance"), ("reason", reason)];
            scrape(store).value("mongodb_consistency_check_errors_total", &labels)
        };
        assert_eq!(violations(&store), None);
        assert_eq!(errors(&store, "timeout"), Some(0.0));
        let last = "mongodb_consistency_last_success_timestamp_seconds";
        assert_eq!(scrape(&store).value(last, &[]), Some(0.0), "time() less this is older than any interval");
        results.entries()[0].record("rs0", &failed(Reason::Timeout));
        assert_eq!(violations(&store), None);
        assert_eq!((errors(&store, "timeout"), errors(&store, "network")), (Some(1.0), Some(0.0)));
        assert_eq!(scrape(&store).value(last, &[]), Some(0.0));
        results.entries()[0].record("rs0", &found(0));
        assert_eq!(violations(&store), Some(0.0));
        assert!(scrape(&store).value(last, &[]) > Some(1e9));
    }

    #[tokio::test(start_paused = true)]
    async fn violations_of_a_failing_check_are_stale_after_three_intervals() {
        let (results, store) = results_in_store();
        results.entries()[0].record("rs0", &found(3));
        assert_eq!(violations(&store), Some(3.0));
        for _ in 0..3 {
            tokio::time::advance(10 * SECOND).await;
            results.entries()[0].record("rs0", &failed(Reason::Network));
            assert_eq!(violations(&store), Some(3.0));
        }
        tokio::time::advance(SECOND).await;
        assert_eq!(violations(&store), None);
        assert_eq!(scrape(&store).value("mongodb_consistency_documents_examined", &[]), None);
        assert_eq!(scrape(&store).value("mongodb_consistency_interval_seconds", &[]), Some(10.0));
    }

    #[tokio::test(start_paused = true)]
    async fn checks_with_equal_labels_export_the_higher_value_once() {
        let (first, store) = results_in_store();
        let second = CheckResults::new(&checks(FILE), &CheckResults::default());
        store.set_check_results(vec![of_deployment(&first), of_deployment(&second)]);
        first.entries()[0].record("rs0", &found(0));
        assert_eq!(violations(&store), None, "of the second nothing is known");
        second.entries()[0].record("rs0", &found(2));
        assert_eq!(violations(&store), Some(2.0));
        tokio::time::advance(31 * SECOND).await;
        first.entries()[0].record("rs0", &found(3));
        second.entries()[0].record("rs0", &failed(Reason::Network));
        assert_eq!(
            violations(&store),
            Some(3.0),
            "violations are exported although the other result is missing"
        );
        let series = scrape(&store);
        assert_eq!(series.matching("mongodb_consistency_violations", &[]).count(), 1);
        let errors = [("check", "balance"), ("reason", "network")];
        assert_eq!(series.value("mongodb_consistency_check_errors_total", &errors), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn results_of_an_unchanged_check_survive_a_reload() {
        let (before, store) = results_in_store();
        before.entries()[0].record("rs0", &found(3));
        let more = format!("{FILE}{}", FILE.replace("\"balance\"", "\"other\""));
        store.set_check_results(vec![of_deployment(&CheckResults::new(&checks(&more), &before))]);
        assert_eq!(violations(&store), Some(3.0));
        let changed = FILE.replace("'{}'", "'{ \"a\": 1 }'");
        store.set_check_results(vec![of_deployment(&CheckResults::new(&checks(&changed), &before))]);
        assert_eq!(violations(&store), None, "the changed check has not run yet");
    }
}
