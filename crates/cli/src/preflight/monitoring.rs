//! Whether what is measured arrives: Prometheus and its rules, Alertmanager, Grafana.

use std::collections::BTreeSet;

use serde_json::Value;
use txnscope_catalog as catalog;

use super::finding::{Finding, Verdict};
use super::labels;
use crate::services::prometheus::{Prometheus, Sample, data, plain};
use crate::services::{Service, Trouble};

const PROMETHEUS: &str = "Prometheus";
const BACKEND: &str = "backend scraped";
const SIDECAR: &str = "sidecar scraped";
const RULES: &str = "alert rules";
const NOTIFIED: &str = "Prometheus notifies";
const ALERTMANAGER: &str = "Alertmanager";
const DASHBOARDS: &str = "dashboards";

/// The dashboards, by their ids in Grafana.
const UIDS: &[&str] =
    &["txnscope-overview", "txnscope-operation", "txnscope-server", "txnscope-consistency", "txnscope-self"];

/// All that Prometheus can tell.
pub(crate) async fn prometheus(prometheus: &Prometheus) -> Vec<Finding> {
    let at = prometheus.0.shown();
    let up = match prometheus.query("count(up)", None).await {
        Ok(up) => up,
        Err(trouble) => {
            let cure = match trouble {
                Trouble::Refused(_) => {
                    "give a token with --prometheus.token-file or TXNSCOPE_PROMETHEUS_TOKEN"
                }
                _ => "is it running, and is --prometheus.url the address of Prometheus itself?",
            };
            let skipped = [BACKEND, labels::METRICS, labels::CANCELLED, SIDECAR, RULES, NOTIFIED];
            let mut findings = vec![Finding::fail(PROMETHEUS, format!("{at}: {trouble}"), cure)];
            findings.extend(skipped.map(|check| Finding::skip(check, "Prometheus does not answer")));
            return findings;
        }
    };
    let targets = up.first().map_or(0.0, |sample| sample.value);
    let backend = scraped(
        prometheus,
        BACKEND,
        &catalog::TRANSACTION_ATTEMPTS,
        "merge txnscope's metrics router into the backend",
    );
    let backend = match backend.await {
        // What is scraped may be of no use.
        passed if passed.verdict == Verdict::Pass => labels::present(prometheus, passed).await,
        failed => failed,
    };
    vec![
        Finding::pass(PROMETHEUS, format!("{at} answers, and scrapes {targets} targets")),
        backend,
        labels::families(prometheus).await,
        labels::cancelled(prometheus).await,
        labels::unmatched(prometheus).await,
        scraped(prometheus, SIDECAR, &catalog::TXNSCOPE_BUILD_INFO, "run `txnscope serve`").await,
        rules(prometheus).await,
        notified(prometheus).await,
    ]
}

/// A job is known by what it exposes, not by its name.
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
            let down: Vec<String> = down.iter().map(shown).collect();
            let down = if down.is_empty() { String::new() } else { format!("; down: {}", down.join(", ")) };
            Finding::fail(
                check,
                format!("no series of {name}{down}"),
                format!(
                    "{run}, and name it in Prometheus's scrape_configs; GET /targets says why a scrape fails"
                ),
            )
        }
        (Ok(present), Ok(_)) => {
            let who: Vec<String> = present.iter().map(shown).collect();
            Finding::pass(check, who.join(", "))
        }
        (Err(trouble), _) | (_, Err(trouble)) => unknown(check, &trouble),
    }
}

fn shown(sample: &Sample) -> String {
    let label = |name: &str| sample.labels.get(name).map_or("?", String::as_str);
    plain(&format!("{} at {}", label("job"), label("instance")))
}

pub(super) fn unknown(check: &'static str, trouble: &Trouble) -> Finding {
    Finding::warn(check, format!("not known: {trouble}"), "run it again; see Prometheus's log")
}

/// Ours are known by the metrics that they look at.
async fn rules(prometheus: &Prometheus) -> Finding {
    let answer = match prometheus.0.json("/api/v1/rules", &[]).await {
        Ok(answer) => answer,
        Err(trouble) => return unknown(RULES, &trouble),
    };
    match data(&answer) {
        Ok(data) => of_rules(data),
        Err(error) => unknown(RULES, &Trouble::Malformed(error)),
    }
}

