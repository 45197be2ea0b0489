//! An axum backend with the layer, a `/metrics` route, and a graceful shutdown that waits for the runner's cleanups.
//!
//! ```console
//! $ export MONGODB_URI='mongodb://127.0.0.1:27017/?replicaSet=rs0'
//! $ cargo run --all-features --example axum
//! $ curl -X POST http://127.0.0.1:3000/api/retainers/r1/consume
//! $ curl http://127.0.0.1:3000/metrics
//! ```

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use tokio::net::TcpListener;
use txnscope::{Metrics, Operation, Reason, TransactionError, TransactionLayer, TransactionRunner};

const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
const CONSUME: Operation =
    Operation::new("POST /api/retainers/{id}/consume").rejection_reasons(&[INSUFFICIENT_BALANCE]);

#[tokio::main]
async fn main() -> Result<()> {
    let uri = std::env::args().nth(1).or_else(|| std::env::var("MONGODB_URI").ok());
    let uri = uri.context("pass the URI of a replica set as the argument or in MONGODB_URI")?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    run(&uri, Metrics::install()?, listener, ctrl_c).await
}

#[derive(Clone)]
struct App {
    runner: TransactionRunner,
    retainers: Collection<Document>,
}

pub(crate) async fn run(
    uri: &str,
    metrics: Metrics,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let client = Client::with_uri_str(uri).await?;
    let retainers = client.database("example").collection("retainers");
    let balance = doc! { "$setOnInsert": { "balance": 1_000 } };
    retainers.update_one(doc! { "_id": "r1" }, balance).upsert(true).await?;

    let runner = TransactionRunner::with_registry(&client, metrics.registry());
    let app = Router::new()
        .route("/api/retainers/{id}/consume", post(consume))
        .layer(TransactionLayer::with_registry(metrics.registry()).declare([CONSUME]))
        .merge(metrics.router())
        .with_state(App { runner: runner.clone(), retainers });
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await?;

    // Requests that were cancelled may have left transactions to the background.
    runner.wait_idle().await;
    Ok(())
}

/// Takes 800 from a retainer, if that much is left.
async fn consume(State(app): State<App>, Path(id): Path<String>) -> Response {
    let consumed = app
        .runner
        .run(async |mut tx| {
            let enough = doc! { "_id": &id, "balance": { "$gte": 800 } };
            let take = doc! { "$inc": { "balance": -800 } };
            let taken = app.retainers.update_one(enough, take).session(&mut tx).await?;
            if taken.matched_count == 0 {
                return Err(INSUFFICIENT_BALANCE.into());
            }
            Ok(())
        })
        .await;
    match consumed {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let status = match &error {
                TransactionError::Rejected { .. } => StatusCode::BAD_REQUEST,
                TransactionError::Failed(failure) if failure.is_transient() => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, error.classification(), error.reason().as_str()).into_response()
        }
    }
}
