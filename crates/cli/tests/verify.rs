//! `txnscope verify` as a process, against a real Prometheus with a history of its own, and a real replica set.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use common::prometheus::Prometheus;
use common::{printed, run_with};
use mongodb::bson::{Document, doc};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Binary, ReplicaSet};
use tokio::net::TcpListener;

/// How a service did before and after; the label `env` tells them apart.
struct Service {
    env: &'static str,
    /// Requests a second, and of these, how many fail: before and after.
    rate: f64,
    failed: [f64; 2],
    /// Which share took at most 10, 25, 50, 100 and 250 ms.
    quick: [[f64; 5]; 2],
}

const BOUNDS: [&str; 5] = ["0.01", "0.025", "0.05", "0.1", "0.25"];
const PLAIN: [f64; 5] = [0.5, 0.9, 0.985, 0.9985, 1.0];
/// As much above 50 ms as before above 25 ms, nearly: p99 doubles, the median stays.
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
        // A backend that counts by itself, without the label `operation`; and one that exports nothing, whose servers do, by
        // two sidecars. Of those there is data for the second half of the baseline only.
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

/// A Prometheus that has always been there.
async fn prometheus() -> (Prometheus, String) {
    let (text, deployed) = history();
    let prometheus = Prometheus::start("global: {}", async |folder: &Path| {
        let file = folder.join("history");
        std::fs::write(&file, text).unwrap();
        let mut promtool = tokio::process::Command::new(Binary::Promtool.path().unwrap());
        promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(folder.join("data"));
        let output = promtool.stdin(Stdio::null()).output().await.unwrap();
        assert!(output.status.success(), "{}", printed(&output));
    })
    .await;
    prometheus.has("last_over_time(transaction_duration_seconds_count[5m])").await;
    (prometheus, deployed)
}

