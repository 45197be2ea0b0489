//! The proxy's own pages: metrics, health and the operations in flight, on an address of their own.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::Html;
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use txnscope::Metrics;

use crate::in_flight::{self, OperationsInFlight};

const LANDING: &str = concat!(
    "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>txnscope proxy</title></head><body>\
     <h1>txnscope proxy ",
    env!("CARGO_PKG_VERSION"),
    "</h1><p>Operations of a backend, counted from outside.</p><p><a href=\"/metrics\">Metrics</a> · \
     <a href=\"/-/operations\">Operations in flight</a> · <a href=\"/-/healthy\">Healthy</a> · \
     <a href=\"/-/ready\">Ready</a></p></body></html>\n"
);

/// The landing page, `/metrics`, `/-/operations`, `/-/healthy` and `/-/ready`, which is 503 from the beginning of the drain on.
pub(crate) fn router(
    metrics: &Metrics,
    in_flight: Vec<Arc<OperationsInFlight>>,
    drain: CancellationToken,
) -> Router {
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
    let operations = move || {
        let json = in_flight::to_json(&in_flight);
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        async move { (headers, json) }
    };
    Router::new()
        .route("/", get(|| async { Html(LANDING) }))
        .route("/-/operations", get(operations))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready))
        .merge(metrics.router())
}
