//! `txnscope verify` as a process, against a real Prometheus with a history of its own, and a real replica set.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::prometheus::Prometheus;
use crate::common::{run_with, stdout_and_stderr};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use mongodb::bson::{Document, doc};
use serde_json::Value;
use tempfile::TempDir;
use testkit::ReplicaSet;
use tokio::net::TcpListener;

/// The metrics of a service before and after the deployment; the label `env` is its name.
struct Service {
    env: &'static str,
    /// Requests per second, and the share of failed ones before and after.
    rate: f64,
    failed: [f64; 2],
    /// The shares of requests that took at most 10, 25, 50, 100 and 250 ms.
    quick: [[f64; 5]; 2],
}

const BOUNDS: [&str; 5] = ["0.01", "0.025", "0.05", "0.1", "0.25"];
const PLAIN: [f64; 5] = [0.5, 0.9, 0.985, 0.9985, 1.0];
/// The share above 50 ms is about what was above 25 ms before: p99 doubles, the median stays.
const SLOW_TAIL: [f64; 5] = [0.5, 0.9, 0.96, 0.985, 1.0];

const SERVICES: [Service; 4] = [
    Service { env: "well", rate: 2.0, failed: [0.005, 0.005], quick: [PLAIN, PLAIN] },
    Service { env: "failing", rate: 2.0, failed: [0.005, 0.025], quick: [PLAIN, PLAIN] },
    Service { env: "slow", rate: 2.0, failed: [0.005, 0.005], quick: [PLAIN, SLOW_TAIL] },
    Service { env: "quiet", rate: 0.002, failed: [0.0, 0.0], quick: [PLAIN, PLAIN] },
];

const SCRAPE: u32 = 15;
const BEFORE: u32 = 4 * 3_600;
const AFTER: u32 = 2_400;

/// A history in OpenMetrics, which ends now; and when the deployment was.
fn history() -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let deployed = now - u64::from(AFTER);
    let mut text = String::new();
    for past in (0..=(BEFORE + AFTER) / SCRAPE).map(|scrape| scrape * SCRAPE) {
        let at = now - u64::from(BEFORE + AFTER) + u64::from(past);
        let (before, after) = (f64::from(past.min(BEFORE)), f64::from(past.saturating_sub(BEFORE)));
        for Service { env, rate, failed, quick } in &SERVICES {
            let labels = format!("operation=\"POST /pay\",env=\"{env}\"");
            let count = |share: [f64; 2]| rate * (before * share[0] + after * share[1]);
            let mut line = |name: &str, more: &str, value: f64| {
                writeln!(text, "{name}{{{labels}{more}}} {value:.3} {at}").unwrap();
            };
            let good = [1.0 - failed[0], 1.0 - failed[1]];
            let duration = "transaction_duration_seconds";
            line(&format!("{duration}_count"), ",outcome=\"succeeded\"", count(good));
            line(&format!("{duration}_count"), ",outcome=\"failed\"", count(*failed));
            for (bound, le) in BOUNDS.iter().enumerate() {
                let share = [good[0] * quick[0][bound], good[1] * quick[1][bound]];
                line(
                    &format!("{duration}_bucket"),
                    &format!(",outcome=\"succeeded\",le=\"{le}\""),
                    count(share),
                );
            }
            line(&format!("{duration}_bucket"), ",outcome=\"succeeded\",le=\"+Inf\"", count(good));
            line("mongodb_client_transactions_started_total", "", count([1.1, 1.1]));
            line(
                "mongodb_client_transactions_aborted_total",
                ",reason=\"write_conflict\"",
                count([0.1, 0.1]),
            );
        }
        // A backend without the label `operation`, and one without metrics, whose servers two sidecars poll. The data of the
        // servers covers the second half of the baseline only.
        let count = 2.0 * f64::from(past);
        let mut line = |series: String, value: f64| writeln!(text, "{series} {value:.3} {at}").unwrap();
        line("transaction_duration_seconds_count{env=\"unnamed\",outcome=\"succeeded\"}".to_owned(), count);
        line("transaction_duration_seconds_count{env=\"mute\",operation=\"POST /pay\"}".to_owned(), count);
        if past >= BEFORE / 2 {
            for (env, aborted) in [("servers", [0.01, 0.01]), ("conflicts", [0.01, 0.5])] {
                let aborted = 2.0 * (before * aborted[0] + after * aborted[1]);
                for instance in ["s1", "s2"] {
                    let of =
                        format!("{{env=\"{env}\",instance=\"{instance}\",rs=\"rs0\",member=\"db1:27017\"}}");
                    line(format!("mongodb_transactions_committed_total{of}"), count - aborted);
                    line(format!("mongodb_transactions_aborted_total{of}"), aborted);
                }
            }
        }
    }
    text.push_str("# EOF\n");
    let at = mongodb::bson::DateTime::from_millis(i64::try_from(deployed).unwrap() * 1_000);
    (text, at.try_to_rfc3339_string().unwrap())
}