/// What it says of one service, as JSON, and how it ends.
async fn verify(url: &str, deployed: &str, env: &str, more: &[&str]) -> (i32, Value) {
    let arguments = [
        format!("--prometheus.url={url}"),
        format!("--since={deployed}"),
        format!("--selector=env=\"{env}\""),
        "--baseline=4h".to_owned(),
        "--output=json".to_owned(),
    ];
    let arguments: Vec<&str> = ["verify"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = run_with(&[&arguments[..], more].concat(), &[]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", printed(&output)));
    (output.status.code().unwrap(), json)
}

fn evidence<'a>(json: &'a Value, criterion: &str) -> (&'a str, &'a str) {
    let criteria = json["criteria"].as_array().unwrap();
    let found = criteria.iter().find(|found| found["criterion"] == criterion);
    let found = found.unwrap_or_else(|| panic!("no {criterion}: {json:#}"));
    (found["verdict"].as_str().unwrap(), found["evidence"].as_str().unwrap())
}

const FAILURES: &str = "Error rates have not increased";
const LATENCY: &str = "Response times are acceptable";

#[tokio::test(flavor = "multi_thread")]
async fn go_no_go_and_too_little_traffic_are_told_apart() {
    let (prometheus, deployed) = prometheus().await;
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[]).await;
    assert_eq!((code, &json["verdict"]), (0, &"go".into()), "{json:#}");
    let ended = json["operations"][0]["after"]["ended"].as_f64().unwrap();
    assert!((ended - 4_800.0).abs() < 100.0, "two a second, for 40 minutes: {ended}");
    let (verdict, told) = evidence(&json, "Concurrent operations get along");
    assert!(verdict == "go" && told.contains("judged on 100.00 %"), "{told}");

    let (code, json) = verify(&prometheus.url, &deployed, "failing", &[]).await;
    assert_eq!(code, 1, "{json:#}");
    let (verdict, told) = evidence(&json, FAILURES);
    assert!(verdict == "no-go" && told.starts_with("POST /pay: failed 0.50 % → 2.50 %"), "{told}");
    assert_eq!(evidence(&json, LATENCY).0, "go", "{json:#}");

    let (code, json) = verify(&prometheus.url, &deployed, "slow", &[]).await;
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(evidence(&json, FAILURES).0, "go");
    let (verdict, told) = evidence(&json, LATENCY);
    assert!(verdict == "no-go" && told.starts_with("POST /pay: p99 56."), "{told}");
    // To whom twice as long is acceptable.
    let (code, _) = verify(&prometheus.url, &deployed, "slow", &["--max-latency-ratio=4"]).await;
    assert_eq!(code, 0);

    let (code, json) = verify(&prometheus.url, &deployed, "quiet", &[]).await;
    assert_eq!((code, &json["verdict"]), (3, &"inconclusive".into()), "{json:#}");
    assert!(evidence(&json, FAILURES).1.starts_with("not enough traffic: 0.00 %"), "{json:#}");
    assert_eq!(evidence(&json, "The data is right").0, "-", "what nobody asked is no go: {json:#}");

    // A certain no-go does not wait, and a go waits to its end.
    let wait = ["--wait=1h", "--every=1s"];
    assert_eq!(verify(&prometheus.url, &deployed, "failing", &wait).await.0, 1);
    let wait = ["--wait=2s", "--every=1s"];
    assert_eq!(verify(&prometheus.url, &deployed, "well", &wait).await.0, 0);

    let url = format!("--prometheus.url={}", prometheus.url);
    let since = format!("--deployed-at={deployed}");
    let markdown = ["verify", &url, &since, "--selector=env=\"failing\"", "--output=markdown"];
    let text = printed(&run_with(&markdown, &[]).await);
    assert!(
        text.starts_with("**NO-GO**") && text.contains("| no-go | Error rates have not increased |"),
        "{text}"
    );
    let table = ["verify", &url, &since, "--selector=env=\"well\"", "--baseline=4h"];
    let text = printed(&run_with(&table, &[]).await);
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
async fn wrong_data_is_a_no_go_whatever_the_traffic_says() {
    let (prometheus, deployed) = prometheus().await;
    let set = ReplicaSet::start(1).await.unwrap();
    let retainers = set.client().await.unwrap().database("shop").collection::<Document>("retainers");
    retainers.insert_one(doc! {"_id": 1, "balance": 5}).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("checks.toml");
    std::fs::write(&file, CHECKS).unwrap();
    let (checks, uri) = (format!("--checks={}", file.display()), format!("--mongodb.uri={}", set.uri()));
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&checks, &uri]).await;
    assert_eq!(code, 0, "{json:#}");
    let (verdict, told) = evidence(&json, "No balance is negative");
    assert_eq!((verdict, told), ("go", "negative_balance: none in 1 documents"));

    retainers.update_one(doc! {"_id": 1}, doc! {"$set": {"balance": -1}}).await.unwrap();
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&checks, &uri, "--wait=1h"]).await;
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(evidence(&json, "No balance is negative").0, "no-go");

    retainers.drop().await.unwrap();
    let (code, json) = verify(&prometheus.url, &deployed, "well", &[&checks, &uri]).await;
    assert_eq!(code, 3, "what could not be checked is no go: {json:#}");
}

