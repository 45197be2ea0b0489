//! The cost of the transaction listener by the size of the replies: the same statements in transactions, on a client
//! without a command event handler, with an empty handler, and with the listener.
//!
//! `cargo xtask bench listener` builds this program with optimization and runs it. It prints Markdown.

#![allow(clippy::print_stdout, reason = "a report is what it makes")]

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use end_to_end::measure;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::event::EventHandler;
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession, Collection};
use testkit::ReplicaSet;
use txnscope::{Metrics, TransactionListener};

/// Measures the cost of the transaction listener.
#[derive(Debug, Parser)]
#[command(name = "bench_listener")]
struct Flags {
    /// Number of rounds; the contenders alternate.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// A reply size: the number of documents and of their fields, and the number of statements in a round.
struct Size {
    documents: i32,
    fields: usize,
    statements: u32,
}

const SIZES: [Size; 3] = [
    Size { documents: 1, fields: 3, statements: 1_000 },
    Size { documents: 68, fields: 20, statements: 300 },
    Size { documents: 1_150, fields: 20, statements: 40 },
];

#[derive(Debug, Clone, Copy)]
enum Contender {
    Bare,
    EmptyHandler,
    Listener,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Bare, Self::EmptyHandler, Self::Listener];

    async fn client(self, set: &ReplicaSet) -> Result<Client> {
        let mut options = ClientOptions::parse(set.uri()).await?;
        match self {
            Self::Bare => {}
            Self::EmptyHandler => options.command_event_handler = Some(EventHandler::callback(drop)),
            Self::Listener => {
                TransactionListener::with_registry(Metrics::isolated()?.registry()).install(&mut options);
            }
        }
        Ok(Client::with_options(options)?)
    }
}

/// One thread, so that its CPU time is the client's.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_listener: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    let set = ReplicaSet::start(1).await?;
    let mut clients = Vec::new();
    for contender in Contender::ALL {
        clients.push(contender.client(&set).await?);
    }
    println!(
        "Client's time on the processor for one statement of a transaction, the least of {} rounds:\n",
        flags.rounds
    );
    println!(
        "| reply | without | handler that does nothing | listener | added | of that, the listener itself |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for size in &SIZES {
        let bytes = size.fill(&clients[0]).await?;
        let mut micros: [Vec<f64>; Contender::ALL.len()] = Default::default();
        for _ in 0..flags.rounds {
            for (client, micros) in clients.iter().zip(&mut micros) {
                micros.push(size.measure(client).await?);
            }
        }
        let [bare, empty, listener] = micros.map(least);
        println!(
            "| {} | {bare:.1} µs | {empty:.1} µs | {listener:.1} µs | {:.1} µs | {:.1} µs |",
            in_words(bytes),
            listener - bare,
            listener - empty
        );
    }
    Ok(())
}

impl Size {
    fn collection(&self, client: &Client) -> Collection<Document> {
        client.database("bench").collection(&format!("of_{}", self.documents))
    }

    /// Writes the documents to be read, and returns the size of a reply in bytes.
    async fn fill(&self, client: &Client) -> Result<usize> {
        let document = |id| {
            let mut document = doc! { "_id": id };
            for field in 0..self.fields {
                document.insert(format!("field_{field}"), format!("{id:08} and some more text"));
            }
            document
        };
        self.collection(client).insert_many((0..self.documents).map(document)).await?;
        let name = self.collection(client).name().to_owned();
        let find = doc! { "find": name, "batchSize": self.documents + 1 };
        let reply = client.database("bench").run_command(find).await?;
        Ok(mongodb::bson::serialize_to_vec(&reply)?.len())
    }

    /// CPU microseconds per statement.
    async fn measure(&self, client: &Client) -> Result<f64> {
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        let collection = self.collection(client);
        // The first statement may have to connect.
        self.read(&collection, &mut session).await?;
        let before = on_processor()?;
        for _ in 0..self.statements {
            self.read(&collection, &mut session).await?;
        }
        let spent = on_processor()? - before;
        session.commit_transaction().await?;
        Ok(spent / f64::from(self.statements))
    }

    async fn read(&self, collection: &Collection<Document>, session: &mut ClientSession) -> Result<()> {
        let batch = u32::try_from(self.documents + 1)?;
        let mut cursor = collection.find(doc! {}).batch_size(batch).session(&mut *session).await?;
        let read: Vec<Document> = cursor.stream(session).try_collect().await?;
        ensure!(read.len() == usize::try_from(self.documents)?, "{} documents", read.len());
        Ok(())
    }
}

/// The CPU time of this process in microseconds, which other programs do not affect.
fn on_processor() -> Result<f64> {
    Ok(measure::on_processor(std::process::id())? * 1e3)
}

/// The minimum, because disturbances only add time.
fn least(values: Vec<f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

#[allow(clippy::cast_precision_loss, reason = "numbers that are printed")]
fn in_words(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
