//! The time that a request waits for the inner service's readiness.

use std::convert::Infallible;
use std::time::Duration;

use crate::common::{assert_counters_balance, value};
use tower::limit::ConcurrencyLimitLayer;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use txnscope::{Metrics, TransactionLayer};

const EACH: Duration = Duration::from_millis(50);

/// The layer reads the processor's counter and the tests the system's clock. Their rates differ by less than this share.
const CLOCK_DRIFT: f64 = 0.01;

/// Callers wait for one another at a concurrency limit: each waits for all earlier ones.
#[tokio::test]
async fn concurrency_limit_wait_counts_as_operation_time() {
    let metrics = Metrics::isolated().unwrap();
    let service = ServiceBuilder::new()
        .layer(TransactionLayer::named_with_registry("job", metrics.registry()))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(|()| async {
            tokio::time::sleep(EACH).await;
            Ok::<_, Infallible>(())
        }));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let service = service.clone();
        callers.spawn(async move {
            let begin = tokio::time::Instant::now();
            service.oneshot(()).await.unwrap();
            begin.elapsed()
        });
    }
    let mut waited = Duration::ZERO;
    while let Some(caller) = callers.join_next().await {
        waited += caller.unwrap();
    }
    let sum =
        value(&metrics, "transaction_duration_seconds_sum{operation=\"job\",outcome=\"succeeded\"}").unwrap();
    // 1 + 2 + 3 + 4 + 5 times; without the waits, 5.
    let least = (EACH * 15).as_secs_f64();
    let (least, most) = (least * (1.0 - CLOCK_DRIFT), waited.as_secs_f64() * (1.0 + CLOCK_DRIFT));
    assert!((least..=most).contains(&sum), "{sum} s, and the callers had {waited:?}");
    assert_counters_balance(&metrics);
}

/// A service that becomes ready long before its call has not waited for that time.
#[tokio::test]
async fn time_between_ready_and_call_is_not_counted() {
    use tower::Service;
    let metrics = Metrics::isolated().unwrap();
    let begin = tokio::time::Instant::now();
    let limit = tower::limit::ConcurrencyLimit::new(service_fn(|()| async { Ok::<_, Infallible>(()) }), 1);
    let other = limit.clone().ready_oneshot().await.unwrap();
    let layer = TransactionLayer::named_with_registry("job", metrics.registry());
    let mut service = tower::Layer::layer(&layer, limit);
    assert!(futures_util::poll!(service.ready()).is_pending());
    drop(other);
    service.ready().await.unwrap();
    let ready = tokio::time::Instant::now();
    tokio::time::sleep(EACH).await;
    let idle = ready.elapsed();
    service.call(()).await.unwrap();
    let rest = begin.elapsed() - idle;
    let sum =
        value(&metrics, "transaction_duration_seconds_sum{operation=\"job\",outcome=\"succeeded\"}").unwrap();
    let most = rest.as_secs_f64() + CLOCK_DRIFT * idle.as_secs_f64();
    assert!(sum <= most, "{sum} s, and all but the caller's own {idle:?} were {rest:?}");
}
