//! The global recorder: one test, because a process has one.

mod common;

use std::convert::Infallible;
use std::future::ready;

use common::assert_value;
use tower::{Layer, ServiceExt, service_fn};
use txnscope::{InstallError, Metrics, Operation, Reason, TransactionLayer};

#[tokio::test]
async fn the_global_recorder_is_installed_once_and_serves_the_whole_process() {
    // A layer may be built before: what it declares waits for the recorder.
    let layer =
        TransactionLayer::named("job").declare([Operation::new("declared").rejects(&[Reason::APPLICATION])]);
    let metrics = Metrics::install().unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"declared\"}", 0.0);
    layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(())))).oneshot(()).await.unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"job\"}", 1.0);

    // The application's own metrics come out on the same page, its own histograms included.
    metrics::counter!("app_logins_total").increment(2);
    metrics::histogram!("app_seconds").record(0.5);
    let page = metrics.render_off_worker().await;
    assert!(page.contains("app_logins_total 2"), "{page}");
    assert!(page.contains("app_seconds_count 1"), "{page}");

    assert!(matches!(Metrics::install(), Err(InstallError::AlreadyInstalled)));
}
