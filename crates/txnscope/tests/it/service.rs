//! The layer on services other than HTTP. Compiles without any feature.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};

use crate::common::{assert_counters_balance, assert_value, value};
use tower::{Layer, Service, ServiceExt, service_fn};
use txnscope::{
    Classification, ClassifyRequest, ClassifyResponse, Metrics, OperationName, Reason, TransactionLayer,
    scope,
};

fn layer(metrics: &Metrics) -> TransactionLayer<Job> {
    TransactionLayer::with_classifier_and_registry(Job, metrics.registry())
}

/// A classifier of a queue's jobs: the request is the job's name, the response whether it was accepted.
#[derive(Clone)]
struct Job;

impl ClassifyRequest<&'static str> for Job {
    fn operation<'a>(&'a self, job: &'a &'static str) -> Option<OperationName<'a>> {
        (*job != "heartbeat").then_some(OperationName::named(job))
    }
}

impl<E> ClassifyResponse<bool, E> for Job {
    fn response(&self, accepted: &bool) -> Classification {
        if *accepted {
            Classification::succeeded()
        } else {
            Classification::rejected(Reason::APPLICATION).overridable()
        }
    }

    fn error(&self, _: &E) -> Classification {
        Classification::failed(Reason::OTHER).overridable()
    }
}

