//! An axum backend with the layer, the runner, a metrics page, limits, and a graceful shutdown.
//!
//! ```console
//! $ export MONGODB_URI='mongodb://127.0.0.1:27017/?replicaSet=rs0'
//! $ cargo run --all-features --example axum
//! $ curl -X PUT http://127.0.0.1:3000/api/retainers/r1
//! $ curl -X POST http://127.0.0.1:3000/api/retainers/r1/consume
//! $ curl http://127.0.0.1:3000/metrics
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use txnscope::{Metrics, Operation, Reason, TransactionError, TransactionLayer, TransactionRunner};

// A business rule that refuses a request: counted as rejected, which is no failure and triggers no alert.
const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
const OPEN: Operation = Operation::new("PUT /api/retainers/{id}");
const CONSUME: Operation =
    Operation::new("POST /api/retainers/{id}/consume").rejection_reasons(&[INSUFFICIENT_BALANCE]);

// A transaction ends before its request does, so that the response has the cause. Kubernetes kills the process after 30 s.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(8);
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);

#[derive(Clone)]
struct App {
    runner: TransactionRunner,
    retainers: Collection<Document>,
}

#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    tracing_subscriber::fmt().init(); // each operation that did not succeed is one log event
    let mut terminate = signal(SignalKind::terminate())?;
    let uri = std::env::var("MONGODB_URI").context("set MONGODB_URI to the URI of a replica set")?;
    let address = std::env::var("LISTEN_ADDRESS").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());

    let metrics = Metrics::install()?;
    let client = Client::with_uri_str(uri).await?;
    let retainers = client.database("shop").collection("retainers");
    let runner = TransactionRunner::new(&client).time_limit(TRANSACTION_LIMIT);

    let router = Router::new()
        .route("/api/retainers/{id}", put(open).get(show)) // GET, HEAD, OPTIONS and TRACE are not counted
        .route("/api/retainers/{id}/consume", post(consume))
        // Limits are inside of the transaction layer: requests that they stop are counted as failed, and not as cancelled.
        .layer(GlobalConcurrencyLimitLayer::new(100)) // the others wait, which is a part of their duration
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_LIMIT)) // `failed`, `timeout`
        .layer(TransactionLayer::new().declare([OPEN, CONSUME])) // exported as zero before the first request
        // Routes that are added after the layer are not counted.
        .route("/healthz", get(async || "ok"))
        .merge(metrics.router()) // GET /metrics, for Prometheus
        .merge(metrics.registry().open_transactions_router()) // GET /-/transactions, for a sidecar on this machine
        .with_state(App { runner: runner.clone(), retainers });

    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(async { server.await });

    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    drop(stop); // no new connections; requests in flight continue
    let finish = async {
        server.await??;
        // The runner ends the transactions of requests that timed out or were cancelled in the background. Without this wait,
        // such a transaction stays open on the server for up to 60 s, and other writers of its documents conflict with it.
        runner.wait_idle().await;
        Ok(())
    };
    tokio::time::timeout(SHUTDOWN_LIMIT, finish).await.context("requests or cleanups did not end in time")?
}

/// A write without a transaction, which is counted as an operation all the same.
async fn open(State(app): State<App>, Path(id): Path<String>) -> StatusCode {
    let balance = doc! { "$setOnInsert": { "balance": 1_000 } };
    match app.retainers.update_one(doc! { "_id": id }, balance).upsert(true).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE, // 5xx: counted as failed
    }
}

async fn show(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.retainers.find_one(doc! { "_id": id }).await {
        Ok(Some(retainer)) => retainer.to_string().into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Takes 800 from a retainer, if that much is left.
async fn consume(State(app): State<App>, Path(id): Path<String>) -> Response {
    // Transactions of this process on the same retainer run one after another instead of conflicting.
    let run = app.runner.serialize_on(&id).run(async |mut tx| {
        let enough = doc! { "_id": &id, "balance": { "$gte": 800 } };
        let take = doc! { "$inc": { "balance": -800 } };
        // Every statement of the transaction needs its session.
        let taken = app.retainers.update_one(enough, take).session(&mut tx).await?;
        if taken.matched_count == 0 {
            return Err(INSUFFICIENT_BALANCE.into()); // aborts the transaction
        }
        Ok(()) // commits it; the runner retries both, as MongoDB's specification requires
    });
    let error = match run.await {
        Ok(_) => return StatusCode::NO_CONTENT.into_response(),
        Err(error) => error,
    };
    let status = match &error {
        TransactionError::Rejected { .. } => StatusCode::BAD_REQUEST,
        TransactionError::Failed(failure) if failure.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    // The classification is the outcome that is counted. Without one, the status decides.
    (status, error.classification(), error.reason().as_str()).into_response()
}
