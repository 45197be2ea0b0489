//! The layer around a consumer of a queue: every message is one operation.
//!
//! ```console
//! $ cargo run --example job
//! ```

#![allow(clippy::print_stdout, reason = "the example prints its results")]

use anyhow::Result;
use tokio::sync::mpsc;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use txnscope::{Metrics, Reason, TransactionLayer, scope};

/// A message of the queue.
struct InvoicePaid {
    invoice: u32,
    cents: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("an invoice of 0 cents cannot be paid")]
struct EmptyInvoice;

#[tokio::main]
async fn main() -> Result<()> {
    run(Metrics::install()?).await
}

pub(crate) async fn run(metrics: Metrics) -> Result<()> {
    let (queue, mut messages) = mpsc::channel(10);
    tokio::spawn(async move {
        for (invoice, cents) in [(1, 500), (2, 0), (3, 900)] {
            if queue.send(InvoicePaid { invoice, cents }).await.is_err() {
                break;
            }
        }
    });

    let mut consumer = ServiceBuilder::new()
        .layer(TransactionLayer::named_with_registry("invoice_paid", metrics.registry()))
        .service(service_fn(handle));
    while let Some(message) = messages.recv().await {
        let invoice = message.invoice;
        // The layer has counted and logged the failure.
        if consumer.ready().await?.call(message).await.is_err() {
            println!("invoice {invoice} goes to the dead-letter queue");
        }
    }

    for line in metrics.render().lines().filter(|line| line.starts_with("transaction_attempts_total")) {
        println!("{line}");
    }
    Ok(())
}

async fn handle(message: InvoicePaid) -> Result<(), EmptyInvoice> {
    if message.cents == 0 {
        // The reason of the failure, which the error alone does not tell the layer.
        scope::note_reason(Reason::INVALID_REQUEST);
        return Err(EmptyInvoice);
    }
    Ok(())
}
