//! The transaction listener: counts the transactions of code that uses the driver directly.
//!
//! ```console
//! $ cargo run --all-features --example listener -- 'mongodb://127.0.0.1:27017/?replicaSet=rs0'
//! ```

#![allow(clippy::print_stdout, reason = "the example prints its results")]

use anyhow::{Context, Result};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use txnscope::{Metrics, TransactionListener};

#[tokio::main]
async fn main() -> Result<()> {
    let uri = std::env::args().nth(1).or_else(|| std::env::var("MONGODB_URI").ok());
    let uri = uri.context("pass the URI of a replica set as the argument or in MONGODB_URI")?;
    run(&uri, Metrics::install()?).await
}

pub(crate) async fn run(uri: &str, metrics: Metrics) -> Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    TransactionListener::with_registry(metrics.registry()).install(&mut options);
    let client = Client::with_options(options)?;
    let invoices = client.database("example").collection::<Document>("invoices");
    invoices.drop().await?;
    invoices.insert_one(doc! { "_id": 1, "paid": false }).await?;

    // One transaction that commits, and one that the code aborts.
    let mut session = client.start_session().await?;
    for commit in [true, false] {
        session.start_transaction().await?;
        let pay = doc! { "$set": { "paid": commit } };
        invoices.update_one(doc! { "_id": 1 }, pay).session(&mut session).await?;
        if commit {
            session.commit_transaction().await?;
        } else {
            session.abort_transaction().await?;
        }
    }

    // Without an operation's scope, the transactions are counted as `unscoped`.
    for line in metrics.render().lines().filter(|line| line.starts_with("mongodb_client_transactions_")) {
        println!("{line}");
    }
    Ok(())
}