fn of_rules(data: &Value) -> Finding {
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rules: Vec<Value> = list(data, "groups").iter().flat_map(|group| list(group, "rules")).collect();
    // A rule over one of our metrics records what other rules look at.
    let mut ours: BTreeSet<String> = catalog::METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    ours.insert("txnscope".to_owned());
    let about = |rule: &Value, ours: &BTreeSet<String>| {
        let query = text(rule, "query");
        ours.iter().any(|name| query.contains(name.as_str()))
    };
    let recorded: BTreeSet<String> = rules
        .iter()
        .filter(|rule| text(rule, "type") == "recording" && about(rule, &ours))
        .map(|rule| text(rule, "name"))
        .collect();
    ours.extend(recorded);
    let alerts: Vec<&Value> =
        rules.iter().filter(|rule| text(rule, "type") == "alerting" && about(rule, &ours)).collect();
    let broken: BTreeSet<String> = rules
        .iter()
        .filter(|rule| about(rule, &ours) && text(rule, "health") == "err")
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
        return Finding::fail(RULES, broken.join("; "), "mend these rules; `promtool check rules` helps");
    }
    let firing: BTreeSet<String> = alerts
        .iter()
        .filter(|rule| text(rule, "state") == "firing" && text(rule, "name") != "Watchdog")
        .map(|rule| plain(&text(rule, "name")))
        .collect();
    let shown = format!("{} alert on txnscope's metrics", alerts.len());
    if firing.is_empty() {
        return Finding::pass(RULES, shown);
    }
    let firing: Vec<String> = firing.into_iter().collect();
    Finding::warn(
        RULES,
        format!("{shown}; firing now: {}", firing.join(", ")),
        "see what they say before you deploy on top of it",
    )
}

async fn notified(prometheus: &Prometheus) -> Finding {
    let answer = match prometheus.0.json("/api/v1/alertmanagers", &[]).await {
        Ok(answer) => answer,
        Err(trouble) => return unknown(NOTIFIED, &trouble),
    };
    of_alertmanagers(&answer)
}

fn of_alertmanagers(answer: &Value) -> Finding {
    let active = data(answer).ok().and_then(|data| data.get("activeAlertmanagers")?.as_array());
    let urls = active.into_iter().flatten().filter_map(|one| one.get("url")?.as_str()).map(plain);
    let urls: Vec<String> = urls.collect();
    if urls.is_empty() {
        Finding::fail(
            NOTIFIED,
            "it knows no Alertmanager: alerts fire, and nobody hears of them",
            "name it under alerting.alertmanagers in prometheus.yml",
        )
    } else {
        Finding::pass(NOTIFIED, urls.join(", "))
    }
}

pub(crate) async fn alertmanager(service: &Service) -> Finding {
    let at = service.shown();
    match service.json("/api/v2/status", &[]).await {
        Ok(status) => of_status(&at, &status),
        Err(trouble) => Finding::fail(
            ALERTMANAGER,
            format!("{at}: {trouble}"),
            "is it running, and is --alertmanager.url the address of Alertmanager itself?",
        ),
    }
}

fn of_status(at: &str, status: &Value) -> Finding {
    match status.pointer("/versionInfo/version").and_then(Value::as_str) {
        Some(version) => Finding::pass(ALERTMANAGER, format!("{at} answers, version {}", plain(version))),
        None => {
            Finding::fail(ALERTMANAGER, format!("{at}: this is no Alertmanager"), "mend --alertmanager.url")
        }
    }
}

/// What any of the three may answer, as each question reads it.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read(answer: &Value) -> Vec<Finding> {
    vec![of_rules(answer), of_alertmanagers(answer), of_status("here", answer)]
}

pub(crate) async fn dashboards(service: &Service) -> Finding {
    let at = service.shown();
    let (mut missing, mut there) = (Vec::new(), 0);
    for uid in UIDS {
        match service.json(&format!("/api/dashboards/uid/{uid}"), &[]).await {
            Ok(answer) if answer.pointer("/dashboard/uid").and_then(Value::as_str) == Some(uid) => there += 1,
            Ok(_) => {
                return Finding::fail(DASHBOARDS, format!("{at}: this is no Grafana"), "mend --grafana.url");
            }
            Err(Trouble::Missing) => missing.push(*uid),
            Err(trouble) => {
                return Finding::fail(
                    DASHBOARDS,
                    format!("{at}: {trouble}"),
                    "is it running? The token is that of a service account that may read dashboards",
                );
            }
        }
    }
    if missing.is_empty() {
        return Finding::pass(DASHBOARDS, format!("all {there} are there"));
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

    fn found(rules: &[Value]) -> Finding {
        of_rules(&json!({"groups": [{"name": "g", "rules": rules}]}))
    }

    #[test]
    fn our_rules_are_known_by_what_they_look_at_directly_or_through_others() {
        let foreign = rule("alerting", "NodeDown", "up == 0", "ok", "inactive");
        assert_eq!(found(std::slice::from_ref(&foreign)).verdict, Verdict::Fail);
        let recorded = rule("recording", "job:tx:ratio", "rate(transaction_attempts_total[5m])", "ok", "");
        let alert = rule("alerting", "Burn", "job:tx:ratio > 1", "ok", "inactive");
        assert_eq!(found(&[foreign.clone(), recorded.clone(), alert.clone()]).verdict, Verdict::Pass);
        let firing = rule("alerting", "Burn", "job:tx:ratio > 1", "ok", "firing");
        assert_eq!(found(&[recorded.clone(), firing]).verdict, Verdict::Warn);
        let broken = rule("recording", "job:tx:ratio", "rate(transaction_attempts_total[5m])", "err", "");
        assert_eq!(found(&[broken, recorded, alert]).verdict, Verdict::Fail);
        assert_eq!(of_rules(&json!(7)).verdict, Verdict::Fail);
    }
}
