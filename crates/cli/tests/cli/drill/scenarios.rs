//! Scenario files for another API than the ledger's: its own routes, fields, statuses and messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Barrier;

use crate::drill::environment::{drill, drill_json, serve};

/// The number of concurrent requests, unless `--concurrency` is given.
const N: usize = 10;

/// How the backend implements the consumption of a retainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consumption {
    Correct,
    /// All requests read the balance before one of them writes it.
    LostUpdate,
    /// The text of the rejection is another one.
    OtherMessage,
}

#[derive(Clone)]
struct Retainers {
    consumption: Consumption,
    balances: Arc<Mutex<BTreeMap<String, i64>>>,
    all_have_read: Arc<Barrier>,
}

async fn create(State(state): State<Retainers>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    // A closed set of values, as in the schema of many backends.
    let is_valid = body["client"] == "client 1" && body["retainerType"] == "hourly";
    let Some(amount) = body["amount"].as_i64().filter(|_| is_valid) else {
        return (StatusCode::BAD_REQUEST, Json(json!({"message": "Validation failed"})));
    };
    let mut balances = state.balances.lock().unwrap();
    let id = format!("r/{}", balances.len());
    balances.insert(id.clone(), amount);
    (StatusCode::CREATED, Json(json!({"data": {"id": id, "balance": amount}})))
}

async fn read(State(state): State<Retainers>, Path(id): Path<String>) -> Json<Value> {
    Json(json!({"data": {"balance": state.balances.lock().unwrap()[&id]}}))
}

async fn consume(
    State(state): State<Retainers>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    assert!(headers["x-request-id"].to_str().unwrap().starts_with("txnscope-drill-"));
    let amount = body["amount"].as_i64().unwrap();
    let seen = state.balances.lock().unwrap()[&id];
    if state.consumption == Consumption::LostUpdate {
        state.all_have_read.wait().await;
    }
    let mut balances = state.balances.lock().unwrap();
    let balance = balances.get_mut(&id).unwrap();
    let seen = if state.consumption == Consumption::LostUpdate { seen } else { *balance };
    if seen < amount {
        let what =
            if state.consumption == Consumption::OtherMessage { "Too poor" } else { "Insufficient balance" };
        return (StatusCode::BAD_REQUEST, Json(json!({"message": format!("{what}: {seen} left")})));
    }
    *balance = seen - amount;
    (StatusCode::OK, Json(json!({"data": {"balance": *balance}})))
}

async fn backend(consumption: Consumption) -> String {
    let all_have_read = Arc::new(Barrier::new(N));
    let state = Retainers { consumption, balances: Arc::default(), all_have_read };
    let routes = Router::new()
        .route("/health", get(async || StatusCode::NO_CONTENT))
        .route("/v1/clients", post(async || (StatusCode::CREATED, Json(json!({"id": "client 1"})))))
        .route("/v1/retainers", post(create))
        .route("/v1/retainers/{id}", get(read))
        .route("/v1/retainers/{id}/consume", post(consume));
    format!("--url={}", serve(routes.with_state(state)).await)
}

/// The sample of the documentation.
fn sample() -> String {
    let documentation = std::fs::read_to_string(testkit::workspace().join("docs/drill.md")).unwrap();
    let (_, sample) = documentation.split_once("```toml\n").expect("docs/drill.md has a sample file");
    sample.split_once("```").unwrap().0.to_owned()
}

struct File {
    _folder: TempDir,
    argument: String,
}

