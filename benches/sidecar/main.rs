//! The cost of the sidecar: the real binary with a real replica set, by the CPU time of both processes and the
//! traffic between them, with zero, a thousand and five thousand open transactions.
//!
//! `cargo xtask bench sidecar` builds this program with optimization and runs it. It prints Markdown. With `--top`
//! (`cargo xtask bench top`), it measures `txnscope top` instead, and with `--live-memory` (`cargo xtask bench live-memory`) the
//! memory of both and of live pages.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod level;
mod live_memory;
mod members;
#[path = "../live/one_poll.rs"]
mod one_poll;
mod peers;
mod scrapes;
mod sidecar;
mod top;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession};
use testkit::{ReplicaSet, ReplicaSetOptions};

use crate::level::Level;

/// Measures the cost of the sidecar.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench sidecar")]
struct Flags {
    /// Do a tenth of the work, as a smoke test.
    #[arg(long)]
    quick: bool,
    /// Percona's mongodb_exporter, to be measured on the same work.
    #[arg(long, env = "MONGODB_EXPORTER", value_name = "PATH")]
    mongodb_exporter: Option<PathBuf>,
    /// Measure `txnscope top`, and not the sidecar.
    #[arg(long)]
    top: bool,
    /// Watch the memory of `txnscope top`, of the sidecar, and of ten live pages.
    #[arg(long, conflicts_with = "top")]
    live_memory: bool,
    /// With --live-memory: for this long.
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        default_value = "5m",
        requires = "live_memory"
    )]
    watched: Duration,
}

/// The amount of work.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// The numbers of open transactions.
    open: [usize; 3],
    /// The number of polls over which the cost on the server is averaged.
    polls: u64,
    /// The number of polls in an hour, at five seconds.
    hour: u64,
    scrapes: u32,
}

impl Work {
    const WHOLE: Self = Self { open: [0, 1_000, 5_000], polls: 200, hour: 720, scrapes: 10_000 };
    const QUICK: Self = Self { open: [0, 100, 500], polls: 40, hour: 72, scrapes: 1_000 };
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench sidecar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    let work = if flags.quick { Work::QUICK } else { Work::WHOLE };
    // Production servers collect diagnostic data, which an exporter may read; test servers do not by default.
    let set = ReplicaSetOptions::new(1)
        .parameter("transactionLifetimeLimitSeconds", 4 * 3_600)
        .parameter("diagnosticDataCollectionEnabled", true)
        .start()
        .await?;
    let env = Environment::on(&set).await?;
    if flags.top {
        return top::report(&env, work).await;
    }
    if flags.live_memory {
        return live_memory::report(&env, flags.watched).await;
    }
    peers::report(&env, flags.mongodb_exporter.as_deref(), work).await?;
    let (mut open, mut levels) = (Vec::new(), Vec::new());
    for wanted in work.open {
        env.open(&mut open, wanted).await?;
        eprintln!("{wanted} transactions open");
        levels.push(Level::measure(&env, wanted, work).await?);
    }
    level::report(&levels, work);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let uri = set.uri();
            scope
                .spawn(move || scrapes::allocations(&uri))
                .join()
                .map_err(|_| anyhow::anyhow!("it panicked"))?
        })
    })?;
    for mut session in open {
        session.abort_transaction().await?;
    }
    drop(set);
    members::report(work).await
}

/// The watched server.
struct Environment<'a> {
    set: &'a ReplicaSet,
    client: Client,
}

impl<'a> Environment<'a> {
    async fn on(set: &'a ReplicaSet) -> Result<Self> {
        let options = ClientOptions::parse(set.uri()).await?;
        let client = Client::with_options(options)?;
        client.database("bench").create_collection("items").await?;
        Ok(Self { set, client })
    }

    /// The process id of mongod.
    fn pid(&self) -> u32 {
        self.set.members()[0].pid()
    }

    fn address(&self) -> String {
        self.set.members()[0].address()
    }

    /// Opens a number of transactions, each of which has written a document.
    async fn open(&self, open: &mut Vec<ClientSession>, wanted: usize) -> Result<()> {
        let items = self.client.database("bench").collection("items");
        while open.len() < wanted {
            let mut session = self.client.start_session().await?;
            session.start_transaction().await?;
            items.insert_one(doc! {"n": 0}).session(&mut session).await?;
            open.push(session);
        }
        let status = self.client.database("admin").run_command(doc! {"serverStatus": 1}).await?;
        let found = status.get_document("transactions")?.get_i64("currentOpen")?;
        ensure!(usize::try_from(found)? == wanted, "{found} transactions are open, and not {wanted}");
        Ok(())
    }
}
