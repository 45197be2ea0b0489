//! The proxy's own pages: metrics and health, on an address of their own.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use txnscope::Metrics;

/// `/metrics`, `/-/healthy` and `/-/ready`, which is 503 from the beginning of the drain on.
pub(crate) fn router(metrics: &Metrics, drain: CancellationToken) -> Router {
    let ready = move || {
        let draining = drain.is_cancelled();
        async move {
            if draining {
                (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            } else {
                (StatusCode::OK, "ready\n")
            }
        }
    };
    Router::new()
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready))
        .merge(metrics.router())
}
