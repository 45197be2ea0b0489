//! Liveness and readiness probes.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use mongodb::bson::doc;

use crate::state::Ledger;

const READY_WITHIN: Duration = Duration::from_secs(1);

/// Liveness: the process responds.
pub(crate) async fn healthy() -> &'static str {
    "ledger is healthy\n"
}

/// Readiness: the primary responds within a second.
pub(crate) async fn ready(State(ledger): State<Ledger>) -> (StatusCode, &'static str) {
    let admin = ledger.client().database("admin");
    let ping = admin.run_command(doc! { "ping": 1 });
    match tokio::time::timeout(READY_WITHIN, ping.into_future()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ledger is ready\n"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not respond\n"),
    }
}
