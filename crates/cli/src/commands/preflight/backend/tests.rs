//! Each rule of the contract on a page that breaks only this rule.

use txnscope_catalog as catalog;

use crate::commands::preflight::backend::findings;
use crate::commands::preflight::finding::Status;

const OPERATION: &str = "POST /api/retainers/{id}/consume";

/// A page that keeps the contract.
fn page() -> String {
    let mut page = String::new();
    for metric in catalog::METRICS
        .iter()
        .filter(|metric| metric.name.starts_with("transaction_") || metric.name.starts_with("concurrent"))
    {
        page += &format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
    }
    page += &format!("transaction_attempts_total{{operation=\"{OPERATION}\"}} 7\n");
    page += &format!("concurrent_operations{{operation=\"{OPERATION}\"}} 1\n");
    for (outcome, reason, count) in [
        ("succeeded", "", 3),
        ("rejected", "insufficient_balance", 2),
        ("failed", "other", 1),
        ("cancelled", "cancelled", 0),
    ] {
        let labels = format!("operation=\"{OPERATION}\",outcome=\"{outcome}\"");
        for bound in catalog::TRANSACTION_DURATION.buckets {
            page += &format!("transaction_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n");
        }
        page += &format!("transaction_duration_seconds_count{{{labels}}} {count}\n");
        if outcome != "succeeded" {
            page += &format!("transaction_failures_total{{{labels},reason=\"{reason}\"}} {count}\n");
        }
    }
    for (name, count) in [("started", 5), ("committed", 3), ("aborted", 1), ("unknown", 0)] {
        page += &format!(
            "mongodb_client_transactions_{name}_total{{operation=\"{OPERATION}\",reason=\"other\"}} {count}\n"
        )
        .replace(",reason=\"other\"", if name == "aborted" { ",reason=\"other\"" } else { "" });
    }
    page + &format!("mongodb_client_transactions_open{{operation=\"{OPERATION}\"}} 1\n")
}

#[test]
fn page_that_keeps_the_contract_passes() {
    let findings = findings("here", &page());
    assert!(findings.len() == 9 && findings.iter().all(|one| one.status == Status::Pass), "{findings:#?}");
}

#[test]
fn each_broken_rule_is_found_and_named() {
    for (from, to, check, evidence) in [
        (
            "transaction_attempts_total",
            "transactions_attempts_total",
            "metric names",
            "did you mean transaction_attempts_total?",
        ),
        (
            "# TYPE transaction_failures_total counter",
            "# TYPE transaction_failures_total gauge",
            "metric names",
            "must be a counter",
        ),
        ("le=\"0.25\"", "le=\"0.3\"", "metric names", "has no bucket 0.25"),
        (
            "outcome=\"failed\",reason=\"other\"",
            "reason=\"other\"",
            "metric labels",
            "transaction_failures_total has no outcome",
        ),
        (
            OPERATION,
            "POST /api/retainers/65a0b0c0d0e0f00102030405/consume",
            "operations",
            "65a0b0c0d0e0f00102030405",
        ),
        (
            "outcome=\"succeeded\"",
            "outcome=\"success\"",
            "outcomes",
            "success in transaction_duration_seconds",
        ),
        ("insufficient_balance", "Insufficient balance: 3", "reasons", "Insufficient balance: 3"),
        ("\"cancelled\"", "\"panicked\"", "series from the start", "cancelled of POST"),
        (
            "total{operation=\"POST /api/retainers/{id}/consume\"} 7",
            "total{operation=\"POST /api/retainers/{id}/consume\"} 8",
            "operation counters",
            "8 admitted, 6 ended, 1 in flight",
        ),
        (
            "reason=\"insufficient_balance\"} 2",
            "reason=\"insufficient_balance\"} 1",
            "operation counters",
            "2 ended rejected, and 1 are counted",
        ),
        (
            "mongodb_client_transactions_unknown_total",
            "other_total",
            "driver counters",
            "missing beside mongodb_client_transactions_started_total: mongodb_client_transactions_unknown_total",
        ),
        (
            "mongodb_client_transactions_started_total{operation=\"POST /api/retainers/{id}/consume\"} 5",
            "mongodb_client_transactions_started_total{operation=\"POST /api/retainers/{id}/consume\"} 6",
            "driver counters",
            "6 started",
        ),
    ] {
        let broken = page().replace(from, to);
        assert_ne!(broken, page(), "{from}");
        let findings = findings("here", &broken);
        let found = findings.iter().find(|one| one.check == check).unwrap();
        assert!(
            found.status == Status::Fail && found.evidence.contains(evidence),
            "{from} → {to}: {findings:#?}"
        );
        assert!(found.remediation.is_some());
    }
}

#[test]
fn labels_of_the_backends_own_are_a_warning() {
    let findings =
        findings("here", &page().replace("concurrent_operations{", "concurrent_operations{tenant=\"7\","));
    let found = findings.iter().find(|one| one.check == "metric labels").unwrap();
    assert!(found.status == Status::Warn && found.evidence.contains("has tenant"), "{found:?}");
}

#[test]
fn page_that_is_not_prometheus_text_fails() {
    for (text, evidence) in
        [("<html>", "line 1 is no series"), ("", "no series"), ("# TYPE a counter\n", "no series")]
    {
        let findings = findings("here", text);
        assert!(findings.len() == 1 && findings[0].status == Status::Fail, "{findings:?}");
        assert!(findings[0].evidence.contains(evidence), "{findings:?}");
    }
}

#[test]
fn foreign_text_is_escaped() {
    let page = page().replace("insufficient_balance", "\u{1b}[31mred").replace(OPERATION, "GET /\u{1b}[2J/7");
    assert!(findings("here", &page).iter().all(|one| !one.evidence.contains('\u{1b}')));
}
