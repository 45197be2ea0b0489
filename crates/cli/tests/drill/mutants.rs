//! Ledgers with a fault that backends really have: the race finds it in the answers and balances, the checks find
//! it in the data.

use ledger::Mutant;
use mongodb::bson::doc;
use serde_json::Value;
use testkit::FailPoint;

use crate::stage::{APP, Stage, drill, drill_json};

fn broken(result: &Value) -> Vec<&str> {
    let scenarios = result["scenarios"].as_array().unwrap().iter();
    let broken = scenarios.filter(|scenario| scenario["verdict"] == "broken");
    broken.map(|scenario| scenario["scenario"].as_str().unwrap()).collect()
}

/// Writes take a moment, so that all ten have looked before the first is done.
async fn hesitate(stage: &Stage) -> FailPoint {
    let data =
        doc! {"failCommands": ["update", "findAndModify"], "blockConnection": true, "blockTimeMS": 200};
    FailPoint::fail_command(&stage.client, APP, data).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_moved_out_of_the_transaction_are_found() {
    let stage = Stage::with(Some(Mutant::ChecksOutside), false).await;
    let failpoint = hesitate(&stage).await;
    let url = format!("--url={}", stage.url());
    let scenarios = ["consume", "complete", "transfer", "cancel"];
    let only = scenarios.map(|name| format!("--scenario={name}"));
    let mut arguments = vec!["race", &url, "--rounds=2", "--deadline=2m"];
    arguments.extend(only.iter().map(String::as_str));
    let (code, result) = drill_json(&arguments).await;
    assert_eq!(code, 1, "{result:#}");
    assert_eq!(broken(&result), scenarios, "{result:#}");
    failpoint.off().await.unwrap();
    let violated = stage.violated().await;
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
async fn a_transaction_that_was_removed_is_found() {
    let stage = Stage::with(Some(Mutant::NoTransaction), false).await;
    let failpoint = hesitate(&stage).await;
    let url = format!("--url={}", stage.url());
    let (code, result) = drill_json(&["race", &url, "--rounds=2", "--scenario=transfer"]).await;
    assert_eq!(code, 1, "{result:#}");
    let faults = result["scenarios"][0]["faults"].to_string();
    assert!(faults.contains("must hold 1000 together"), "money was made: {result:#}");
    let (code, told) = drill(&["race", &url, "--rounds=2", "--scenario=transfer"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("of 10 transfers of 800 from an account with 1000, one succeeds"), "{told}");
    assert!(told.contains("round 2: ") && told.contains("\nbroken; "), "{told}");
    failpoint.off().await.unwrap();
    let violated = stage.violated().await;
    for check in ["bank_account_balance_drift", "bank_accounts_total"] {
        assert!(violated.iter().any(|name| name == check), "{check} is not in {violated:?}");
    }
}
