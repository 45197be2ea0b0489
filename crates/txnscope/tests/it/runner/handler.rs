//! The runner inside an axum handler: borrowing callbacks compile, and the operation is the request's.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use tower::ServiceExt;
use txnscope::{Abort, Reason, Transaction, TransactionLayer, TransactionRunner};

use crate::env::{Environment, NO};

struct App {
    runner: TransactionRunner,
    items: Collection<Document>,
}

/// Borrows its arguments for as long as the transaction takes.
async fn take(
    items: &Collection<Document>,
    id: &str,
    amount: i32,
    tx: &mut Transaction,
) -> Result<(), Abort<Reason>> {
    let enough = doc! {"_id": id, "n": {"$gte": amount}};
    let taken = items.update_one(enough, doc! {"$inc": {"n": -amount}}).session(tx).await?;
    if taken.matched_count == 0 { Err(NO.into()) } else { Ok(()) }
}

async fn consume(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let (items, id, amount) = (&app.items, id.as_str(), 800);
    let done = app.runner.serialize_on(id).run(async |mut tx| take(items, id, amount, &mut tx).await).await;
    match done {
        Ok(_) => StatusCode::OK.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.classification(), "no").into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_consumptions_beyond_balance_are_rejected() {
    let env = Environment::start().await;
    env.items_of_others().insert_one(doc! {"_id": "r", "n": 1_000}).await.unwrap();
    let app = App { runner: env.runner.clone(), items: env.items() };
    let router = axum::Router::new()
        .route("/items/{id}/consume", post(consume))
        .layer(TransactionLayer::with_registry(env.metrics.registry()))
        .with_state(Arc::new(app));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let request = Request::post("/items/r/consume").body(Body::empty()).unwrap();
        callers.spawn(router.clone().oneshot(request));
    }
    let mut succeeded = 0;
    while let Some(answer) = callers.join_next().await {
        succeeded += usize::from(answer.unwrap().unwrap().status() == StatusCode::OK);
    }
    assert_eq!(succeeded, 1);
    env.wait_idle().await;
    let page = env.metrics.render();
    let operation = "operation=\"POST /items/{id}/consume\"";
    for line in [
        format!("transaction_failures_total{{{operation},outcome=\"rejected\",reason=\"no\"}} 9"),
        format!("mongodb_client_transactions_started_total{{{operation}}} 10"),
        format!("mongodb_client_transactions_committed_total{{{operation}}} 1"),
        format!("mongodb_client_transactions_aborted_total{{{operation},reason=\"no\"}} 9"),
        format!("mongodb_client_transactions_aborted_total{{{operation},reason=\"write_conflict\"}} 0"),
        format!("mongodb_client_transaction_queue_wait_seconds_count{{{operation}}} 10"),
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not on the page:\n{page}");
    }
    let left = env.items_of_others().find_one(doc! {"_id": "r"}).await.unwrap().unwrap();
    assert_eq!(left.get_i32("n").unwrap(), 200);
}

/// A handler that conflicts once and commits, and then rejects the request for another reason.
async fn commits_and_refuses(State(app): State<Arc<App>>) -> Response {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let committed = app.runner.run(async |mut tx| {
        app.items.find_one(doc! {"_id": "r"}).session(&mut tx).await?;
        if calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            app.items.update_one(doc! {"_id": "r"}, doc! {"$inc": {"n": 1}}).await?;
        }
        app.items.update_one(doc! {"_id": "r"}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
        Ok::<_, Abort>(())
    });
    assert_eq!(committed.await.unwrap().attempts, 2);
    StatusCode::UNPROCESSABLE_ENTITY.into_response()
}

#[tokio::test]
async fn committed_transaction_clears_attempt_reason() {
    let env = Environment::start().await;
    env.items_of_others().insert_one(doc! {"_id": "r", "n": 0}).await.unwrap();
    let app = App { runner: env.runner.clone(), items: env.items() };
    let router = axum::Router::new()
        .route("/commits", post(commits_and_refuses))
        .layer(TransactionLayer::with_registry(env.metrics.registry()))
        .with_state(Arc::new(app));
    let answer = router.oneshot(Request::post("/commits").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = env.metrics.render();
    let operation = "operation=\"POST /commits\"";
    for line in [
        format!(
            "transaction_failures_total{{{operation},outcome=\"rejected\",reason=\"invalid_request\"}} 1"
        ),
        format!("mongodb_client_transactions_aborted_total{{{operation},reason=\"write_conflict\"}} 1"),
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not on the page:\n{page}");
    }
    env.wait_idle().await;
}

#[tokio::test]
async fn open_transactions_route_is_local_only() {
    let metrics = txnscope::Metrics::isolated().unwrap();
    let router: axum::Router = metrics.registry().open_transactions_router();
    let ask_with = async |peer: Option<&str>, headers: &[(&str, &str)]| {
        let mut request = Request::get("/-/transactions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            let peer: std::net::SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        }
        let answer = router.clone().oneshot(request).await.unwrap();
        let (status, body) =
            (answer.status(), axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap());
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let ask = async |peer: Option<&str>| ask_with(peer, &[]).await;
    for local in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        assert_eq!(
            ask(Some(local)).await,
            (StatusCode::OK, r#"{"pools":[],"queues":[],"transactions":[]}"#.to_owned()),
            "{local}"
        );
    }
    assert_eq!(ask(Some("10.0.0.1:9")).await.0, StatusCode::FORBIDDEN);
    let (status, advice) = ask(None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(advice.contains("into_make_service_with_connect_info"), "{advice}");

    let from_here = async |name: &str, value: &str| ask_with(Some("127.0.0.1:9"), &[(name, value)]).await;
    for host in ["127.0.0.1:3000", "127.0.0.2", "localhost:3000", "LOCALHOST", "localhost.", "[::1]:3000"] {
        assert_eq!(from_here("host", host).await.0, StatusCode::OK, "{host}");
    }
    // A browser after DNS rebinding.
    for host in
        ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", "10.0.0.1:3000", "[2001:db8::1]", ""]
    {
        let (status, advice) = from_here("host", host).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{host}");
        assert!(advice.contains("localhost"), "{advice}");
    }
    // A proxy on this machine, which forwards another client's request.
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip"] {
        let (status, advice) = from_here(name, "127.0.0.1").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}");
        assert!(advice.contains("proxy"), "{advice}");
    }
}