#[tokio::test]
async fn responses_errors_and_noted_reasons_are_classified() {
    let metrics = Metrics::isolated().unwrap();
    let service = layer(&metrics).layer(service_fn(|job: &'static str| async move {
        match job {
            "good" | "heartbeat" => Ok(true),
            "refused" => Ok(false),
            "conflict" => {
                scope::note_reason(Reason::NETWORK);
                scope::note_reason(Reason::WRITE_CONFLICT);
                Err("lost the race")
            }
            "recovered" => {
                scope::note_reason(Reason::WRITE_CONFLICT);
                Ok(true)
            }
            _ => Err("broken"),
        }
    }));
    for job in ["good", "heartbeat", "refused", "conflict", "recovered", "broken"] {
        let _ = service.clone().oneshot(job).await;
    }
    let failures = "transaction_failures_total";
    assert_value(
        &metrics,
        "transaction_duration_seconds_count{operation=\"good\",outcome=\"succeeded\"}",
        1.0,
    );
    assert_value(
        &metrics,
        "transaction_duration_seconds_count{operation=\"recovered\",outcome=\"succeeded\"}",
        1.0,
    );
    assert_value(
        &metrics,
        &format!("{failures}{{operation=\"refused\",outcome=\"rejected\",reason=\"application\"}}"),
        1.0,
    );
    assert_value(
        &metrics,
        &format!("{failures}{{operation=\"conflict\",outcome=\"failed\",reason=\"write_conflict\"}}"),
        1.0,
    );
    assert_value(
        &metrics,
        &format!("{failures}{{operation=\"broken\",outcome=\"failed\",reason=\"other\"}}"),
        1.0,
    );
    assert_eq!(
        value(&metrics, "transaction_attempts_total{operation=\"heartbeat\"}"),
        None,
        "passed through"
    );
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn dropped_future_counts_as_cancelled() {
    let metrics = Metrics::isolated().unwrap();
    let mut service =
        layer(&metrics).layer(service_fn(|_: &'static str| pending::<Result<bool, Infallible>>()));
    let mut polled = Box::pin(service.ready().await.unwrap().call("polled"));
    assert!(futures_poll(&mut polled).is_pending());
    assert_value(&metrics, "concurrent_operations{operation=\"polled\"}", 1.0);
    drop(polled);
    drop(service.ready().await.unwrap().call("never_polled"));
    for job in ["polled", "never_polled"] {
        assert_value(&metrics, &format!("concurrent_operations{{operation=\"{job}\"}}"), 0.0);
        assert_value(
            &metrics,
            &format!(
                "transaction_failures_total{{operation=\"{job}\",outcome=\"cancelled\",reason=\"cancelled\"}}"
            ),
            1.0,
        );
    }
    assert_counters_balance(&metrics);
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn panic_is_counted_once() {
    let metrics = Metrics::isolated().unwrap();
    let counted = |job: &str| {
        assert_value(
            &metrics,
            &format!(
                "transaction_failures_total{{operation=\"{job}\",outcome=\"panicked\",reason=\"panic\"}}"
            ),
            1.0,
        );
    };

    let mut in_call = layer(&metrics)
        .layer(service_fn(|_: &'static str| -> Ready<Result<bool, Infallible>> { panic!("in call") }));
    assert!(catch_unwind(AssertUnwindSafe(|| in_call.call("in_call"))).is_err());
    counted("in_call");

    let service = service_fn(|_: &'static str| async {
        if true { panic!("in poll") } else { Ok::<_, Infallible>(true) }
    });
    // The task ends with the panic: the future is dropped while unwinding.
    assert!(tokio::spawn(layer(&metrics).layer(service).oneshot("in_task")).await.is_err());
    counted("in_task");

    // A caller catches the panic, and drops the future later.
    let mut future = Box::pin(layer(&metrics).layer(service).oneshot("caught"));
    assert!(catch_unwind(AssertUnwindSafe(|| futures_poll(&mut future))).is_err());
    drop(future);
    counted("caught");
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn readiness_error_is_counted_once() {
    #[derive(Clone)]
    struct Broken;
    impl Service<&'static str> for Broken {
        type Response = bool;
        type Error = &'static str;
        type Future = Ready<Result<bool, &'static str>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err("no connection"))
        }
        fn call(&mut self, _: &'static str) -> Self::Future {
            ready(Ok(true))
        }
    }
    let metrics = Metrics::isolated().unwrap();
    assert_eq!(layer(&metrics).layer(Broken).oneshot("any").await, Err("no connection"));
    assert_value(&metrics, "transaction_attempts_total{operation=\"not_ready\"}", 1.0);
    assert_value(
        &metrics,
        "transaction_failures_total{operation=\"not_ready\",outcome=\"failed\",reason=\"other\"}",
        1.0,
    );

    let mut named = TransactionLayer::named_with_registry("worker", metrics.registry()).layer(Broken);
    assert!(named.ready().await.is_err());
    assert_value(
        &metrics,
        "transaction_failures_total{operation=\"worker\",outcome=\"failed\",reason=\"other\"}",
        1.0,
    );
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn readiness_is_delegated_to_inner_service() {
    let metrics = Metrics::isolated().unwrap();
    let (mock, mut handle) = tower_test::mock::spawn_layer(layer(&metrics));
    let mut mock: tower_test::mock::Spawn<_> = mock;
    handle.allow(0);
    assert!(mock.poll_ready().is_pending());
    handle.allow(1);
    assert!(mock.poll_ready().is_ready());
    let response = mock.call("job");
    let (request, reply) = handle.next_request().await.unwrap();
    assert_eq!(request, "job");
    reply.send_response(true);
    assert!(response.await.unwrap());
    assert_value(&metrics, "transaction_attempts_total{operation=\"job\"}", 1.0);
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn nested_layer_does_not_count_twice() {
    let metrics = Metrics::isolated().unwrap();
    let inner = layer(&metrics).layer(service_fn(|_: &'static str| ready(Ok::<_, Infallible>(true))));
    layer(&metrics).layer(inner).oneshot("once").await.unwrap();
    assert_value(&metrics, "transaction_attempts_total{operation=\"once\"}", 1.0);
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn spawned_task_uses_operation_handle() {
    let metrics = Metrics::isolated().unwrap();
    let service = layer(&metrics).layer(service_fn(|_: &'static str| async {
        let operation = scope::current().expect("inside of an operation");
        let without = tokio::spawn(async { scope::operation() }).await.unwrap();
        assert_eq!(without, None, "a scope is not inherited");
        let with = tokio::spawn(operation.scope(async {
            scope::note_reason(Reason::WRITE_CONFLICT);
            scope::operation()
        }));
        assert_eq!(with.await.unwrap(), Some("spawning"));
        Err::<bool, _>("lost")
    }));
    assert!(service.oneshot("spawning").await.is_err());
    assert_value(
        &metrics,
        "transaction_failures_total{operation=\"spawning\",outcome=\"failed\",reason=\"write_conflict\"}",
        1.0,
    );
    assert_eq!(scope::operation(), None, "the scope ends with the request");
    assert_value(&metrics, "transaction_attempts_total{operation=\"spawning\"}", 1.0);
    assert_counters_balance(&metrics);
}

/// A scrape is not atomic: requests start and end while it is rendered. Its counters must balance all the same.
#[tokio::test]
async fn nested_operations_keep_separate_reasons() {
    let metrics = Metrics::isolated().unwrap();
    let inner = layer(&metrics).layer(service_fn(|job: &'static str| async move {
        tokio::task::yield_now().await;
        if job == "inner, silent" {
            return Err("broken");
        }
        scope::note_reason(Reason::NETWORK);
        tokio::task::yield_now().await;
        Err::<bool, _>("broken")
    }));
    let outer = layer(&metrics).layer(service_fn(move |job: &'static str| {
        let inner = inner.clone();
        async move {
            if job.ends_with("noted") {
                scope::note_reason(Reason::WRITE_CONFLICT);
            }
            for job in ["inner, noted", "inner, silent"] {
                let _ = inner.clone().oneshot(job).await;
                tokio::task::yield_now().await;
            }
            Err::<bool, _>("broken")
        }
    }));
    for job in ["outer, noted", "outer, silent"] {
        let _ = outer.clone().oneshot(job).await;
    }
    assert_eq!(scope::operation(), None);
    for (operation, reason, times) in [
        ("outer, noted", "write_conflict", 1.0),
        ("outer, silent", "other", 1.0),
        ("inner, noted", "network", 2.0),
        ("inner, silent", "other", 2.0),
    ] {
        let labels = format!("operation=\"{operation}\",outcome=\"failed\",reason=\"{reason}\"");
        assert_value(&metrics, &format!("transaction_failures_total{{{labels}}}"), times);
    }
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn future_is_dropped_inside_its_scope() {
    /// Sends the operation in which it was dropped.
    struct Witness(Sender<Option<&'static str>>);

    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.send(scope::operation()).unwrap();
        }
    }

    let metrics = Metrics::isolated().unwrap();
    let (sender, dropped) = channel();
    let service = layer(&metrics).layer(service_fn(move |job: &'static str| {
        let witness = Witness(sender.clone());
        async move {
            let handle = scope::current().unwrap();
            let spawned = Witness(witness.0.clone());
            let mut spawned = pin!(handle.scope(async move {
                let _spawned = spawned;
                pending::<()>().await;
            }));
            assert!(futures_util::poll!(&mut spawned).is_pending());
            if job == "waits" {
                pending::<()>().await;
            }
            drop(witness);
            Ok::<_, &str>(true)
        }
    }));
    service.clone().oneshot("ends").await.unwrap();
    assert_eq!([dropped.recv(), dropped.recv()], [Ok(Some("ends")); 2]);
    let mut waits = Box::pin(service.oneshot("waits"));
    assert!(futures_util::poll!(&mut waits).is_pending());
    drop(waits);
    assert_eq!([dropped.recv(), dropped.recv()], [Ok(Some("waits")); 2]);
    assert_counters_balance(&metrics);
}

#[test]
fn every_scrape_balances_under_load() {
    let metrics = Metrics::isolated().unwrap();
    let service = layer(&metrics).layer(service_fn(|_: &'static str| ready(Ok::<_, Infallible>(true))));
    /// Ends the load, even when an assertion fails.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _ends = Done(&done);
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Relaxed) {
                    let mut response = Box::pin(service.clone().oneshot("busy"));
                    assert!(futures_poll(&mut response).is_ready());
                }
            });
        }
        for _ in 0..200 {
            let page = metrics.render();
            let read = |series: &str| -> f64 {
                let line = page.lines().find(|line| line.starts_with(series));
                line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
            };
            let attempts = read("transaction_attempts_total{operation=\"busy\"}");
            let ended = read("transaction_duration_seconds_count{operation=\"busy\",outcome=\"succeeded\"}");
            let in_flight = read("concurrent_operations{operation=\"busy\"}");
            assert_eq!(attempts, ended + in_flight);
        }
    });
}

#[test]
fn future_outliving_its_runtime_is_counted() {
    let metrics = Metrics::isolated().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (begun, waiting) = std::sync::mpsc::channel();
    let service = layer(&metrics).layer(service_fn(move |_: &'static str| {
        let begun = begun.clone();
        async move {
            begun.send(()).unwrap();
            pending::<Result<bool, Infallible>>().await
        }
    }));
    let tasks: Vec<_> = (0..50).map(|_| runtime.spawn(service.clone().oneshot("cut_off"))).collect();
    for _ in &tasks {
        waiting.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    }
    assert_value(&metrics, "concurrent_operations{operation=\"cut_off\"}", 50.0);
    // The runtime drops its tasks on its own threads; a task has ended once its future is dropped.
    runtime.shutdown_background();
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for task in tasks {
        assert!(other.block_on(task).unwrap_err().is_cancelled());
    }
    assert_value(
        &metrics,
        "transaction_failures_total{operation=\"cut_off\",outcome=\"cancelled\",reason=\"cancelled\"}",
        50.0,
    );
    assert_counters_balance(&metrics);
}
