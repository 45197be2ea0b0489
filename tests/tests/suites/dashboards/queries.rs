//! The queries of the dashboards: Prometheus accepts them, they use existing metrics, and every metric has a panel.

use std::collections::BTreeSet;

use end_to_end::promql;
use txnscope_catalog::{METRICS, Presence, Stability};

use super::page::{Page, list, pages, text};

/// The recording rules of `alerts/`.
pub(crate) fn recorded() -> BTreeSet<String> {
    let rules = testkit::workspace().join("alerts/rules");
    let files = std::fs::read_dir(&rules).unwrap_or_else(|error| panic!("{}: {error}", rules.display()));
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
        names.extend(lines.filter_map(|line| Some(line.strip_prefix("record:")?.trim().to_owned())));
    }
    assert!(!names.is_empty(), "{} records nothing", rules.display());
    names
}

/// A query as Grafana sends it, with all values of all variables selected.
pub(crate) fn sent(query: &str, operation: &str, window: &str, range: &str) -> String {
    let mut sent = query.replace("$__rate_interval", window).replace("$__range", range);
    for name in ["job", "instance", "deployment", "rs", "sidecar", "member", "check"] {
        let all = if ["deployment", "rs"].contains(&name) { ".*" } else { ".+" };
        sent = sent.replace(&format!("=~\"${name}\""), &format!("=~\"{all}\""));
    }
    sent =
        sent.replace("=~\"$operation\"", "=~\".+\"").replace("=\"$operation\"", &format!("=\"{operation}\""));
    assert!(!sent.contains('$'), "{sent} has an unknown variable");
    sent
}

/// Every expression of a dashboard with its location: panels, annotations and variables.
fn expressions(page: &Page) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in page.panels() {
        found.extend(panel.queries().into_iter().map(|query| (panel.place.clone(), query.to_owned())));
    }
    for annotation in page.annotations() {
        let place = format!("{}: annotation {}", page.uid, text(&annotation["name"]));
        assert_eq!(annotation["expr"], annotation["target"]["expr"], "{place}");
        found.push((place, text(&annotation["expr"]).to_owned()));
    }
    for variable in page.variables().filter(|variable| variable["type"] == "query") {
        let place = format!("{}: variable {}", page.uid, text(&variable["name"]));
        let query = text(&variable["query"]["query"]);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) =
            inner.and_then(|inner| inner.rsplit_once(',')).unwrap_or_else(|| panic!("{place}"));
        // A label that the metric lacks would leave the variable empty.
        found.push((place, format!("count by ({}) ({selector})", label.trim())));
    }
    found
}

