//! Whether the metrics are monitored: Prometheus and its rules, Alertmanager, Grafana.

use std::collections::BTreeSet;

use serde_json::Value;
use txnscope_catalog as catalog;

use super::finding::{Finding, Status};
use super::labels;
use crate::client::services::prometheus::{Prometheus, Sample, data, plain};
use crate::client::services::{ServiceClient, ServiceError};

const PROMETHEUS: &str = "Prometheus";
const BACKEND: &str = "backend scraped";
const SIDECAR: &str = "sidecar scraped";
const RULES: &str = "alert rules";
const NOTIFIED: &str = "Prometheus notifies";
const ALERTMANAGER: &str = "Alertmanager";
const DASHBOARDS: &str = "dashboards";

/// The ids of the dashboards in Grafana.
const UIDS: &[&str] =
    &["txnscope-overview", "txnscope-operation", "txnscope-server", "txnscope-consistency", "txnscope-self"];

/// The findings that Prometheus provides.
pub(crate) async fn prometheus(prometheus: &Prometheus) -> Vec<Finding> {
    let at = prometheus.0.display_address();
    let up = match prometheus.query("count(up)", None).await {
        Ok(up) => up,
        Err(error) => {
            let remediation = match error {
                ServiceError::Unauthorized(_) => {
                    "give a token with --prometheus.token-file or TXNSCOPE_PROMETHEUS_TOKEN"
                }
                _ => {
                    "check that it is running, and that --prometheus.url is the address of Prometheus itself"
                }
            };
            let skipped = [BACKEND, labels::METRICS, labels::CANCELLED, SIDECAR, RULES, NOTIFIED];
            let mut findings = vec![Finding::fail(PROMETHEUS, format!("{at}: {error}"), remediation)];
            findings.extend(skipped.map(|check| Finding::skip(check, "Prometheus does not respond")));
            return findings;
        }
    };
    let targets = up.first().map_or(0.0, |sample| sample.value);
    let backend = scraped(
        prometheus,
        BACKEND,
        &catalog::TRANSACTION_ATTEMPTS,
        "merge txnscope's metrics router into a backend in Rust, put `txnscope proxy` in front of any other, or export the metrics \
         yourself (docs/prom-client.md)",
    );
    let backend = match backend.await {
        // The series may still lack labels.
        passed if passed.status == Status::Pass => labels::present(prometheus, passed).await,
        failed => failed,
    };
    vec![
        Finding::pass(PROMETHEUS, format!("{at} responds, and scrapes {targets} targets")),
        backend,
        labels::families(prometheus).await,
        labels::cancelled(prometheus).await,
        labels::unmatched(prometheus).await,
        scraped(prometheus, SIDECAR, &catalog::TXNSCOPE_BUILD_INFO, "run `txnscope serve`").await,
        rules(prometheus).await,
        notified(prometheus).await,
    ]
}

/// Whether a job is scraped. Jobs are identified by their metrics, not by their names.
async fn scraped(
    prometheus: &Prometheus,
    check: &'static str,
    metric: &catalog::Metric,
    run: &str,
) -> Finding {
    let name = metric.name;
    let present = prometheus.query(&format!("count by (job, instance) ({name})"), None).await;
    let down = prometheus.query("up == 0", None).await;
    match (present, down) {
        (Ok(present), Ok(down)) if present.is_empty() => {
            let down: Vec<String> = down.iter().map(target_name).collect();
            let down = if down.is_empty() { String::new() } else { format!("; down: {}", down.join(", ")) };
            Finding::fail(
                check,
                format!("no series of {name}{down}"),
                format!(
                    "{run}, and add it to scrape_configs of Prometheus; its page /targets shows why a scrape fails"
                ),
            )
        }
        (Ok(present), Ok(_)) => {
            let targets: Vec<String> = present.iter().map(target_name).collect();
            Finding::pass(check, targets.join(", "))
        }
        (Err(error), _) | (_, Err(error)) => unknown(check, &error),
    }
}

fn target_name(sample: &Sample) -> String {
    let label = |name: &str| sample.labels.get(name).map_or("?", String::as_str);
    plain(&format!("{} at {}", label("job"), label("instance")))
}

pub(super) fn unknown(check: &'static str, error: &ServiceError) -> Finding {
    Finding::warn(check, format!("unknown: {error}"), "run preflight again; see the log of Prometheus")
}

/// The rules of txnscope, which are identified by the metrics in their expressions.
async fn rules(prometheus: &Prometheus) -> Finding {
    let response = match prometheus.0.json("/api/v1/rules", &[]).await {
        Ok(response) => response,
        Err(error) => return unknown(RULES, &error),
    };
    match data(&response) {
        Ok(data) => of_rules(data),
        Err(error) => unknown(RULES, &ServiceError::Malformed(error)),
    }
}