/// A Prometheus with the history.
async fn prometheus() -> (Prometheus, String) {
    let (text, deployed) = history();
    let prometheus = Prometheus::with_history(&text).await;
    prometheus.has("last_over_time(transaction_duration_seconds_count[5m])").await;
    (prometheus, deployed)
}

/// The exit status and the JSON report for one service.
async fn verify(url: &str, deployed: &str, env: &str, more: &[&str]) -> (i32, Value) {
    let arguments = [
        format!("--prometheus.url={url}"),
        format!("--deployed-at={deployed}"),
        format!("--selector=env=\"{env}\""),
        "--baseline=4h".to_owned(),
        "--output=json".to_owned(),
    ];
    let arguments: Vec<&str> = ["verify"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = run_with(&[&arguments[..], more].concat(), &[]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", stdout_and_stderr(&output)));
    (output.status.code().unwrap(), json)
}

fn evidence<'a>(json: &'a Value, criterion: &str) -> (&'a str, &'a str) {
    let criteria = json["criteria"].as_array().unwrap();
    let found = criteria.iter().find(|found| found["criterion"] == criterion);
    let found = found.unwrap_or_else(|| panic!("no {criterion}: {json:#}"));
    (found["decision"].as_str().unwrap(), found["evidence"].as_str().unwrap())
}

const FAILURES: &str = "Failure rate";
const LATENCY: &str = "Latency";

#[tokio::test(flavor = "multi_thread")]
async fn go_no_go_and_inconclusive_are_distinguished() {
    let (prometheus, deployed) = prometheus().await;
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[]).await;
    assert_eq!((code, &json["decision"]), (0, &"go".into()), "{json:#}");
    let ended = json["operations"][0]["after"]["ended"].as_f64().unwrap();
    assert!((ended - 4_800.0).abs() < 100.0, "two per second for 40 minutes: {ended}");
    let (decision, text) = evidence(&json, "Write-conflict rate");
    assert!(decision == "go" && text.contains("100.00 % of the traffic compared"), "{text}");

    let (code, json) = verify(&prometheus.url, &deployed, "failing", &[]).await;
    assert_eq!(code, 1, "{json:#}");
    let (decision, text) = evidence(&json, FAILURES);
    assert!(decision == "no-go" && text.starts_with("POST /pay: failed 0.50 % → 2.50 %"), "{text}");
    assert_eq!(evidence(&json, LATENCY).0, "go", "{json:#}");

    let (code, json) = verify(&prometheus.url, &deployed, "slow", &[]).await;
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(evidence(&json, FAILURES).0, "go");
    let (decision, text) = evidence(&json, LATENCY);
    assert!(decision == "no-go" && text.starts_with("POST /pay: p99 56."), "{text}");
    // With a limit that allows the doubled latency.
    let (code, _) = verify(&prometheus.url, &deployed, "slow", &["--max-latency-ratio=4"]).await;
    assert_eq!(code, 0);

    let (code, json) = verify(&prometheus.url, &deployed, "quiet", &[]).await;
    assert_eq!((code, &json["decision"]), (3, &"inconclusive".into()), "{json:#}");
    assert!(evidence(&json, FAILURES).1.starts_with("not enough traffic: 0.00 %"), "{json:#}");
    assert_eq!(evidence(&json, "Data").0, "-", "a skipped criterion does not count as go: {json:#}");

    // A certain no-go does not wait, and a go waits to its end.
    let wait = ["--wait=1h", "--interval=1s"];
    assert_eq!(verify(&prometheus.url, &deployed, "failing", &wait).await.0, 1);
    let wait = ["--wait=2s", "--interval=1s"];
    assert_eq!(verify(&prometheus.url, &deployed, "well", &wait).await.0, 0);

    let url = format!("--prometheus.url={}", prometheus.url);
    let since = format!("--deployed-at={deployed}");
    let markdown = ["verify", &url, &since, "--selector=env=\"failing\"", "--output=markdown"];
    let text = stdout_and_stderr(&run_with(&markdown, &[]).await);
    assert!(text.starts_with("**NO-GO**") && text.contains("| no-go | Failure rate |"), "{text}");
    let table = ["verify", &url, &since, "--selector=env=\"well\"", "--baseline=4h"];
    let text = stdout_and_stderr(&run_with(&table, &[]).await);
    assert!(text.contains("POST /pay  2.00 → ") && text.ends_with("\nGO\n"), "{text}");
}

