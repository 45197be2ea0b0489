//! The ledger in a separate process, with the transaction listener, a route that panics, and a runtime that can be
//! replaced.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use ledger::{Ledger, Settings, Token};
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use txnscope::{Metrics, Operation, Reason, TransactionLayer, TransactionListener, TransactionRunner};

/// The token of the callers.
pub(crate) const TOKEN: &str = "chaos";
/// The environment variable with the replica set's URI.
pub(crate) const URI: &str = "MONGODB_URI";
/// The application name by which failpoints and proxies identify the ledger.
pub(crate) const APPLICATION: &str = "ledger";
/// The time limit of one request's transaction, including retries.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);
/// The maximum number of connections to each member: few, so that the pool can be exhausted.
pub(crate) const POOL: u32 = 10;
/// The server's transaction lifetime limit, after which it aborts abandoned transactions.
pub(crate) const LIFETIME_LIMIT: Duration = Duration::from_secs(6);

/// A handler that panics before it has started a transaction.
pub(crate) const PANIC: &str = "POST /chaos/panic";
/// A handler that panics within a transaction.
pub(crate) const PANIC_INSIDE: &str = "POST /chaos/panic-inside";

/// Serves until SIGTERM. At each SIGUSR1 the runtime is shut down with all tasks in it, and replaced by another one;
/// the metrics are kept.
pub(crate) fn run(address: SocketAddr) -> Result<()> {
    let uri = std::env::var(URI).context(URI)?;
    let metrics = Metrics::isolated()?;
    // Outside of the runtime that is replaced.
    let control = Builder::new_current_thread().enable_all().build()?;
    control.block_on(async {
        let mut take_away = signal(SignalKind::user_defined1())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            let runtime = Builder::new_multi_thread().enable_all().build()?;
            let serving = runtime.spawn(serve(address, uri.clone(), metrics.clone()));
            tokio::select! {
                served = serving => return served?,
                _ = terminate.recv() => return end(runtime).await,
                _ = take_away.recv() => end(runtime).await?,
            }
        }
    })
}

/// Drops all tasks of the runtime.
async fn end(runtime: Runtime) -> Result<()> {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(2)));
    Ok(ended.await?)
}

async fn serve(address: SocketAddr, uri: String, metrics: Metrics) -> Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    options.app_name = Some(APPLICATION.to_owned());
    options.server_selection_timeout = Some(DEADLINE);
    options.max_pool_size = Some(POOL);
    let listener = TransactionListener::with_registry(metrics.registry());
    listener.abandon_after(LIFETIME_LIMIT * 3 / 2).install(&mut options);
    let client = Client::with_options(options)?;
    let mut settings = Settings::new(Token::new(TOKEN)?);
    settings.registry = metrics.registry();
    settings.deadline = DEADLINE;
    let ledger = Ledger::open(client.clone(), settings).await?;
    let router = ledger::app(ledger, &metrics).merge(panics(&client, &metrics));
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(TcpListener::bind(address).await?, router).await?)
}

#[derive(Clone)]
struct Scratch {
    runner: TransactionRunner,
    data: Collection<Document>,
}

/// The routes whose handlers panic, within a layer that uses the same metrics.
fn panics(client: &Client, metrics: &Metrics) -> Router {
    let scratch = Scratch {
        runner: TransactionRunner::with_registry(client, metrics.registry()),
        data: client.database("ledger").collection("chaos"),
    };
    let layer = TransactionLayer::with_registry(metrics.registry())
        .declare([PANIC, PANIC_INSIDE].map(Operation::new));
    Router::new()
        .route("/chaos/panic", post(panic))
        .route("/chaos/panic-inside", post(panic_inside))
        .layer(layer)
        .with_state(scratch)
}

async fn panic() -> StatusCode {
    panic!("on purpose")
}

async fn panic_inside(State(Scratch { runner, data }): State<Scratch>) -> StatusCode {
    let work = async |mut tx: txnscope::Transaction| {
        data.insert_one(doc! {"half": "done"}).session(&mut tx).await?;
        if tx.session().cluster_time().is_some() {
            panic!("on purpose, with a transaction open");
        }
        Ok::<_, txnscope::Abort<Reason>>(())
    };
    let _ = runner.run(work).await;
    StatusCode::INTERNAL_SERVER_ERROR
}
