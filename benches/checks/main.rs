//! The ledger's checks on many documents: the duration of each, and the cost on server and client.
//!
//! `cargo xtask bench checks` builds this program with optimization and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod audit;
mod data;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use end_to_end::measure::{most_resident, on_processor, resident};
use ledger::{Ledger, Settings, Token};
use mongodb::bson::{Document, doc};
use testkit::{ReplicaSet, ReplicaSetOptions};
use tokio::time::Instant;

/// Measures the ledger's checks on many documents.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench checks")]
struct Flags {
    /// Number of documents in all collections together.
    #[arg(long, default_value_t = 10_000_000)]
    documents: u64,
    /// Number of inserting tasks.
    #[arg(long, default_value_t = 4)]
    inserters: u64,
    /// WiredTiger's cache in gigabytes.
    #[arg(long, default_value_t = 1)]
    cache: u32,
    /// Time limit of one check.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    max_time: Duration,
    /// Only run the checks on that deployment, in the process that the benchmark starts.
    #[arg(long, hide = true)]
    audit: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let ran = match &flags.audit {
        Some(uri) => audit::audit(uri, flags.max_time).await,
        None => run(&flags).await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench checks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    // A check that takes longer than the window has no snapshot any more.
    let window = flags.max_time.as_secs().max(300);
    let set =
        ReplicaSetOptions::new(1).parameter("minSnapshotHistoryWindowInSeconds", window).start().await?;
    let cache = format!("cache_size={}G", flags.cache);
    for member in set.members() {
        member.admin(doc! {"setParameter": 1, "wiredTigerEngineRuntimeConfig": &cache}).await?;
    }
    let client = set.client().await?;
    let began = Instant::now();
    let made = data::fill(&client.database("ledger"), flags.documents, flags.inserters).await?;
    let inserted = began.elapsed();
    // The indexes are those of the ledger, created after all documents were inserted.
    Ledger::open(client.clone(), Settings::new(Token::new("of-no-use")?)).await?;
    let filled = began.elapsed();
    eprintln!("{made} documents in {inserted:.0?}, with indexes in {filled:.0?}");
    let size = size(&client).await?;
    report(&set, flags, made, filled, size).await
}

/// The size of the data, uncompressed and on disk with indexes, in gigabytes.
async fn size(client: &mongodb::Client) -> Result<[f64; 2]> {
    let stats: Document =
        client.database("ledger").run_command(doc! {"dbStats": 1, "scale": 1_000_000}).await?;
    let megabytes = |key| {
        let value = stats.get(key).with_context(|| format!("dbStats has no {key}"))?;
        let number = value.as_f64().or(value.as_i32().map(f64::from));
        anyhow::Ok(number.with_context(|| format!("{key} is not a number"))? / 1e3)
    };
    Ok([megabytes("dataSize")?, megabytes("totalSize")?])
}

async fn report(set: &ReplicaSet, flags: &Flags, made: u64, filled: Duration, size: [f64; 2]) -> Result<()> {
    let mongod = set.members().first().context("a set has a member")?.pid();
    let (before, memory) = (on_processor(mongod)?, resident(mongod)?);
    let began = Instant::now();
    let (results, most) = audit::in_a_process(&set.uri(), flags.max_time).await?;
    let took = began.elapsed();
    let cpu = (on_processor(mongod)? - before) / 1e3;
    let count = data::grouped(made);
    println!(
        "{count} documents in six collections, {:.1} GB ({:.1} GB on disk with indexes), made in {:.0} s; a replica \
         set of one, WiredTiger's cache {} GB. One check after the other, each at one moment of the data.\n",
        size[0],
        size[1],
        filled.as_secs_f64(),
        flags.cache,
    );
    println!(
        "| check | documents | time | documents/s | mongod's CPU |\n| --- | ---: | ---: | ---: | ---: |"
    );
    for result in &results {
        println!("{}", result.row());
    }
    println!("| **all** | | **{:.0} s** | | **{cpu:.0} s** |\n", took.as_secs_f64());
    println!(
        "Memory at most: {:.0} MB in the process that runs the checks, {:.0} MB in mongod (and {:.0} MB before the first check).",
        most,
        most_resident(mongod)?,
        memory,
    );
    Ok(())
}
