//! A backend with one route, which consumes a retainer as the ledger does, without a document for the movement.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use clap::ValueEnum;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{ClientOptions, ReadConcern, TransactionOptions, WriteConcern};
use mongodb::{Client, ClientSession, Collection};
use tempfile::TempDir;
use testkit::{Process, wait};
use txnscope::{Metrics, TransactionLayer, TransactionListener, TransactionRunner};

/// Enough retainers that requests rarely conflict.
pub(crate) const RETAINERS: i32 = 1_000;

/// The instrumentation of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// None; the driver's `and_run2` runs the transaction.
    Bare,
    Layer,
    /// The layer and the runner.
    Runner,
    /// The layer, the runner and the listener.
    Listener,
}

impl Variant {
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::Layer, Self::Runner, Self::Listener];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare, with the driver's `and_run2`",
            Self::Layer => "with the layer",
            Self::Runner => "with layer and runner",
            Self::Listener => "with layer, runner and listener",
        }
    }
}

/// A backend in a separate process.
pub(crate) struct Backend {
    pub(crate) variant: Variant,
    pub(crate) process: Process,
    pub(crate) address: String,
    _folder: TempDir,
}

impl Backend {
    pub(crate) async fn start(variant: Variant, uri: &str) -> Result<Self> {
        let (program, folder) = (std::env::current_exe()?, TempDir::new()?);
        let name = variant.to_possible_value().context("each variant has a name")?;
        let arguments = [format!("--serve={}", name.get_name()), format!("--uri={uri}")];
        let log: PathBuf = folder.path().join("log");
        let process = Process::spawn(&program, &arguments, log).await?;
        let address = wait::until("the backend's address", async || {
            let log = process.log();
            let line = log.lines().find_map(|line| line.strip_prefix("listening on "));
            line.map(str::to_owned).context("not yet")
        })
        .await?;
        Ok(Self { variant, process, address, _folder: folder })
    }
}

#[derive(Clone)]
struct Data {
    client: Client,
    /// The retainers and the collection.
    runner: Option<TransactionRunner>,
    retainers: Collection<Document>,
    lines: Collection<Document>,
}

pub(crate) async fn fill(uri: &str) -> Result<()> {
    let database = Client::with_uri_str(uri).await?.database("bench");
    database.create_collection("generalLedger").await?;
    let retainers = (0..RETAINERS).map(|id| doc! {"_id": id, "currentBalance": i64::MAX / 2});
    database.collection::<Document>("retainers").insert_many(retainers).await?;
    Ok(())
}

/// Serves until the process is killed.
pub(crate) async fn serve(variant: Variant, uri: &str) -> Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    let metrics = Metrics::isolated()?;
    if variant == Variant::Listener {
        TransactionListener::with_registry(metrics.registry()).install(&mut options);
    }
    let client = Client::with_options(options)?;
    let runner = matches!(variant, Variant::Runner | Variant::Listener)
        .then(|| TransactionRunner::with_registry(&client, metrics.registry()));
    let database = client.database("bench");
    let (retainers, lines) = (database.collection("retainers"), database.collection("generalLedger"));
    let data = Arc::new(Data { client, runner, retainers, lines });
    let mut router = Router::new().route("/api/retainers/{id}/consume", post(consume)).with_state(data);
    if variant != Variant::Bare {
        router = router.layer(TransactionLayer::with_registry(metrics.registry()));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn consume(State(data): State<Arc<Data>>, Path(id): Path<i32>) -> StatusCode {
    let done = match &data.runner {
        Some(runner) => {
            let run = runner.transaction().run(async |mut tx| {
                data.statements(id, tx.session()).await?;
                Ok::<_, txnscope::Abort>(())
            });
            run.await.map(drop).map_err(anyhow::Error::from)
        }
        None => data.driver(id).await.map_err(anyhow::Error::from),
    };
    match done {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            eprintln!("{error:#}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl Data {
    /// The default options of the runner's transactions.
    async fn driver(&self, id: i32) -> mongodb::error::Result<()> {
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .build();
        let mut session = self.client.start_session().await?;
        let data = self.clone();
        let work = async move |session: &mut ClientSession| data.statements(id, session).await;
        session.start_transaction().with_options(options).and_run2(work).await
    }

    async fn statements(&self, id: i32, session: &mut ClientSession) -> mongodb::error::Result<()> {
        let (movement, at) = (ObjectId::new(), DateTime::now());
        let enough = doc! {"_id": id, "currentBalance": {"$gte": 1_i64}};
        let change = doc! {"$inc": {"currentBalance": -1_i64}, "$max": {"updatedAt": at}};
        self.retainers.find_one_and_update(enough, change).session(&mut *session).await?;
        let line = |account: &str, debit: i64, credit: i64| {
            doc! {
                "movementId": movement, "account": account, "debit": debit, "credit": credit,
                "currency": "EUR", "description": "load", "at": at,
            }
        };
        let lines = [line(&format!("retainers/{id}"), 1, 0), line("revenue", 0, 1)];
        self.lines.insert_many(lines).session(session).await.map(drop)
    }
}
