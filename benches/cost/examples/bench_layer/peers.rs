//! The contenders of the benchmark, around the no-op service and on the router.

use anyhow::Result;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum_prometheus::PrometheusMetricLayer;
use cost::{Contender, NoOp, router};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower_http_peer::metrics::InFlightRequestsLayer;
use tower_http_peer::trace::TraceLayer;
use tower_layer::Layer;
use txnscope::Registry;

use crate::floor::{FloorCounters, FloorLayer};

/// Contenders around the same service; the first one has no layer, the second one no service.
pub(crate) struct ContenderSet {
    pub(crate) contenders: Vec<Contender>,
    /// Whether requests carry a matched route template.
    pub(crate) below_router: bool,
}

/// Installs the process's recorder, for contenders that require it.
pub(crate) fn install_recorder() -> Result<PrometheusHandle> {
    const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let mut builder = PrometheusBuilder::new();
    for name in ["axum_http_requests_duration_seconds", "http_requests_duration_seconds"] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS)?;
    }
    Ok(builder.install_recorder()?)
}

/// The contenders around the no-op service.
pub(crate) fn around_no_op(registry: Registry) -> ContenderSet {
    let contenders = vec![
        cost::without(),
        floor(),
        Contender::new("floor, as a layer", FloorLayer(counters()).layer(NoOp)),
        cost::routed(registry),
        cost::named(registry),
        Contender::new("tower-http `InFlightRequests`", in_flight().layer(NoOp)),
        Contender::new("tower-http `TraceLayer`, no subscriber", TraceLayer::new_for_http().layer(NoOp)),
        Contender::new("axum's example of metrics", from_fn(track).layer(NoOp)),
        Contender::new("axum-prometheus", PrometheusMetricLayer::new().layer(NoOp)),
    ];
    ContenderSet { contenders, below_router: true }
}

/// The contenders on the router.
pub(crate) fn on_router(registry: Registry) -> ContenderSet {
    let contenders = vec![
        cost::router_without(),
        floor(),
        Contender::new("floor, as a layer", router().layer(FloorLayer(counters()))),
        cost::on_router(registry),
        Contender::new("tower-http `InFlightRequests`", router().layer(in_flight())),
        Contender::new("tower-http `TraceLayer`, no subscriber", router().layer(TraceLayer::new_for_http())),
        Contender::new("axum's example of metrics", router().layer(from_fn(track))),
        Contender::new("axum-prometheus", router().layer(PrometheusMetricLayer::new())),
    ];
    ContenderSet { contenders, below_router: false }
}

/// The floor by itself, without a request.
fn floor() -> Contender {
    let counters = counters();
    Contender::of("floor", move || counters.count())
}

fn in_flight() -> InFlightRequestsLayer {
    let (layer, _counter) = InFlightRequestsLayer::pair();
    layer
}

fn counters() -> &'static FloorCounters {
    Box::leak(Box::default())
}

/// The middleware of axum's Prometheus example: it creates labels and handles for each request.
async fn track(request: Request, next: Next) -> Response {
    let begin = begin();
    let path = match request.extensions().get::<MatchedPath>() {
        Some(matched) => matched.as_str().to_owned(),
        None => request.uri().path().to_owned(),
    };
    let method = request.method().clone();
    let response = next.run(request).await;
    let labels =
        [("method", method.to_string()), ("path", path), ("status", response.status().as_u16().to_string())];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_requests_duration_seconds", &labels).record(begin.elapsed().as_secs_f64());
    response
}

#[allow(clippy::disallowed_methods, reason = "the example has that clock")]
fn begin() -> std::time::Instant {
    std::time::Instant::now()
}
