//! The transaction runner compared with the driver's own `and_run2`: the same work on the same server in one run.
//!
//! `cargo xtask bench runner` builds this program with optimization and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod contended;
mod overhead;
mod uncontended;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ReadConcern, TransactionOptions, WriteConcern};
use mongodb::{Client, Collection};
use testkit::ReplicaSet;
use txnscope::{Metrics, TransactionRunner};

/// Compares the transaction runner with the driver's own.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench runner")]
struct Flags {
    /// Duration of each contender in each round of the contended part.
    #[arg(long, default_value = "4s", value_parser = humantime::parse_duration)]
    round: Duration,
    /// Number of rounds; the contenders alternate.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    let set = ReplicaSet::start(1).await?;
    let env = Environment::on(&set).await?;
    uncontended::run(&env, flags.rounds).await?;
    contended::run(&env, flags.rounds, flags.round).await?;
    tokio::task::block_in_place(|| overhead::run(&set.uri()))
}

/// The replica set and clients of all contenders.
struct Environment {
    client: Client,
    runner: TransactionRunner,
    items: Collection<Document>,
}

impl Environment {
    async fn on(set: &ReplicaSet) -> Result<Self> {
        let mut options = ClientOptions::parse(set.uri()).await?;
        options.max_pool_size = Some(64);
        let client = Client::with_options(options)?;
        client.database("bench").create_collection("items").await?;
        let items = client.database("bench").collection("items");
        items.insert_many((0..64).map(|id| doc! {"_id": id, "n": 0})).await?;
        let runner = TransactionRunner::with_registry(&client, Metrics::isolated()?.registry());
        Ok(Self { client, runner, items })
    }

    /// Runs a transaction with the driver's own loop.
    async fn and_run2(&self, id: i32, attempts: &Arc<AtomicU64>) -> Result<()> {
        let mut session = self.client.start_session().await?;
        let (items, attempts) = (self.items.clone(), Arc::clone(attempts));
        session
            .start_transaction()
            .with_options(options())
            .and_run2(async move |session| {
                attempts.fetch_add(1, Relaxed);
                items.update_one(doc! {"_id": id}, doc! {"$inc": {"n": 1}}).session(session).await
            })
            .await?;
        Ok(())
    }

    /// Runs a transaction with the runner.
    async fn runner(&self, id: i32, keyed: bool, attempts: &Arc<AtomicU64>) -> Result<()> {
        let run = self.runner.transaction().named("bench");
        let run = if keyed { run.serialize_on(id) } else { run };
        run.run(async |mut tx| {
            attempts.fetch_add(1, Relaxed);
            let update = self.items.update_one(doc! {"_id": id}, doc! {"$inc": {"n": 1}});
            update.session(&mut tx).await?;
            Ok::<_, txnscope::Abort>(())
        })
        .await?;
        Ok(())
    }
}

/// The default options of the runner's transactions.
fn options() -> TransactionOptions {
    TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(WriteConcern::majority())
        .build()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    AndRun2,
    Runner,
    RunnerWithKey,
}

impl Contender {
    const ALL: [Self; 3] = [Self::AndRun2, Self::Runner, Self::RunnerWithKey];

    const fn name(self) -> &'static str {
        match self {
            Self::AndRun2 => "driver's `and_run2`",
            Self::Runner => "runner",
            Self::RunnerWithKey => "runner with a key",
        }
    }

    async fn transact(self, env: &Environment, id: i32, attempts: &Arc<AtomicU64>) -> Result<()> {
        match self {
            Self::AndRun2 => env.and_run2(id, attempts).await,
            Self::Runner => env.runner(id, false, attempts).await,
            Self::RunnerWithKey => env.runner(id, true, attempts).await,
        }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
