//! The transaction runner without a web framework: transfers between accounts, serialized on the accounts.
//!
//! ```console
//! $ cargo run --all-features --example runner -- 'mongodb://127.0.0.1:27017/?replicaSet=rs0'
//! ```

#![allow(clippy::print_stdout, reason = "the example prints its results")]

use std::time::Duration;

use anyhow::{Context, Result};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use tokio::task::JoinSet;
use txnscope::{Committed, Metrics, Reason, TransactionError, TransactionRunner};

const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");

#[tokio::main]
async fn main() -> Result<()> {
    let uri = std::env::args().nth(1).or_else(|| std::env::var("MONGODB_URI").ok());
    let uri = uri.context("pass the URI of a replica set as the argument or in MONGODB_URI")?;
    run(&uri, Metrics::install()?).await
}

pub(crate) async fn run(uri: &str, metrics: Metrics) -> Result<()> {
    let client = Client::with_uri_str(uri).await?;
    let accounts = client.database("example").collection::<Document>("accounts");
    accounts.drop().await?;
    accounts.insert_many([doc! { "_id": "a", "balance": 100 }, doc! { "_id": "b", "balance": 0 }]).await?;

    let runner = TransactionRunner::with_registry(&client, metrics.registry())
        .time_limit(Duration::from_secs(30))
        .max_queue(100);
    let mut transfers = JoinSet::new();
    for _ in 0..20 {
        let (runner, accounts) = (runner.clone(), accounts.clone());
        transfers.spawn(async move { transfer(&runner, &accounts, "a", "b", 10).await });
    }
    while let Some(transferred) = transfers.join_next().await {
        match transferred? {
            Ok(committed) => println!("committed after {} attempts", committed.attempts),
            Err(TransactionError::Rejected { reason, .. }) => println!("rejected: {reason}"),
            Err(error) => return Err(error.into()),
        }
    }
    runner.wait_idle().await;

    for line in metrics.render().lines().filter(|line| line.starts_with("mongodb_client_transactions_")) {
        println!("{line}");
    }
    Ok(())
}

/// Moves an amount between two accounts. Transfers that share an account wait for each other instead of conflicting.
async fn transfer(
    runner: &TransactionRunner,
    accounts: &Collection<Document>,
    from: &str,
    to: &str,
    amount: i32,
) -> Result<Committed<()>, TransactionError<Reason>> {
    runner
        .serialize_on(("account", from))
        .serialize_on(("account", to))
        .named("transfer")
        .run(async |mut tx| {
            let enough = doc! { "_id": from, "balance": { "$gte": amount } };
            let take = doc! { "$inc": { "balance": -amount } };
            let taken = accounts.update_one(enough, take).session(&mut tx).await?;
            if taken.matched_count == 0 {
                return Err(INSUFFICIENT_BALANCE.into());
            }
            let give = doc! { "$inc": { "balance": amount } };
            accounts.update_one(doc! { "_id": to }, give).session(&mut tx).await?;
            Ok(())
        })
        .await
}
