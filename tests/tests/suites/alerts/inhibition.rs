//! The inhibition rules in a real Alertmanager, which amtool does not test.

use std::sync::{Arc, Mutex};

use anyhow::ensure;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use testkit::{Alertmanager, wait};
use tokio::net::TcpListener;

use super::files::{folder, read};

/// The received notifications with their receivers, and the resolved ones.
#[derive(Clone, Default)]
struct Received {
    firing: Arc<Mutex<Vec<(String, Value)>>>,
    resolved: Arc<Mutex<Vec<Value>>>,
}

async fn note(State(received): State<Received>, Path(receiver): Path<String>, Json(message): Json<Value>) {
    let alerts = message["alerts"].as_array().unwrap();
    for alert in alerts {
        let labels = alert["labels"].clone();
        if alert["status"] == "resolved" {
            received.resolved.lock().unwrap().push(labels);
        } else {
            received.firing.lock().unwrap().push((receiver.clone(), labels));
        }
    }
}

/// Starts Alertmanager with our configuration, but with short waits and local addresses, and the receiver.
async fn env() -> (Alertmanager, Received) {
    let received = Received::default();
    let router = Router::new().route("/{receiver}", post(note)).with_state(received.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = read(&folder().join("alertmanager.yml"));
    let config = config.replace("127.0.0.1:9099", &address.to_string());
    let config = config
        .replace("group_wait: 30s", "group_wait: 1s")
        .replace("group_interval: 30s", "group_interval: 1s");
    assert!(config.contains(&address.to_string()) && config.contains("group_wait: 1s"));
    (Alertmanager::start(&config).await.unwrap(), received)
}

fn labels(alertname: &str, component: &str, severity: &str, more: &[(&str, &str)]) -> Value {
    let mut labels = json!({"alertname": alertname, "component": component, "severity": severity});
    for (name, value) in more {
        labels[name] = json!(value);
    }
    labels
}

/// Sends alerts, and waits until Alertmanager inhibits exactly those with these names. Each list has one source:
/// Alertmanager evaluates all of its targets together.
async fn inhibits(alertmanager: &Alertmanager, alerts: &[Value], expected: &[&str]) {
    let sent: Vec<_> = alerts.iter().map(|labels| json!({"labels": labels})).collect();
    alertmanager.send(&json!(sent)).await.unwrap();
    wait::until("Alertmanager to inhibit what is explained", async || {
        let known = alertmanager.alerts().await?;
        ensure!(known.len() == alerts.len(), "{} of {} alerts", known.len(), alerts.len());
        let inhibited = known.iter().filter(|alert| alert["status"]["state"] == "suppressed");
        let mut names: Vec<_> =
            inhibited.map(|alert| alert["labels"]["alertname"].as_str().unwrap()).collect();
        names.sort_unstable();
        ensure!(names == expected, "{names:?} and not {expected:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn fast_burn_inhibits_slow_burn_of_same_operation() {
    let (alertmanager, received) = env().await;
    let of = |operation| [("job", "ledger"), ("operation", operation)];
    let fast = labels("TransactionFailureBudgetBurnFast", "transaction", "critical", &of("POST /pay"));
    let same = labels("TransactionFailureBudgetBurnSlow", "transaction", "warning", &of("POST /pay"));
    let other = labels("TransactionFailureBudgetBurnSlow", "transaction", "warning", &of("POST /consume"));
    let latency = labels("TransactionLatencyBudgetBurnSlow", "transaction", "warning", &of("POST /pay"));
    let alerts = [fast.clone(), same.clone(), other.clone(), latency.clone()];
    inhibits(&alertmanager, &alerts, &["TransactionFailureBudgetBurnSlow"]).await;

    // Notifications match the alert states.
    wait::until("the messages", async || {
        let received = received.firing.lock().unwrap().clone();
        let has = |receiver: &str, labels: &Value| received.contains(&(receiver.to_owned(), labels.clone()));
        ensure!(has("page", &fast) && has("ticket", &other) && has("ticket", &latency), "{received:?}");
        assert!(!received.iter().any(|(_, labels)| *labels == same), "{received:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn no_primary_inhibits_symptoms_but_not_data_alerts() {
    let (alertmanager, _) = env().await;
    let rs = [("cluster", "eu"), ("rs", "rs0")];
    let op = [("cluster", "eu"), ("job", "ledger"), ("operation", "POST /pay")];
    let elsewhere = [("cluster", "us"), ("job", "ledger"), ("operation", "POST /pay")];
    let alerts = [
        labels("MongoDBNoPrimary", "availability", "critical", &rs),
        labels("MongoDBMajorityLag", "mongodb", "warning", &rs),
        labels("MongoDBMajorityLag", "mongodb", "warning", &[("cluster", "eu"), ("rs", "rs1")]),
        labels("TransactionFailureBudgetBurnFast", "transaction", "critical", &op),
        labels("TransactionFailureBudgetBurnFast", "transaction", "critical", &elsewhere),
        labels("TransactionCommitUnknown", "transaction", "warning", &op),
        labels("ConsistencyViolated", "consistency", "critical", &rs),
        labels("ConsistencyCheckFailing", "consistency", "warning", &rs),
    ];
    inhibits(&alertmanager, &alerts, &["MongoDBMajorityLag", "TransactionFailureBudgetBurnFast"]).await;
}

/// To Alertmanager, labels that are missing on both sides are equal.
#[tokio::test]
async fn no_primary_without_cluster_label_inhibits_no_backend() {
    let (alertmanager, _) = env().await;
    let alerts = [
        labels("MongoDBNoPrimary", "availability", "critical", &[("rs", "rs0")]),
        labels(
            "TransactionFailureBudgetBurnFast",
            "transaction",
            "critical",
            &[("job", "ledger"), ("operation", "POST /pay")],
        ),
        labels("MongoDBWriteConflicts", "mongodb", "warning", &[("rs", "rs0")]),
        labels("MongoDBWriteConflicts", "mongodb", "warning", &[("rs", "rs1")]),
    ];
    inhibits(&alertmanager, &alerts, &["MongoDBWriteConflicts"]).await;
}

/// If one deployment of a cluster has no primary, this inhibits nothing of the other, whose set has the same name.
#[tokio::test]
async fn no_primary_does_not_inhibit_other_deployments_of_cluster() {
    let (alertmanager, _) = env().await;
    let of = |deployment| [("cluster", "eu"), ("deployment", deployment), ("rs", "rs0")];
    let operation = |deployment, operation| {
        [("cluster", "eu"), ("deployment", deployment), ("job", "shop"), ("operation", operation)]
    };
    let alerts = [
        labels("MongoDBNoPrimary", "availability", "critical", &of("payments")),
        labels("MongoDBLockWaits", "mongodb", "warning", &of("payments")),
        labels("MongoDBLockWaits", "mongodb", "warning", &of("orders")),
        labels(
            "TransactionFailureBudgetBurnFast",
            "transaction",
            "critical",
            &operation("payments", "POST /pay"),
        ),
        labels(
            "TransactionFailureBudgetBurnFast",
            "transaction",
            "critical",
            &operation("orders", "POST /order"),
        ),
    ];
    inhibits(&alertmanager, &alerts, &["MongoDBLockWaits", "TransactionFailureBudgetBurnFast"]).await;
}

#[tokio::test]
async fn sidecar_down_inhibits_failing_probes() {
    let (alertmanager, _) = env().await;
    let down = labels(
        "TxnscopeSidecarDown",
        "txnscope",
        "critical",
        &[("job", "txnscope"), ("instance", "127.0.0.1:9917")],
    );
    let probe = |instance| {
        labels(
            "TxnscopeProbeFailing",
            "txnscope",
            "critical",
            &[("job", "mongodb"), ("instance", instance), ("deployment", "payments")],
        )
    };
    let alerts = [down, probe("127.0.0.1:9917"), probe("127.0.0.2:9917")];
    inhibits(&alertmanager, &alerts, &["TxnscopeProbeFailing"]).await;
}

/// The server ends such a transaction within a minute; the next one, some minutes later, must be notified as well.
#[tokio::test]
async fn second_long_transaction_is_a_separate_notification() {
    let (alertmanager, received) = env().await;
    let alert = labels(
        "MongoDBOldestOpenTransaction",
        "mongodb",
        "warning",
        &[("rs", "rs0"), ("member", "db1:27017")],
    );
    for incident in 1..=2 {
        alertmanager.send(&json!([{"labels": alert}])).await.unwrap();
        wait::until("a ticket", async || {
            let firing = received.firing.lock().unwrap().clone();
            ensure!(
                firing.iter().filter(|(receiver, _)| receiver == "ticket").count() == incident,
                "{firing:?}"
            );
            Ok(())
        })
        .await
        .unwrap();
        // The alert ends at the time at which it starts.
        let over =
            json!([{"labels": alert, "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2020-01-01T00:00:01Z"}]);
        alertmanager.send(&over).await.unwrap();
        wait::until("that it is over", async || {
            let resolved = received.resolved.lock().unwrap().clone();
            ensure!(resolved.len() == incident, "{resolved:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}
