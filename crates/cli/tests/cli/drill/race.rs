//! A correct ledger passes all scenarios, with and without serialized transactions.

use crate::drill::environment::{Environment, drill, drill_json};

#[tokio::test(flavor = "multi_thread")]
async fn correct_backend_passes_all_scenarios() {
    for serialize_transactions in [true, false] {
        let env = Environment::with(None, serialize_transactions).await;
        let url = format!("--url={}", env.url());
        let (code, result) = drill_json(&["race", &url, "--rounds=2"]).await;
        assert_eq!(code, 0, "{result:#}");
        assert_eq!(result["result"], "passed");
        let scenarios = result["scenarios"].as_array().unwrap();
        assert_eq!(scenarios.len(), 9);
        for scenario in scenarios {
            assert_eq!(
                (&scenario["result"], &scenario["rounds"]),
                (&"passed".into(), &2.into()),
                "{scenario:#}"
            );
        }
        // The counts of the report match those of the ledger.
        let rejected = |operation: &str| {
            let labels = [("operation", operation), ("outcome", "rejected")];
            env.scrape().sum("transaction_failures_total", &labels)
        };
        assert_eq!(rejected("POST /api/bank-transfers"), 18.0);
        assert_eq!(rejected("POST /api/bank-transfers/{id}/cancel"), 18.0);
        assert_eq!(rejected("POST /api/retainers/{id}/consume"), 28.0);
        assert_eq!(rejected("POST /api/payments/{id}/complete"), 36.0);
        assert_eq!(env.violated().await, [""; 0]);

        let (code, text) = drill(&["race", &url, "--rounds=1", "--concurrency=3", "--scenario=cancel"]).await;
        assert_eq!(code, 0, "{text}");
        let answers = "1 × 200, 2 × 400 Transfer already cancelled";
        assert!(text.contains("cancel    1       3         passed") && text.contains(answers), "{text}");
        assert!(!text.contains("consume"), "{text}");
    }
}
