//! Mutants of the ledger with realistic defects: the race test detects them in responses and balances, the checks detect them
//! in the data.

use ledger::Mutant;
use mongodb::bson::doc;
use serde_json::Value;
use testkit::FailPoint;

use crate::drill::environment::{APP, Environment, drill, drill_json};

fn failed(result: &Value) -> Vec<&str> {
    let scenarios = result["scenarios"].as_array().unwrap().iter();
    let failed = scenarios.filter(|scenario| scenario["result"] == "failed");
    failed.map(|scenario| scenario["scenario"].as_str().unwrap()).collect()
}

/// Delays writes, so that all ten requests read before the first one writes.
async fn delay_writes(env: &Environment) -> FailPoint {
    let data =
        doc! {"failCommands": ["update", "findAndModify"], "blockConnection": true, "blockTimeMS": 200};
    FailPoint::fail_command(&env.client, APP, data).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_outside_of_the_transaction_are_detected() {
    let env = Environment::with(Some(Mutant::ChecksOutside), false).await;
    let failpoint = delay_writes(&env).await;
    let url = format!("--url={}", env.url());
    let scenarios = ["consume", "complete", "transfer", "cancel"];
    let only = scenarios.map(|name| format!("--scenario={name}"));
    let mut arguments = vec!["race", &url, "--rounds=2", "--deadline=2m"];
    arguments.extend(only.iter().map(String::as_str));
    let (code, result) = drill_json(&arguments).await;
    assert_eq!(code, 1, "{result:#}");
    assert_eq!(failed(&result), scenarios, "{result:#}");
    failpoint.off().await.unwrap();
    let violated = env.violated().await;
    for check in [
        "retainer_balance_negative",
        "payment_not_posted_once",
        "bank_account_overdrawn",
        "bank_transfer_not_posted_once",
    ] {
        assert!(violated.iter().any(|name| name == check), "{check} is not in {violated:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_transaction_is_detected() {
    let env = Environment::with(Some(Mutant::NoTransaction), false).await;
    let failpoint = delay_writes(&env).await;
    let url = format!("--url={}", env.url());
    let (code, result) = drill_json(&["race", &url, "--rounds=2", "--scenario=transfer"]).await;
    assert_eq!(code, 1, "{result:#}");
    let violations = result["scenarios"][0]["violations"].to_string();
    assert!(violations.contains("their sum must be 1000"), "the sum changed: {result:#}");
    let (code, text) = drill(&["race", &url, "--rounds=2", "--scenario=transfer"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("of 10 transfers of 800 from an account with 1000, one succeeds"), "{text}");
    assert!(text.contains("round 2: ") && text.contains("\nfailed; "), "{text}");
    failpoint.off().await.unwrap();
    let violated = env.violated().await;
    for check in ["bank_account_balance_drift", "bank_accounts_total"] {
        assert!(violated.iter().any(|name| name == check), "{check} is not in {violated:?}");
    }
}