/// Answers everything in one way.
async fn odd(status: StatusCode, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(get(move || std::future::ready((status, body))));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[tokio::test]
async fn a_prometheus_that_answers_oddly_is_no_verdict() {
    let ok = StatusCode::OK;
    for (status, body, complaint) in [
        (ok, "<html>", "it is no JSON"),
        (ok, "{}", "is this Prometheus?"),
        (
            ok,
            r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}"#,
            "it is no vector",
        ),
        (ok, r#"{"status": "success", "data": {"resultType": "vector", "result": [{}]}}"#, "no value"),
        (StatusCode::UNAUTHORIZED, "", "401"),
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"status": "error", "error": "starting up"}"#, "starting up"),
        (StatusCode::MOVED_PERMANENTLY, "", "301"),
    ] {
        let url = format!("--prometheus.url={}", odd(status, body).await);
        let output = run_with(&["verify", &url, "--since=30m"], &[]).await;
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{body}: {said}");
        assert!(said.contains(complaint) && !said.contains("panicked"), "{body}: {said}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_told_apart_and_no_secret_with_it() {
    let url = "--prometheus.url=http://127.0.0.1:1";
    for (arguments, complaint) in [
        (&["verify", "--since=30m"][..], "where is Prometheus?"),
        (&["verify", url], "--since"),
        (&["verify", url, "--since=yesterday"], "2026-03-14T09:26:53Z"),
        (&["verify", url, "--since=9999-01-01T00:00:00Z"], "in the future"),
        (&["verify", url, "--since=5s"], "--wait=30m"),
        (&["verify", url, "--since=30m", "--until=30m"], "at least 30 s after"),
        (&["verify", url, "--since=30m", "--until=1m", "--wait=1m"], "cannot be used with"),
        (&["verify", url, "--since=30m", "--selector=job"], "job=\"shop\""),
        (&["verify", url, "--since=30m", "--alpha=0.9"], "less than 0.5"),
        (&["verify", url, "--since=30m", "--checks=/nowhere/checks.toml"], "/nowhere/checks.toml"),
        (&["verify", url, "--since=30m"], "cannot be reached"),
        (
            &["verify", "--prometheus.url=http://u:hunter2@127.0.0.1:1", "--since=30m"],
            "TXNSCOPE_PROMETHEUS_URL",
        ),
    ] {
        let output = run_with(arguments, &[]).await;
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    let hidden = [("TXNSCOPE_PROMETHEUS_URL", "http://u:hunter2@127.0.0.1:1")];
    let said = printed(&run_with(&["verify", "--since=30m"], &hidden).await);
    assert!(said.contains("http://127.0.0.1:1: it cannot be reached") && !said.contains("hunter2"), "{said}");
}

const SERVERS: &str = "Transactions commit as before, by the servers' counters";
const TRAFFIC: &str = "Operations are called as before";

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_named_and_the_servers_counters_are_judged() {
    let (prometheus, deployed) = prometheus().await;
    let (code, json) = verify(&prometheus.url, &deployed, "unnamed", &[]).await;
    assert_eq!((code, &json["verdict"]), (3, &"inconclusive".into()), "{json:#}");
    for criterion in [FAILURES, LATENCY, TRAFFIC] {
        let (verdict, told) = evidence(&json, criterion);
        assert!(verdict == "inconclusive" && told.contains("without the label operation"), "{told}");
    }
    // Without an outcome nothing has failed that could be seen, and that is no success.
    let (code, json) = verify(&prometheus.url, &deployed, "mute", &[]).await;
    assert_eq!(code, 3, "{json:#}");
    assert!(evidence(&json, FAILURES).1.contains("without the label outcome"), "{json:#}");

    let (code, json) = verify(&prometheus.url, &deployed, "servers", &[]).await;
    assert_eq!((code, evidence(&json, SERVERS).0, evidence(&json, FAILURES).0), (0, "go", "-"), "{json:#}");
    let covered = json["baseline_with_data"].as_f64().unwrap();
    assert!((covered - 0.5).abs() < 0.1, "half of the baseline has data: {covered}");
    let ended = json["operations"][0]["after"]["attempts"].as_f64().unwrap();
    assert!((ended - 4_800.0).abs() < 100.0, "two sidecars count each transaction once: {ended}");
    let (code, json) = verify(&prometheus.url, &deployed, "conflicts", &[]).await;
    assert_eq!((code, evidence(&json, SERVERS).0), (1, "no-go"), "{json:#}");

    let since = format!("--since={deployed}");
    let url = format!("--prometheus.url={}", prometheus.url);
    let output =
        run_with(&["verify", &url, &since, "--baseline=4h", "--selector=env=\"wel\",shelf=\"x\""], &[]).await;
    let told = printed(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("env may be \"conflicts\", \"failing\"") && told.contains("\"well\""), "{told}");
    assert!(told.contains("has a label shelf"), "{told}");
    let output =
        run_with(&["verify", &url, &since, "--baseline=4h", "--selector=env=\"servers\""], &[]).await;
    let told = printed(&output);
    assert!(told.contains("(data for ") && told.contains("% of it)"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_reads_nothing_is_inconclusive_and_the_configuration_file_names_it() {
    let (prometheus, deployed) = prometheus().await;
    let set = ReplicaSet::start(1).await.unwrap();
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
    assert_eq!((code, &json["verdict"]), (3, &"inconclusive".into()), "{json:#}");
    let (verdict, told) = evidence(&json, "No balance is negative");
    assert!(
        verdict == "inconclusive" && told.contains("nothing was read: retainers has no documents"),
        "{told}"
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
