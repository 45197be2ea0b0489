//! The limit of operations: clients cannot exhaust it before the application's own names are registered.

use crate::common::{assert_counters_balance, value};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower::ServiceExt;
use txnscope::{Classification, Metrics, Operation, Reason, TransactionLayer, scope};

const ROUTES: usize = 60;
const METHODS: [&str; 9] = ["PUT", "PATCH", "DELETE", "PURGE", "BREW", "CONNECT", "LINK", "MKCOL", "LOCK"];

async fn ask(app: &Router, method: &str, path: &str) -> StatusCode {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

fn attempts(metrics: &Metrics, operation: &str) -> Option<f64> {
    value(metrics, &format!("transaction_attempts_total{{operation=\"{operation}\"}}"))
}

fn operations(metrics: &Metrics) -> usize {
    metrics.render().lines().filter(|line| line.starts_with("transaction_attempts_total{")).count()
}

fn routes() -> Router {
    let routes = (0..ROUTES).map(|index| format!("/r{index}/{{id}}"));
    routes.fold(Router::new(), |app, route| app.route(&route, post(|| async { "done" })))
}

#[tokio::test]
async fn method_not_allowed_registers_no_operation() {
    let metrics = Metrics::isolated().unwrap();
    let app = routes().layer(TransactionLayer::with_registry(metrics.registry()));
    for method in METHODS {
        for index in 0..ROUTES {
            assert_eq!(ask(&app, method, &format!("/r{index}/1")).await, StatusCode::METHOD_NOT_ALLOWED);
        }
    }
    assert_eq!(operations(&metrics), 1, "{}", metrics.render());
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let asked = (METHODS.len() * ROUTES) as f64;
    assert_eq!(attempts(&metrics, "unmatched"), Some(asked));
    for index in 0..ROUTES {
        assert_eq!(ask(&app, "POST", &format!("/r{index}/1")).await, StatusCode::OK);
        assert_eq!(attempts(&metrics, &format!("POST /r{index}/{{id}}")), Some(1.0));
    }
    assert_counters_balance(&metrics);
}

/// An authentication layer between this layer and the routes responds before the method is matched.
#[tokio::test]
async fn rejected_names_leave_room_for_routes() {
    async fn authenticate(request: Request, next: Next) -> Response {
        if request.headers().contains_key("authorization") {
            next.run(request).await
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        }
    }
    let metrics = Metrics::isolated().unwrap();
    let app = routes()
        .layer(middleware::from_fn(authenticate))
        .layer(TransactionLayer::with_registry(metrics.registry()));
    for method in METHODS {
        for index in 0..ROUTES {
            assert_eq!(ask(&app, method, &format!("/r{index}/1")).await, StatusCode::UNAUTHORIZED);
        }
    }
    for index in 0..ROUTES {
        let request = Request::post(format!("/r{index}/1")).header("authorization", "me").body(Body::empty());
        assert_eq!(app.clone().oneshot(request.unwrap()).await.unwrap().status(), StatusCode::OK);
        assert_eq!(attempts(&metrics, &format!("POST /r{index}/{{id}}")), Some(1.0), "{index}");
    }
    assert_eq!(attempts(&metrics, "overflow"), None);
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn first_request_is_counted_under_its_name() {
    async fn panics() {
        panic!("as scripted");
    }
    let metrics = Metrics::isolated().unwrap();
    let layer = || TransactionLayer::with_registry(metrics.registry());
    let app = Router::new()
        .route("/refused", post(|| async { StatusCode::UNPROCESSABLE_ENTITY }))
        .route("/unauthorized", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/failed", post(|| async { StatusCode::SERVICE_UNAVAILABLE }))
        .route("/panics", post(panics))
        .route("/never", post(std::future::pending::<()>))
        // A handler may return 405 itself.
        .route(
            "/said",
            post(|| async {
                (StatusCode::METHOD_NOT_ALLOWED, Classification::rejected(Reason::APPLICATION), "no")
            }),
        )
        .route("/twice", post(|| async { "done" }).layer(layer()))
        .layer(layer());
    for path in ["refused", "unauthorized", "failed", "said", "twice"] {
        ask(&app, "POST", &format!("/{path}")).await;
    }
    let panicked = tokio::spawn({
        let app = app.clone();
        async move { ask(&app, "POST", "/panics").await }
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let never = ask(&app, "POST", "/never");
    tokio::select! {
        biased;
        _ = never => unreachable!("it is pending"),
        () = tokio::task::yield_now() => {}
    }
    for (path, outcome) in [
        ("refused", "rejected"),
        ("unauthorized", "rejected"),
        ("failed", "failed"),
        ("said", "rejected"),
        ("panics", "panicked"),
        ("never", "cancelled"),
        ("twice", "succeeded"),
    ] {
        let labels = format!("operation=\"POST /{path}\",outcome=\"{outcome}\"");
        let series = format!("transaction_duration_seconds_count{{{labels}}}");
        assert_eq!(value(&metrics, &series), Some(1.0), "{path}\n{}", metrics.render());
        assert_eq!(attempts(&metrics, &format!("POST /{path}")), Some(1.0), "{path}");
    }
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn first_request_is_in_flight_after_scope_access() {
    let metrics = Metrics::isolated().unwrap();
    let (asked, was_asked) = tokio::sync::mpsc::channel(1);
    let handler = move || {
        let asked = asked.clone();
        async move {
            assert_eq!(scope::operation(), Some("POST /slow"));
            scope::note_reason(Reason::WRITE_CONFLICT);
            let handle = scope::current().unwrap();
            assert_eq!(handle.operation(), "POST /slow");
            asked.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let app = Router::new()
        .route("/slow", post(handler))
        .layer(TransactionLayer::with_registry(metrics.registry()));
    let request = tokio::spawn(async move { ask(&app, "POST", "/slow").await });
    let mut was_asked = was_asked;
    was_asked.recv().await.unwrap();
    let in_flight = |metrics: &Metrics| value(metrics, "concurrent_operations{operation=\"POST /slow\"}");
    assert_eq!(in_flight(&metrics), Some(1.0));
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert_eq!(in_flight(&metrics), Some(0.0));
    assert_counters_balance(&metrics);
}

#[tokio::test]
async fn declared_operation_is_in_flight_from_first_request() {
    let metrics = Metrics::isolated().unwrap();
    let layer = TransactionLayer::with_registry(metrics.registry()).declare([Operation::new("POST /slow")]);
    let app = Router::new().route("/slow", post(std::future::pending::<()>)).layer(layer);
    let mut request = Box::pin(ask(&app, "POST", "/slow"));
    assert!(futures_util::poll!(request.as_mut()).is_pending());
    assert_eq!(value(&metrics, "concurrent_operations{operation=\"POST /slow\"}"), Some(1.0));
    drop(request);
    assert_counters_balance(&metrics);
}

/// An application on an axum with another `MatchedPath` type, or with a layer around the whole router.
#[test]
fn unmatched_success_is_warned_once() {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let metrics = Metrics::isolated().unwrap();
            let router = Router::new().route("/x", post(|| async { "done" }).merge(get(|| async { "read" })));
            let outside = tower::Layer::layer(&TransactionLayer::with_registry(metrics.registry()), router);
            for path in ["/nowhere", "/x", "/x", "/x"] {
                let request = Request::post(path).body(Body::empty()).unwrap();
                outside.clone().oneshot(request).await.unwrap();
            }
            assert_eq!(attempts(&metrics, "unmatched"), Some(4.0));
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("without a matched route") && warnings[0].contains("axum 0.8"), "{text}");
}