const CHECKS: &str = r#"
    [[check]]
    name = "negative_balance"
    about = "No balance is negative."
    severity = "critical"
    database = "shop"
    collection = "retainers"
    forbid = '{ "balance": { "$lt": 0 } }'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn violations_are_a_no_go_even_with_good_traffic() {
    let (prometheus, deployed) = prometheus().await;
    let set = ReplicaSet::recycled().await.unwrap();
    let retainers = set.client().await.unwrap().database("shop").collection::<Document>("retainers");
    retainers.insert_one(doc! {"_id": 1, "balance": 5}).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("checks.toml");
    std::fs::write(&file, CHECKS).unwrap();
    let (checks, uri) = (format!("--checks.file={}", file.display()), format!("--mongodb.uri={}", set.uri()));
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&checks, &uri]).await;
    assert_eq!(code, 0, "{json:#}");
    let (decision, text) = evidence(&json, "No balance is negative");
    assert_eq!((decision, text), ("go", "negative_balance: no violations in 1 documents"));

    retainers.update_one(doc! {"_id": 1}, doc! {"$set": {"balance": -1}}).await.unwrap();
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&checks, &uri, "--wait=1h"]).await;
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(evidence(&json, "No balance is negative").0, "no-go");

    retainers.drop().await.unwrap();
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&checks, &uri]).await;
    assert_eq!(code, 3, "a failed check is not a go: {json:#}");
}

/// A server that sends the same response to all requests.
async fn fixed_response(status: StatusCode, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(get(move || std::future::ready((status, body))));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[tokio::test]
async fn malformed_prometheus_response_is_an_error() {
    let ok = StatusCode::OK;
    for (status, body, expected) in [
        (ok, "<html>", "it is not JSON"),
        (ok, "{}", "is this Prometheus?"),
        (
            ok,
            r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}"#,
            "it is not a vector",
        ),
        (ok, r#"{"status": "success", "data": {"resultType": "vector", "result": [{}]}}"#, "no value"),
        (StatusCode::UNAUTHORIZED, "", "401"),
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"status": "error", "error": "starting up"}"#, "starting up"),
        (StatusCode::MOVED_PERMANENTLY, "", "301"),
    ] {
        let url = format!("--prometheus.url={}", fixed_response(status, body).await);
        let output = run_with(&["verify", &url, "--deployed-at=30m"], &[]).await;
        let output_text = stdout_and_stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{body}: {output_text}");
        assert!(output_text.contains(expected) && !output_text.contains("panicked"), "{body}: {output_text}");
    }
}

#[tokio::test]
async fn invalid_command_line_is_an_error_without_secrets() {
    let url = "--prometheus.url=http://127.0.0.1:1";
    for (arguments, expected) in [
        (&["verify", "--deployed-at=30m"][..], "no Prometheus configured"),
        (&["verify", url], "--deployed-at"),
        (&["verify", url, "--deployed-at=yesterday"], "2026-03-14T09:26:53Z"),
        (&["verify", url, "--deployed-at=9999-01-01T00:00:00Z"], "in the future"),
        (&["verify", url, "--deployed-at=5s"], "--wait=30m"),
        (&["verify", url, "--deployed-at=30m", "--until=30m"], "at least 30 s after"),
        (&["verify", url, "--deployed-at=30m", "--until=1m", "--wait=1m"], "cannot be used with"),
        (&["verify", url, "--deployed-at=30m", "--selector=job"], "job=\"shop\""),
        (&["verify", url, "--deployed-at=30m", "--alpha=0.9"], "between 0 and 0.5"),
        (&["verify", url, "--deployed-at=30m", "--checks.file=/nowhere/checks.toml"], "/nowhere/checks.toml"),
        (&["verify", url, "--deployed-at=30m"], "cannot be reached"),
        (
            &["verify", "--prometheus.url=http://u:hunter2@127.0.0.1:1", "--deployed-at=30m"],
            "TXNSCOPE_PROMETHEUS_URL",
        ),
    ] {
        let output = run_with(arguments, &[]).await;
        let output_text = stdout_and_stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output_text}");
        assert!(output_text.contains(expected), "{arguments:?}: {output_text}");
        assert!(
            !output_text.contains("hunter2") && !output_text.contains("panicked"),
            "{arguments:?}: {output_text}"
        );
    }
    let hidden = [("TXNSCOPE_PROMETHEUS_URL", "http://u:hunter2@127.0.0.1:1")];
    let output_text = stdout_and_stderr(&run_with(&["verify", "--deployed-at=30m"], &hidden).await);
    assert!(
        output_text.contains("http://127.0.0.1:1: it cannot be reached") && !output_text.contains("hunter2"),
        "{output_text}"
    );
}

