//! The global recorder. A program of its own with one test, because a process has one global recorder.

#[path = "it/common.rs"]
mod common;

use std::convert::Infallible;
use std::future::ready;

use common::assert_value;
use tower::{Layer, ServiceExt, service_fn};
use txnscope::{InstallError, Metrics, Operation, Reason, TransactionLayer};

#[tokio::test]
async fn global_recorder_installs_once() {
    // A layer may be built before the recorder is installed: its declarations are resolved later.
    let layer = TransactionLayer::named("job")
        .declare([Operation::new("declared").rejection_reasons(&[Reason::APPLICATION])]);
    let metrics = Metrics::install().unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"declared\"}", 0.0);
    layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(())))).oneshot(()).await.unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"job\"}", 1.0);

    // The application's own metrics are rendered on the same page, including its histograms.
    metrics::counter!("app_logins_total").increment(2);
    metrics::histogram!("app_seconds").record(0.5);
    let page = metrics.render_off_worker().await;
    assert!(page.contains("app_logins_total 2"), "{page}");
    assert!(page.contains("app_seconds_count 1"), "{page}");

    // An application histogram without configured buckets has default buckets.
    for value in 0..1_000 {
        metrics::histogram!("app_items").record(f64::from(value));
    }
    let page = metrics.render();
    assert!(page.contains("# TYPE app_items histogram"), "{page}");
    assert!(page.contains("app_items_bucket{le=\"500\"} 501"), "{page}");

    // A catalog name that the application registers with another kind makes no second family.
    metrics::gauge!("transaction_attempts_total", "operation" => "job").set(7.0);
    metrics::counter!("concurrent_operations").increment(7);
    metrics::histogram!("transaction_failures_total").record(7.0);
    metrics::counter!("transaction_duration_seconds").increment(7);
    metrics::counter!("transaction_duration_seconds_count", "operation" => "job").increment(7);
    metrics::describe_gauge!("transaction_attempts_total", "of the application");
    metrics::describe_counter!("app_logins_total", "Logins.");
    metrics::describe_histogram!("app_seconds", "Seconds.");
    metrics::describe_histogram!("app_items", "Items.");
    let page = metrics.render();
    let mut families: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup_by_key(|line| line.split(' ').nth(2));
    assert_eq!(families.len(), all, "a family is there twice:\n{page}");
    assert_value(&metrics, "transaction_attempts_total{operation=\"job\"}", 1.0);
    testkit::promtool::check_metrics(&page).await.unwrap();

    assert!(matches!(Metrics::install(), Err(InstallError::AlreadyInstalled)));
}
