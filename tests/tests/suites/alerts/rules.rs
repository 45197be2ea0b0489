//! The rules and their own tests.

use std::collections::BTreeSet;

use end_to_end::promql;

use super::files::{alert_names, alerts, files, folder, read, recorded, rules, scenarios};

#[tokio::test]
async fn prometheus_accepts_the_rules_and_their_tests_hold() {
    testkit::promtool::check_rules(&files("rules", "yml")).await.unwrap();
    testkit::promtool::test_rules(&files("tests", "yml")).await.unwrap();
}

#[test]
fn every_alert_has_firing_and_quiet_tests() {
    let mut fired = BTreeSet::new();
    let mut nearly = BTreeSet::new();
    for (file, expectations) in scenarios() {
        for expectation in &expectations {
            if expectation.exp_alerts.is_empty() {
                // The healthy scenario triggers no alert and covers none.
                if file != "quiet" {
                    nearly.insert(expectation.alertname.clone());
                }
                continue;
            }
            fired.insert(expectation.alertname.clone());
            for alert in &expectation.exp_alerts {
                let texts = alert.exp_annotations.values().chain(alert.exp_labels.values());
                for text in texts {
                    assert!(!text.contains("<no value>"), "{}: {text}", expectation.alertname);
                }
                assert!(alert.exp_labels.contains_key("severity"), "{}", expectation.alertname);
            }
        }
    }
    assert_eq!(fired, alert_names());
    let but_the_watchdog: BTreeSet<_> =
        alert_names().into_iter().filter(|name| name != "TxnscopeWatchdog").collect();
    assert_eq!(nearly, but_the_watchdog);
}

#[test]
fn no_alert_fires_on_harmless_events() {
    let quiet: Vec<_> = scenarios().into_iter().filter(|(file, _)| file == "quiet").collect();
    assert!(quiet.len() >= 8, "{} scenarios", quiet.len());
    for (_, expectations) in quiet {
        assert!(expectations.iter().all(|expectation| expectation.exp_alerts.is_empty()));
        let mut looked_at: BTreeSet<_> =
            expectations.into_iter().map(|expectation| expectation.alertname).collect();
        looked_at.insert("TxnscopeWatchdog".to_owned());
        assert_eq!(looked_at, alert_names(), "each scenario looks at every alert");
    }
}

#[test]
fn rules_query_only_exported_or_recorded_metrics() {
    let recorded = recorded();
    let mut used = BTreeSet::new();
    for rule in rules() {
        let name = rule.record.or(rule.alert).unwrap();
        match promql::check(&rule.expr, &recorded) {
            Ok(uses) => used.extend(uses.recorded),
            Err(wrong) => panic!("{name}: {}\n{}", wrong.join("; "), rule.expr),
        }
    }
    // A number in the documentation must occur in a rule.
    let numbers = recorded.iter().filter(|name| name.starts_with("txnscope:"));
    let unread: Vec<_> = numbers.filter(|name| !used.contains(*name)).collect();
    assert_eq!(unread, ["txnscope:objective:latency_seconds"], "that one is a bucket; see the next test");
}

/// The boundary of a bucket is a label, so no recording rule can define it.
#[test]
fn latency_objective_bucket_is_consistent() {
    let is_objective = |name: &Option<String>| name.as_deref() == Some("txnscope:objective:latency_seconds");
    let objective = rules().into_iter().find(|rule| is_objective(&rule.record)).unwrap().expr;
    let seconds = objective.trim_start_matches("vector(").trim_end_matches(')').to_owned();
    let mut buckets = 0;
    for rule in rules().iter().filter(|rule| rule.expr.contains("transaction_duration_seconds_bucket{")) {
        for part in rule.expr.split("le=").skip(1) {
            // Prometheus 2 writes the boundary of a whole number as 1, and Prometheus 3 as 1.0.
            let both = format!(r#"~"{seconds}(\\.0)?""#);
            assert!(part.starts_with(&both), "{}", rule.expr);
            buckets += 1;
        }
    }
    assert!(buckets > 0);
    let milliseconds = seconds.parse::<f64>().unwrap() * 1e3;
    for alert in alerts().iter().filter(|alert| alert.alert.as_ref().unwrap().contains("Latency")) {
        let description = &alert.annotations["description"];
        assert!(description.contains(&format!("{milliseconds} ms")), "{description}");
    }
}

/// Every reason of the catalog belongs to the driver or the server, or is a decision of the application, which is
/// subtracted from the server's aborts.
#[test]
fn every_abort_reason_is_classified() {
    const DECISIONS: [&str; 7] = [
        "duplicate_key",
        "document_validation",
        "invalid_request",
        "application",
        "cancelled",
        "panic",
        "queue_full",
    ];
    let is_it = |name: &Option<String>| name.as_deref() == Some("cluster:transactions_decided:rate15m");
    let rule = rules().into_iter().find(|rule| is_it(&rule.record)).unwrap().expr;
    let others = rule.split("reason!~\"").nth(1).unwrap().split('"').next().unwrap();
    let named: BTreeSet<_> = others.split('|').chain(DECISIONS).collect();
    assert_eq!(named, txnscope_catalog::REASONS.iter().copied().collect());
    assert!(others.split('|').all(|reason| !DECISIONS.contains(&reason)));
}

#[test]
fn alerts_have_all_labels_and_annotations() {
    for alert in alerts() {
        let name = alert.alert.as_deref().unwrap();
        let annotation = |what: &str| {
            let text = alert.annotations.get(what).unwrap_or_else(|| panic!("{name} has no {what}"));
            assert!(!text.trim().is_empty(), "{name}: {what}");
            text
        };
        let (summary, description) = (annotation("summary"), annotation("description"));
        assert!(description.contains("$value"), "{name}: the description does not say the value");
        // The labels of the alert: those with which its tests fire, without those that only some of its series have.
        let of_it = |expectation: &super::files::Expectation| expectation.alertname == name;
        let expected = scenarios().into_iter().flat_map(|(_, expectations)| expectations);
        let seen: Vec<_> = expected.filter(of_it).flat_map(|expectation| expectation.exp_alerts).collect();
        for label in ["operation", "rs", "member", "check", "collector", "reason", "resource", "missing"] {
            if seen.iter().any(|alert| alert.exp_labels.contains_key(label)) {
                let named =
                    [summary, description].iter().all(|text| text.contains(&format!("$labels.{label}")));
                assert!(named, "{name}: summary and description must name the {label}");
            }
        }
        let runbook = annotation("runbook_url");
        assert!(runbook.ends_with(&format!("/alerts/runbooks/{name}.md")), "{name}: {runbook}");
        let dashboard = annotation("dashboard_url");
        let uid =
            dashboard.strip_prefix("https://grafana.example.com/d/").unwrap_or_else(|| panic!("{dashboard}"));
        let uid = uid.split('?').next().unwrap();
        let uids = ["overview", "operation", "server", "consistency", "self"];
        assert!(uids.iter().any(|known| uid == format!("txnscope-{known}")), "{name}: {uid}");
        let severity = alert.labels["severity"].as_str();
        assert!(["critical", "warning", "none", "{{ $labels.severity }}"].contains(&severity), "{name}");
        assert!(alert.labels.contains_key("component"), "{name}");
    }
}

#[test]
fn readme_lists_every_alert_and_threshold() {
    let readme = read(&folder().join("README.md"));
    for name in alert_names() {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
