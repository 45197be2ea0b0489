//! The layer on a tonic service: gRPC calls are counted by route, and classified by `grpc-status`.
//!
//! ```console
//! $ cargo run --all-features --example tonic
//! ```

#![allow(clippy::print_stdout, reason = "the example prints its results")]

use anyhow::Result;
use axum::Router;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use txnscope::{Metrics, TransactionLayer};

#[tokio::main]
async fn main() -> Result<()> {
    run(Metrics::install()?).await
}

pub(crate) async fn run(metrics: Metrics) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("payments", ServingStatus::Serving).await;

    // Put the layer on tonic's axum router, where the route of a call is known. Serve the router with `axum::serve`
    // and axum's feature `http2`.
    let app: Router = Routes::new(health)
        .into_axum_router()
        .layer(TransactionLayer::with_registry(metrics.registry()))
        .with_state(());

    // A client in the same process: one call that succeeds, and one of an unknown service.
    let mut client = HealthClient::new(app);
    for service in ["payments", "refunds"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        match client.check(request).await {
            Ok(reply) => println!("{service}: {:?}", reply.into_inner().status()),
            Err(status) => println!("{service}: {:?}", status.code()),
        }
    }

    for line in metrics.render().lines().filter(|line| line.starts_with("transaction_failures_total")) {
        println!("{line}");
    }
    Ok(())
}