const SERVERS: &str = "Share of aborted transactions (server counters)";
const TRAFFIC: &str = "Traffic";

#[tokio::test(flavor = "multi_thread")]
async fn missing_labels_are_inconclusive_and_server_counters_are_compared() {
    let (prometheus, deployed) = prometheus().await;
    let (code, json) = verify(&prometheus.url, &deployed, "unnamed", &[]).await;
    assert_eq!((code, &json["decision"]), (3, &"inconclusive".into()), "{json:#}");
    for criterion in [FAILURES, LATENCY, TRAFFIC] {
        let (decision, text) = evidence(&json, criterion);
        assert!(decision == "inconclusive" && text.contains("lack the label operation"), "{text}");
    }
    // Without an outcome no failure is visible, which does not mean success.
    let (code, json) = verify(&prometheus.url, &deployed, "mute", &[]).await;
    assert_eq!(code, 3, "{json:#}");
    assert!(evidence(&json, FAILURES).1.contains("lack the label outcome"), "{json:#}");

    let (code, json) = verify(&prometheus.url, &deployed, "servers", &[]).await;
    assert_eq!((code, evidence(&json, SERVERS).0, evidence(&json, FAILURES).0), (0, "go", "-"), "{json:#}");
    let covered = json["baseline_with_data"].as_f64().unwrap();
    assert!((covered - 0.5).abs() < 0.1, "half of the baseline has data: {covered}");
    let ended = json["operations"][0]["after"]["attempts"].as_f64().unwrap();
    assert!((ended - 4_800.0).abs() < 100.0, "two sidecars count each transaction once: {ended}");
    let (code, json) = verify(&prometheus.url, &deployed, "conflicts", &[]).await;
    assert_eq!((code, evidence(&json, SERVERS).0), (1, "no-go"), "{json:#}");

    let since = format!("--deployed-at={deployed}");
    let url = format!("--prometheus.url={}", prometheus.url);
    let output =
        run_with(&["verify", &url, &since, "--baseline=4h", "--selector=env=\"wel\",shelf=\"x\""], &[]).await;
    let text = stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("the values of env are \"conflicts\", \"failing\"") && text.contains("\"well\""),
        "{text}"
    );
    assert!(text.contains("has a label shelf"), "{text}");
    let output =
        run_with(&["verify", &url, &since, "--baseline=4h", "--selector=env=\"servers\""], &[]).await;
    let text = stdout_and_stderr(&output);
    assert!(text.contains("(data for ") && text.contains("% of it)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_an_empty_collection_is_inconclusive() {
    let (prometheus, deployed) = prometheus().await;
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    client.database("shop").create_collection("retainers").await.unwrap();
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("checks.toml"), CHECKS).unwrap();
    std::fs::write(
        at("txnscope.toml"),
        format!("[mongodb]\nuri = [\"{}\"]\n[checks]\nfile = \"checks.toml\"\n", set.uri()),
    )
    .unwrap();
    let config = format!("--config.file={}", at("txnscope.toml").display());
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&config]).await;
    assert_eq!((code, &json["decision"]), (3, &"inconclusive".into()), "{json:#}");
    let (decision, text) = evidence(&json, "No balance is negative");
    assert!(
        decision == "inconclusive" && text.contains("retainers has no documents, so nothing was checked"),
        "{text}"
    );

    // Control: with a document, it is a go.
    client
        .database("shop")
        .collection::<Document>("retainers")
        .insert_one(doc! {"balance": 1})
        .await
        .unwrap();
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&config]).await;
    assert_eq!((code, evidence(&json, "No balance is negative").0), (0, "go"), "{json:#}");
}
