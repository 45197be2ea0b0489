//! The global recorder with an exporter builder. A program of its own with one test, because a process has one global
//! recorder.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use txnscope::{Metrics, Operation, TransactionLayer};

#[test]
fn custom_builder_sets_application_buckets() {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("cart_items".to_owned()), &[1.0, 3.0, 10.0])
        .unwrap()
        .add_global_label("region", "north");
    let metrics = Metrics::install_with(builder).unwrap();
    drop(TransactionLayer::named("job").declare([Operation::new("declared")]));
    for value in 0..20 {
        metrics::histogram!("cart_items").record(f64::from(value));
    }
    let page = metrics.render();
    for line in [
        "# TYPE cart_items histogram",
        "cart_items_bucket{region=\"north\",le=\"3\"} 4",
        "cart_items_bucket{region=\"north\",le=\"+Inf\"} 20",
        // The builder's label is not on the catalog's metrics.
        "transaction_attempts_total{operation=\"declared\"} 0",
    ] {
        assert!(page.lines().any(|there| there == line), "{line} is not on the page:\n{page}");
    }
    assert!(page.contains(
        "transaction_duration_seconds_bucket{operation=\"declared\",outcome=\"succeeded\",le=\"0.25\"} 0"
    ));
}