fn of_rules(data: &Value) -> Finding {
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rules: Vec<Value> = list(data, "groups").iter().flat_map(|group| list(group, "rules")).collect();
    // A recording rule over one of these metrics defines another name that alerts use.
    let mut names: BTreeSet<String> = catalog::METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    names.insert("txnscope".to_owned());
    let about = |rule: &Value, names: &BTreeSet<String>| {
        let query = text(rule, "query");
        names.iter().any(|name| query.contains(name.as_str()))
    };
    let recorded: BTreeSet<String> = rules
        .iter()
        .filter(|rule| text(rule, "type") == "recording" && about(rule, &names))
        .map(|rule| text(rule, "name"))
        .collect();
    names.extend(recorded);
    let alerts: Vec<&Value> =
        rules.iter().filter(|rule| text(rule, "type") == "alerting" && about(rule, &names)).collect();
    let broken: BTreeSet<String> = rules
        .iter()
        .filter(|rule| about(rule, &names) && text(rule, "health") == "err")
        .map(|rule| plain(&format!("{}: {}", text(rule, "name"), text(rule, "lastError"))))
        .collect();
    if alerts.is_empty() {
        return Finding::fail(
            RULES,
            format!("none of {} rules alerts on txnscope's metrics", rules.len()),
            "load the files of alerts/rules with rule_files in prometheus.yml, and reload Prometheus",
        );
    }
    if !broken.is_empty() {
        let broken: Vec<String> = broken.into_iter().collect();
        return Finding::fail(RULES, broken.join("; "), "fix these rules; `promtool check rules` helps");
    }
    let firing: BTreeSet<String> = alerts
        .iter()
        .filter(|rule| text(rule, "state") == "firing" && text(rule, "name") != "Watchdog")
        .map(|rule| plain(&text(rule, "name")))
        .collect();
    let evidence = format!("{} alert on txnscope's metrics", alerts.len());
    if firing.is_empty() {
        return Finding::pass(RULES, evidence);
    }
    let firing: Vec<String> = firing.into_iter().collect();
    Finding::warn(
        RULES,
        format!("{evidence}; firing now: {}", firing.join(", ")),
        "resolve these alerts before you deploy",
    )
}

async fn notified(prometheus: &Prometheus) -> Finding {
    let response = match prometheus.0.json("/api/v1/alertmanagers", &[]).await {
        Ok(response) => response,
        Err(error) => return unknown(NOTIFIED, &error),
    };
    of_alertmanagers(&response)
}

fn of_alertmanagers(response: &Value) -> Finding {
    let active = data(response).ok().and_then(|data| data.get("activeAlertmanagers")?.as_array());
    let urls = active.into_iter().flatten().filter_map(|one| one.get("url")?.as_str()).map(plain);
    let urls: Vec<String> = urls.collect();
    if urls.is_empty() {
        Finding::fail(
            NOTIFIED,
            "no Alertmanager is configured: alerts fire without notifications",
            "add it to alerting.alertmanagers in prometheus.yml",
        )
    } else {
        Finding::pass(NOTIFIED, urls.join(", "))
    }
}

pub(crate) async fn alertmanager(service: &ServiceClient) -> Finding {
    let at = service.display_address();
    match service.json("/api/v2/status", &[]).await {
        Ok(status) => of_status(&at, &status),
        Err(error) => Finding::fail(
            ALERTMANAGER,
            format!("{at}: {error}"),
            "check that it is running, and that --alertmanager.url is the address of Alertmanager itself",
        ),
    }
}

fn of_status(at: &str, status: &Value) -> Finding {
    match status.pointer("/versionInfo/version").and_then(Value::as_str) {
        Some(version) => Finding::pass(ALERTMANAGER, format!("{at} responds, version {}", plain(version))),
        None => Finding::fail(
            ALERTMANAGER,
            format!("{at}: this is not Alertmanager"),
            "correct --alertmanager.url",
        ),
    }
}

/// The findings from a response of any of the three services.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn findings_of(response: &Value) -> Vec<Finding> {
    vec![of_rules(response), of_alertmanagers(response), of_status("here", response)]
}

pub(crate) async fn dashboards(service: &ServiceClient) -> Finding {
    let at = service.display_address();
    let (mut missing, mut found) = (Vec::new(), 0);
    for uid in UIDS {
        match service.json(&format!("/api/dashboards/uid/{uid}"), &[]).await {
            Ok(response) if response.pointer("/dashboard/uid").and_then(Value::as_str) == Some(uid) => {
                found += 1
            }
            Ok(_) => {
                return Finding::fail(
                    DASHBOARDS,
                    format!("{at}: this is not Grafana"),
                    "correct --grafana.url",
                );
            }
            Err(ServiceError::Missing) => missing.push(*uid),
            Err(error) => {
                return Finding::fail(
                    DASHBOARDS,
                    format!("{at}: {error}"),
                    "check that it is running, and that the token is that of a service account that may read dashboards",
                );
            }
        }
    }
    if missing.is_empty() {
        return Finding::pass(DASHBOARDS, format!("all {found} exist"));
    }
    Finding::fail(
        DASHBOARDS,
        format!("missing: {}", missing.join(", ")),
        "provision the folder dashboards/, or import its files",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(kind: &str, name: &str, query: &str, health: &str, state: &str) -> Value {
        json!({"type": kind, "name": name, "query": query, "health": health, "state": state, "lastError": "no"})
    }

    fn finding(rules: &[Value]) -> Finding {
        of_rules(&json!({"groups": [{"name": "g", "rules": rules}]}))
    }

    #[test]
    fn rules_are_identified_by_metrics_directly_or_through_recording_rules() {
        let foreign = rule("alerting", "NodeDown", "up == 0", "ok", "inactive");
        assert_eq!(finding(std::slice::from_ref(&foreign)).status, Status::Fail);
        let recorded = rule("recording", "job:tx:ratio", "rate(transaction_attempts_total[5m])", "ok", "");
        let alert = rule("alerting", "Burn", "job:tx:ratio > 1", "ok", "inactive");
        assert_eq!(finding(&[foreign.clone(), recorded.clone(), alert.clone()]).status, Status::Pass);
        let firing = rule("alerting", "Burn", "job:tx:ratio > 1", "ok", "firing");
        assert_eq!(finding(&[recorded.clone(), firing]).status, Status::Warn);
        let broken = rule("recording", "job:tx:ratio", "rate(transaction_attempts_total[5m])", "err", "");
        assert_eq!(finding(&[broken, recorded, alert]).status, Status::Fail);
        assert_eq!(of_rules(&json!(7)).status, Status::Fail);
    }
}
