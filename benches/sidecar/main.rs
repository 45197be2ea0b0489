//! What the sidecar costs: the real binary against a real replica set, by the kernel's account of both processes and by
//! what passes between them, while no transaction, a thousand and five thousand are open.
//!
//! `cargo xtask bench sidecar` builds it with optimisation and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

mod level;
mod members;
mod peers;
mod scrapes;
mod sidecar;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession};
use testkit::{ReplicaSet, ReplicaSetOptions};

use crate::level::Level;

/// Measures what the sidecar costs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench sidecar")]
struct Flags {
    /// A tenth of the work, to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Percona's mongodb_exporter, to be scraped on the same work.
    #[arg(long, env = "MONGODB_EXPORTER", value_name = "PATH")]
    mongodb_exporter: Option<PathBuf>,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// How many transactions are open.
    open: [usize; 3],
    /// How many polls the cost on the server is measured over.
    polls: u64,
    /// An hour of polls every five seconds.
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
    // Every server in use collects diagnostic data, which an exporter may ask for; those of the tests do not.
    let set = ReplicaSetOptions::new(1)
        .parameter("transactionLifetimeLimitSeconds", 3_600)
        .parameter("diagnosticDataCollectionEnabled", true)
        .start()
        .await?;
    let env = Environment::on(&set).await?;
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

/// The server that is watched.
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

    /// mongod's process.
    fn pid(&self) -> u32 {
        self.set.members()[0].pid()
    }

    fn address(&self) -> String {
        self.set.members()[0].address()
    }

    /// Has so many transactions open, each with a document that it has written.
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
