//! `txnscope verify` on the metrics of the proxy. A verification needs an hour of traffic: what the proxy has counted of a few
//! requests is repeated over that time.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use mongodb::bson::doc;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{FailPoint, Scrape};

use super::environment::{APP, Environment};
use crate::common::prometheus::Prometheus;
use crate::common::{run_with, stdout_and_stderr};

const REQUESTS: i32 = 60;

/// Completed payments, each with one transaction. The server fails the first ones.
async fn payments(environment: &Environment, failures: i32) {
    if failures > 0 {
        let client = environment.set.client().await.unwrap();
        let data = doc! {"failCommands": ["insert"], "errorCode": 8};
        FailPoint::fail_command_times(&client, APP, failures, data).await.unwrap();
    }
    let body = json!({"customerId": "c", "amount": 1, "paymentMethod": "card", "status": "completed"});
    for request in 0..REQUESTS {
        let (status, answer) = environment.send(Method::POST, "/api/payments", Some(&body)).await;
        let expected =
            if request < failures { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CREATED };
        assert_eq!(status, expected, "{answer}");
    }
}

/// The series of operations, in the order of the page, each with its value.
fn series(page: &Scrape) -> Vec<(String, f64)> {
    let families = page.families().iter().filter(|family| family.name.starts_with("transaction_"));
    let named = |series: &testkit::Series| {
        let labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        (format!("{}{{{}}}", series.name, labels.join(",")), series.value)
    };
    families.flat_map(|family| family.series.iter().map(named)).collect()
}

/// An hour in which the first increments repeat every half minute, and an hour of the second ones; and the time between.
fn history(before: &[(String, f64)], after: &[(String, f64)]) -> (String, String) {
    const STEP: u32 = 30;
    const STEPS: u32 = 3_600 / STEP;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let deployed = now - u64::from(STEPS * STEP);
    let mut text = String::new();
    for step in 0..=2 * STEPS {
        let at = now - u64::from((2 * STEPS - step) * STEP);
        let (old, new) = (f64::from(step.min(STEPS)), f64::from(step.saturating_sub(STEPS)));
        for ((name, first), (_, second)) in before.iter().zip(after) {
            writeln!(text, "{name} {} {at}", old * first + new * second).unwrap();
        }
    }
    text.push_str("# EOF\n");
    let at = mongodb::bson::DateTime::from_millis(i64::try_from(deployed).unwrap() * 1_000);
    (text, at.try_to_rfc3339_string().unwrap())
}

/// The exit status and the decision.
async fn verify(before: &[(String, f64)], after: &[(String, f64)]) -> (Option<i32>, Value) {
    let (text, deployed) = history(before, after);
    let prometheus = Prometheus::with_history(&text).await;
    prometheus.has("last_over_time(transaction_duration_seconds_count[5m])").await;
    let arguments = [
        "verify".to_owned(),
        format!("--prometheus.url={}", prometheus.url),
        format!("--deployed-at={deployed}"),
        "--output=json".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run_with(&arguments, &[]).await;
    let report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stdout_and_stderr(&output)));
    (output.status.code(), report)
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_decides_from_the_metrics_of_the_proxy() {
    let environment = Environment::start("after").await;
    payments(&environment, 0).await;
    let healthy = series(&environment.proxy_page().await);
    payments(&environment, 20).await;
    let both = series(&environment.proxy_page().await);
    let failing: Vec<_> =
        both.iter().zip(&healthy).map(|((name, all), (_, first))| (name.clone(), all - first)).collect();

    let (code, report) = verify(&healthy, &healthy).await;
    assert!(code == Some(0) && report["decision"] == "go", "{report:#}");
    let (code, report) = verify(&healthy, &failing).await;
    assert!(code == Some(1) && report["decision"] == "no-go", "{report:#}");
    assert!(report.to_string().contains("POST /api/payments"), "{report:#}");
}
