//! A ledger that does as it must is proven to, however its transactions meet.

use crate::stage::{Stage, drill, drill_json};

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_does_as_it_must_is_proven() {
    for take_turns in [true, false] {
        let stage = Stage::with(None, take_turns).await;
        let url = format!("--url={}", stage.url());
        let (code, result) = drill_json(&["race", &url, "--rounds=2"]).await;
        assert_eq!(code, 0, "{result:#}");
        assert_eq!(result["verdict"], "proven");
        let scenarios = result["scenarios"].as_array().unwrap();
        assert_eq!(scenarios.len(), 9);
        for scenario in scenarios {
            assert_eq!(
                (&scenario["verdict"], &scenario["rounds"]),
                (&"proven".into(), &2.into()),
                "{scenario:#}"
            );
        }
        // What it says of the answers is what the ledger counted.
        let rejected = |operation: &str| {
            let labels = [("operation", operation), ("outcome", "rejected")];
            stage.scrape().sum("transaction_failures_total", &labels)
        };
        assert_eq!(rejected("POST /api/bank-transfers"), 18.0);
        assert_eq!(rejected("POST /api/bank-transfers/{id}/cancel"), 18.0);
        assert_eq!(rejected("POST /api/retainers/{id}/consume"), 28.0);
        assert_eq!(rejected("POST /api/payments/{id}/complete"), 36.0);
        assert_eq!(stage.violated().await, [""; 0]);

        let (code, told) = drill(&["race", &url, "--rounds=1", "--concurrency=3", "--scenario=cancel"]).await;
        assert_eq!(code, 0, "{told}");
        let answers = "1 × 200, 2 × 400 Transfer already cancelled";
        assert!(told.contains("cancel    1       3         proven") && told.contains(answers), "{told}");
        assert!(!told.contains("consume"), "{told}");
    }
}
