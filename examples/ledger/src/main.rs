//! The binary `ledger`: flags, logging and signals. Everything else is in the library.

mod flags;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ledger::{Ledger, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use txnscope::{ErrorChain, Metrics};

use crate::flags::{Flags, Format};

/// The exit status of invalid flags or variables.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    start_logging(&flags);
    let settings = match flags.token() {
        Ok(token) => {
            let mut settings = Settings::new(token);
            settings.database.clone_from(&flags.database);
            settings.deadline = flags.deadline;
            settings.serialize_transactions = flags.serialize_transactions;
            settings
        }
        Err(error) => return fail(&error, MISUSE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), 1),
    };
    runtime.block_on(async {
        let client = match ledger::connect(&flags.uri).await {
            Ok(client) => client,
            Err(error) => return fail(&anyhow::Error::new(error).context("--mongodb.uri"), MISUSE),
        };
        match run(&flags, client, settings).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        }
    })
}

async fn run(flags: &Flags, client: mongodb::Client, settings: Settings) -> anyhow::Result<()> {
    // Installed before the database is opened, so that a signal during a slow connection stops the process.
    let mut stop = Stop::listen()?;
    let metrics = Metrics::install()?;
    let ledger = tokio::select! {
        ledger = Ledger::open(client, settings) => ledger?,
        name = stop.requested() => {
            tracing::info!(signal = name, "stopped before the database was open");
            return Ok(());
        }
    };
    let listener = TcpListener::bind(flags.listen_address)
        .await
        .with_context(|| format!("--web.listen-address: cannot listen on {}", flags.listen_address))?;
    tracing::info!(address = %listener.local_addr()?, database = flags.database, "ledger is listening");
    let stopped = async move {
        let name = stop.requested().await;
        tracing::info!(signal = name, "stopping: no new requests, finishing those in flight");
    };
    ledger::serve(listener, ledger, metrics, stopped).await?;
    tracing::info!("ledger has stopped");
    Ok(())
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Logs to standard error. The handlers' spans have the level `error`, so that events of every level have their
/// fields.
fn start_logging(flags: &Flags) {
    let filter = LevelFilter::from(flags.level);
    let text = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match flags.format {
        Format::Text => tracing_subscriber::registry().with(filter).with(text).init(),
        Format::Json => tracing_subscriber::registry().with(filter).with(text.json()).init(),
    }
}

/// Prints an error with its causes on one line.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    tracing::error!("{}", ErrorChain::new(&**error));
    ExitCode::from(code)
}