fn file(text: &str) -> File {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scenarios.toml");
    std::fs::write(&path, text).unwrap();
    File { argument: format!("--scenarios.file={}", path.display()), _folder: folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn correct_backend_with_another_api_passes() {
    let (url, file) = (backend(Consumption::Correct).await, file(&sample()));
    let (code, result) = drill_json(&["race", &url, &file.argument, "--rounds=3"]).await;
    assert_eq!(code, 0, "{result:#}");
    let scenario = &result["scenarios"][0];
    assert_eq!((&scenario["result"], &scenario["requests"]), (&"passed".into(), &30.into()), "{result:#}");
    let responses = json!([
        {"status": 200, "text": null, "count": 3},
        {"status": 400, "text": "Insufficient balance: 200 left", "count": 27},
    ]);
    assert_eq!(scenario["responses"], responses, "{result:#}");
    assert_eq!(scenario["about"], "of 10 consumptions of 800 from a retainer with 1000, one succeeds");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_another_api_is_sent_by_weight() {
    let (url, file) = (backend(Consumption::Correct).await, file(&sample()));
    let arguments =
        ["load", &url, &file.argument, "--rate=30", "--duration=1s", "--entities=3", "--timeout=60s"];
    let (code, result) = drill_json(&arguments).await;
    assert_eq!(code, 0, "{result:#}");
    for (operation, arrivals) in [("POST /v1/retainers/{id}/consume", 20), ("GET /v1/retainers/{id}", 10)] {
        assert_eq!(result["operations"][operation]["outcomes"]["succeeded"], arrivals, "{result:#}");
    }
    assert_eq!(result["statuses"], json!({"200": 30}));
}

#[tokio::test]
async fn load_without_its_section_or_list_is_an_error() {
    let load = sample().find("[[load.setup]]").unwrap();
    for (text, expected) in [
        (sample()[..load].to_owned(), "the scenario file has no [load]"),
        (sample().replace("times = \"{entities}\"\n", ""), "`retainers` is no list"),
        (sample().replace("\"{entities}\"", "\"{entities} * 1000000\""), "lower --rate or --duration"),
        (sample().replace("weight = 2", "weight = 0"), "a weight is a number from 1 to 1000"),
    ] {
        let file = file(&text);
        let url = "--url=http://127.0.0.1:1";
        let (code, output) = drill(&["load", url, &file.argument, "--rate=1", "--duration=1s"]).await;
        assert_eq!(code, 2, "{output}");
        assert!(output.contains(expected), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_update_of_another_api_is_detected() {
    let (url, file) = (backend(Consumption::LostUpdate).await, file(&sample()));
    let (code, text) = drill(&["race", &url, &file.argument, "--rounds=1"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("round 1: 10 succeeded, and at most 1 may"), "{text}");
    assert!(text.contains("the balance is 200, and must be -7000 (10 succeeded)"), "{text}");
    assert!(text.contains("\nfailed; "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejection_with_an_undeclared_message_is_a_violation() {
    let (url, file) = (backend(Consumption::OtherMessage).await, file(&sample()));
    let (code, text) = drill(&["race", &url, &file.argument, "--rounds=1"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("9 neither succeeded nor were rejected: 400 Too poor: 200 left"), "{text}");
}

/// A scenario whose route the backend does not have: as a set-up, with another method, and in the burst.
const NOT_OFFERED: &str = r#"
[[race]]
name = "voucher"
invariant = "of {n} redemptions of a voucher, one succeeds"
succeed = 1
[[race.setup]]
path = "/v1/vouchers"
[[race.burst]]
path = "/v1/vouchers/1/redeem"

[[race]]
name = "health"
invariant = "{n} reports count"
succeed = "{n}"
[[race.setup]]
path = "/health"
[[race.burst]]
path = "/health"

[[race]]
name = "refund"
invariant = "of {n} refunds, one succeeds"
succeed = 1
[[race.burst]]
path = "/v1/refunds"
optional = true
"#;

#[tokio::test(flavor = "multi_thread")]
async fn scenario_without_its_route_is_not_offered() {
    let (url, file) = (backend(Consumption::Correct).await, file(&format!("{}{NOT_OFFERED}", sample())));
    let (code, result) = drill_json(&["race", &url, &file.argument, "--rounds=2"]).await;
    assert_eq!(code, 0, "{result:#}");
    assert_eq!(result["result"], "passed");
    let results = result["scenarios"].as_array().unwrap().iter();
    let results: Vec<_> = results.map(|scenario| scenario["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["passed", "not offered", "not offered", "not offered"]);
    for (index, reason) in [
        (1, "POST /v1/vouchers responded with 404"),
        (2, "POST /health responded with 405"),
        (3, "every POST of the burst responded with 404"),
    ] {
        assert_eq!(result["scenarios"][index]["not_offered"], reason);
    }
    let (code, text) = drill(&["race", &url, &file.argument, "--scenario=voucher"]).await;
    assert_eq!(code, 2, "nothing could be run: {text}");
    assert!(text.contains("POST /v1/vouchers responded with 404"), "{text}");
    assert!(text.contains("\nnot offered: the backend has the routes of none of these scenarios;"), "{text}");
    let (code, text) = drill(&["race", &url, &file.argument, "--rounds=1"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\npassed, 3 not offered; the data of this run"), "{text}");
}

/// A route that is missing in the burst only is a failure, unless the file declares it optional.
#[tokio::test(flavor = "multi_thread")]
async fn missing_route_of_the_burst_is_a_violation_unless_optional() {
    let (url, file) =
        (backend(Consumption::Correct).await, file(&sample().replace("/consume\"", "/debit\"")));
    let (code, text) = drill(&["race", &url, &file.argument, "--rounds=1"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("10 neither succeeded nor were rejected: 404"), "{text}");
}

#[tokio::test]
async fn ledger_scenarios_are_not_offered_by_a_backend_without_routes() {
    let url = format!("--url={}", serve(Router::new()).await);
    let shipped = testkit::workspace().join("examples/ledger/scenarios.toml");
    let shipped = format!("--scenarios.file={}", shipped.display());
    for arguments in [&["race", &url][..], &["race", &url, &shipped]] {
        let (code, result) = drill_json(arguments).await;
        assert_eq!(code, 2, "{result:#}");
        let scenarios = result["scenarios"].as_array().unwrap();
        assert_eq!(scenarios.len(), 9);
        assert!(scenarios.iter().all(|scenario| scenario["result"] == "not offered"), "{result:#}");
    }
}

#[tokio::test]
async fn malformed_scenario_file_is_an_error_before_any_request() {
    let url = "--url=http://127.0.0.1:1";
    for (from, to, expected) in [
        ("succeed = 1", "suceed = 1", "unknown key `suceed`; did you mean `succeed`?"),
        (
            "{retainer}/consume",
            "{retaner}/consume",
            "unknown variable `{retaner}`; did you mean `{retainer}`?",
        ),
        ("capture = { client = \"/id\" }", "", "unknown variable `{client}`"),
        ("{start} - ", "{start} minus ", "the expression has"),
        ("prefix = ", "text = \"x\"\nprefix = ", "`text` excludes `prefix`"),
        ("[backend]", "[backend", "scenarios.toml:"),
    ] {
        let text = sample().replacen(from, to, 1);
        assert_ne!(text, sample(), "{from}");
        let at = sample()[..sample().find(from).unwrap()].lines().count();
        let file = file(&text);
        let (code, output) = drill(&["race", url, &file.argument]).await;
        assert_eq!(code, 2, "{output}");
        assert!(output.contains(expected) && output.contains("scenarios.toml:"), "{output}");
        let line = output.split_once("scenarios.toml:").unwrap().1.split(':').next().unwrap();
        let line: usize = line.parse().expect(&output);
        assert!(line.abs_diff(at) <= 5, "line {at} is wrong: {output}");
    }
    let (code, output) = drill(&["race", url, "--scenarios.file=/nowhere/scenarios.toml"]).await;
    assert_eq!(code, 2, "{output}");
    let file = file(&sample());
    for (name, expected) in [("consum", "did you mean consume?"), ("hunter2", "valid are consume")] {
        let scenario = format!("--scenario={name}");
        let (code, output) = drill(&["race", url, &file.argument, &scenario]).await;
        assert_eq!(code, 2, "{output}");
        assert!(output.contains(expected) && !output.contains("hunter2"), "{output}");
    }
}