#[test]
fn dashboard_queries_use_exported_metrics_and_labels() {
    let recorded = recorded();
    let mut wrong = Vec::new();
    for page in pages() {
        for (place, query) in expressions(&page) {
            if let Err(found) = promql::check(&sent(&query, "any", "5m", "1h"), &recorded) {
                wrong.extend(found.iter().map(|wrong| format!("{place}: {wrong}\n  {query}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every query must use the dashboard's variables, and no rate may have a fixed window.
#[test]
fn dashboard_queries_use_the_variables() {
    for page in pages() {
        for panel in page.panels() {
            for query in panel.queries() {
                let of_rules_alone = query.contains("txnscope:") && !query.contains('{');
                let of_alerts = query.contains("ALERTS{");
                assert!(query.contains("$") || of_rules_alone || of_alerts, "{}: {query}", panel.place);
                for window in query.split('[').skip(1).map(|rest| rest.split(']').next().unwrap()) {
                    // The error budget covers 30 days independent of the selected time range; it is computed from
                    // recording rules.
                    let of_budget = window == "30d" && query.contains("sum_over_time(job_operation:");
                    assert!(
                        of_budget || ["$__rate_interval", "$__range"].contains(&window),
                        "{}: [{window}]",
                        panel.place
                    );
                }
            }
        }
    }
}

#[test]
fn every_stable_metric_has_a_panel() {
    let recorded = recorded();
    let mut shown = BTreeSet::new();
    for page in pages() {
        for query in page.panels().iter().flat_map(|panel| panel.queries()) {
            shown.extend(promql::check(&sent(query, "any", "5m", "1h"), &recorded).unwrap().metrics);
        }
    }
    let stable = METRICS.iter().filter(|metric| metric.stability == Stability::Stable);
    let missing: Vec<_> = stable.map(|metric| metric.name).filter(|name| !shown.contains(*name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

/// A backend that counts with prom-client by itself: outcomes are unknown, and three in ten requests failed. No panel
/// may show that as success. The control is the same backend with outcomes.
#[tokio::test]
async fn success_ratio_is_absent_without_outcomes() {
    let series = |labels: &str, by: u32| serde_json::json!({"series": format!("transaction_duration_seconds_count{{job=\"shop\",instance=\"a\"{labels}}}"), "values": format!("0+{by}x120")});
    let bare = [
        series("", 100),
        serde_json::json!({"series": "transaction_failures_total{job=\"shop\",instance=\"a\"}", "values": "0+30x120"}),
        serde_json::json!({"series": "transaction_attempts_total{job=\"shop\",instance=\"a\"}", "values": "0+100x120"}),
    ];
    let of = |outcome: &str| format!(",operation=\"POST /pay\",outcome=\"{outcome}\"");
    let whole = [series(&of("succeeded"), 70), series(&of("failed"), 30), series(&of("cancelled"), 50)];
    let judged = |title: &str| ["Success ratio", "Remaining error budget", "Operations"].contains(&title);
    let mut asked = Vec::new();
    for page in pages() {
        for panel in page.panels().iter().filter(|panel| judged(text(&panel.json["title"]))) {
            for (at, query) in panel.queries().into_iter().enumerate() {
                // The columns of the table for failures and rejections.
                if panel.json["type"] != "table" || (1..=2).contains(&at) {
                    asked.push(sent(query, "POST /pay", "5m", "1h"));
                }
            }
        }
    }
    assert!(asked.len() >= 5, "{asked:#?}");
    // All operations of a job without operation names.
    let nothing = asked.iter().map(|query| query.replace("operation=~\".+\"", "operation=~\".*\""));
    let nothing: Vec<_> = nothing
        .map(|query| serde_json::json!({"expr": query.replace("operation=\"POST /pay\"", "operation=\"\""), "eval_time": "2h"}))
        .collect();
    let something: Vec<_> = asked
        .iter()
        .map(|query| serde_json::json!({"expr": format!("count({query})"), "eval_time": "2h", "exp_samples": [{"labels": "{}", "value": 1}]}))
        .collect();
    let ratio = asked.iter().find(|query| query.starts_with("1 - ") && !query.contains("scalar")).unwrap();
    let control = serde_json::json!({"expr": format!("round({ratio}, 0.01)"), "eval_time": "2h", "exp_samples": [{"labels": "{}", "value": 0.7}]});
    let objectives = testkit::workspace().join("alerts/rules/objectives.yml").to_string_lossy().into_owned();
    let file = serde_json::json!({"rule_files": [objectives], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": bare, "promql_expr_test": nothing},
        {"interval": "1m", "input_series": whole, "promql_expr_test": something},
        {"interval": "1m", "input_series": whole, "promql_expr_test": [control]},
    ]});
    let place = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    std::fs::write(place.path(), file.to_string()).unwrap();
    testkit::promtool::test_rules(&[place.path().to_owned()]).await.unwrap();
}

/// The reasons why a metric may be missing, and the words with which the title of its row must state the reason.
pub(crate) fn wants(presence: Presence) -> Option<&'static str> {
    match presence {
        Presence::Always => None,
        Presence::Server7 => Some("MongoDB 7.0"),
        Presence::Ingress => Some("MongoDB 8.2"),
        Presence::Mongos => Some("mongos"),
        Presence::OptionalCollector => Some("collector.profile and collector.slow_transactions"),
        Presence::Checks => Some("checks.file"),
        Presence::Backends => Some("collector.open_by_operation"),
    }
}

#[test]
fn panels_that_may_be_empty_state_their_requirement() {
    for page in pages() {
        for panel in page.panels() {
            for query in panel.queries() {
                let uses = promql::check(&sent(query, "any", "5m", "1h"), &recorded()).unwrap();
                for metric in uses.metrics.iter().filter_map(|name| txnscope_catalog::find(name)) {
                    let Some(words) = wants(metric.presence()) else { continue };
                    // The overview shows what exists; the dashboard about checks states it once at the top.
                    let first = list(&page.json["panels"]).next().unwrap();
                    let empty = text(&panel.json["fieldConfig"]["defaults"]["noValue"]);
                    let said = [&panel.row["title"], &panel.json["description"], &first["title"]];
                    let said = said.iter().any(|said| text(said).contains(words)) || !empty.is_empty();
                    assert!(said, "{} does not say that {} wants {words}", panel.place, metric.name);
                }
            }
        }
    }
}
