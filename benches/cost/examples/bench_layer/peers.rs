//! Those that our layer is measured beside, around the service that does nothing and on the router.

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

use crate::floor::{Books, FloorLayer};

/// Contenders with the same things to count around the same service; the first has no layer, the second no service.
pub(crate) struct Field {
    pub(crate) contenders: Vec<Contender>,
    /// Whether requests have passed a router before they come to the layer.
    pub(crate) below_router: bool,
}

/// Installs the recorder of the whole process, for peers that know no other.
pub(crate) fn install_recorder() -> Result<PrometheusHandle> {
    const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let mut builder = PrometheusBuilder::new();
    for name in ["axum_http_requests_duration_seconds", "http_requests_duration_seconds"] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS)?;
    }
    Ok(builder.install_recorder()?)
}

/// Around the service that does nothing.
pub(crate) fn around_no_op(registry: Registry) -> Field {
    let contenders = vec![
        cost::without(),
        floor(),
        Contender::new("floor, as a layer", FloorLayer(books()).layer(NoOp)),
        cost::routed(registry),
        cost::named(registry),
        Contender::new("tower-http `InFlightRequests`", in_flight().layer(NoOp)),
        Contender::new("tower-http `TraceLayer`, nobody listening", TraceLayer::new_for_http().layer(NoOp)),
        Contender::new("axum's example of metrics", from_fn(track).layer(NoOp)),
        Contender::new("axum-prometheus", PrometheusMetricLayer::new().layer(NoOp)),
    ];
    Field { contenders, below_router: true }
}

/// On the router.
pub(crate) fn on_router(registry: Registry) -> Field {
    let contenders = vec![
        cost::router_without(),
        floor(),
        Contender::new("floor, as a layer", router().layer(FloorLayer(books()))),
        cost::on_router(registry),
        Contender::new("tower-http `InFlightRequests`", router().layer(in_flight())),
        Contender::new(
            "tower-http `TraceLayer`, nobody listening",
            router().layer(TraceLayer::new_for_http()),
        ),
        Contender::new("axum's example of metrics", router().layer(from_fn(track))),
        Contender::new("axum-prometheus", router().layer(PrometheusMetricLayer::new())),
    ];
    Field { contenders, below_router: false }
}

/// Without a request.
fn floor() -> Contender {
    let books = books();
    Contender::of("floor", move || books.count())
}

fn in_flight() -> InFlightRequestsLayer {
    let (layer, _counter) = InFlightRequestsLayer::pair();
    layer
}

fn books() -> &'static Books {
    Box::leak(Box::default())
}

/// What axum's example of Prometheus metrics does for each request: labels and handles are made anew.
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
