//! The state that all handlers share.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::doc;
use mongodb::bson::oid::ObjectId;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection};
use serde::de::DeserializeOwned;
use txnscope::{ErrorChain, Reason, Registry, TransactionError, TransactionRunner};

use crate::auth::Token;
use crate::database::{Collections, OpenError};
use crate::db_error::DbError;
use crate::error::AppError;
use crate::extract::PageQuery;
#[cfg(feature = "mutants")]
use crate::fault_injection::{self, Mutant};
use crate::idempotency::{Idempotent, Key};
use crate::response::Reply;
use crate::stored;
use crate::transaction::Work;

/// The settings of a ledger.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the database.
    pub database: String,
    /// The time limit of one request's transaction, including retries.
    pub deadline: Duration,
    /// The token of the clients.
    pub token: Token,
    /// Whether transactions that write the same document are serialized. Otherwise they conflict and are retried.
    pub serialize_transactions: bool,
    /// The registry that counts transactions.
    pub registry: Registry,
}

impl Settings {
    /// The default of [`deadline`](Self::deadline).
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// The default settings, with the process's recorder.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self {
            database: "ledger".to_owned(),
            deadline: Self::DEADLINE,
            token,
            serialize_transactions: true,
            registry: Registry::global(),
        }
    }
}

/// A ledger on its database. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    data: Collections,
    runner: TransactionRunner,
    settings: Settings,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Ledger {
    /// Opens the database, and creates missing collections and indexes.
    ///
    /// # Errors
    ///
    /// If no server responds, or the server has no transactions.
    pub async fn open(client: Client, settings: Settings) -> Result<Self, OpenError> {
        let data = Collections::open(&client, &settings.database).await?;
        let runner =
            TransactionRunner::with_registry(&client, settings.registry).time_limit(settings.deadline);
        Ok(Self(Arc::new(Inner {
            client,
            data,
            runner,
            settings,
            #[cfg(feature = "mutants")]
            mutant: None,
        })))
    }

    /// A ledger with a deliberate defect. It does not serialize transactions, because that would hide most defects
    /// from a race in one process.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    #[cfg(feature = "mutants")]
    pub async fn open_mutant(client: Client, settings: Settings, mutant: Mutant) -> Result<Self, OpenError> {
        let mut ledger = Self::open(client, Settings { serialize_transactions: false, ..settings }).await?;
        if let Some(inner) = Arc::get_mut(&mut ledger.0) {
            inner.mutant = Some(mutant);
        }
        Ok(ledger)
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn mutant(&self) -> Option<Mutant> {
        self.0.mutant
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn data(&self) -> &Collections {
        &self.0.data
    }

    pub(crate) fn runner(&self) -> &TransactionRunner {
        &self.0.runner
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.settings.deadline
    }

    pub(crate) fn token(&self) -> &Token {
        &self.0.settings.token
    }

    /// Moves money, once for each idempotency key.
    pub(crate) async fn write<W>(&self, key: Option<Key>, work: W) -> Result<Reply, AppError>
    where
        W: Work<Output = Reply>,
    {
        match key {
            Some(key) => self.transact(&Idempotent { data: self.data().clone(), key, work }).await,
            None => self.transact(&work).await,
        }
    }

    async fn transact<W: Work<Output = Reply>>(&self, work: &W) -> Result<Reply, AppError> {
        // A unique index rejected a write: the server has already aborted the transaction, and the competing one has
        // committed. The retry finds its document and rejects the request, or replays its response.
        const TRIES: usize = 4;
        let mut tries = 1;
        loop {
            let run = self.runner().transaction();
            let run = if self.0.settings.serialize_transactions { work.lock_keys(run) } else { run };
            #[cfg(feature = "mutants")]
            let work = &fault_injection::Mutated { work, mutant: self.0.mutant };
            match run.run(async |mut tx| work.attempt(&mut tx).await).await {
                Ok(committed) => return Ok(committed.value),
                Err(TransactionError::Failed(failure))
                    if failure.reason() == Reason::DUPLICATE_KEY && tries < TRIES =>
                {
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one majority-committed document.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn find<T>(
        &self,
        collection: &Collection<T>,
        id: ObjectId,
    ) -> Result<Option<T>, AppError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let deadline = self.deadline();
        let collection = stored::raw(collection);
        let find = collection
            .find_one(doc! { "_id": id })
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .max_time(deadline);
        let found = match tokio::time::timeout(deadline, find.into_future()).await {
            Ok(Ok(found)) => {
                let found = found.map(|found| stored::read(collection.name(), &found)).transpose();
                found.map_err(DbError::from)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DbError::deadline(deadline)),
        };
        found.map_err(|fault| read_failed(collection.name(), id, fault))
    }

    /// Reads majority-committed documents that belong to an entity, whose id is their field `owner`: at most `limit`,
    /// with ids below `after`, in descending order of their ids.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn find_newest<T>(
        &self,
        collection: &Collection<T>,
        (owner, entity): (&str, ObjectId),
        PageQuery { after, limit }: PageQuery,
    ) -> Result<Vec<T>, AppError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let deadline = self.deadline();
        let collection = stored::raw(collection);
        let mut filter = doc! { owner: entity };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$lt": after });
        }
        // Only the index on both fields has this order, so that the server never reads the documents of other entities.
        let find = collection
            .find(filter)
            .sort(doc! { owner: -1, "_id": -1 })
            .limit(limit.into())
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .max_time(deadline);
        let read = async {
            let (mut cursor, mut found) = (find.await?, Vec::new());
            while cursor.advance().await? {
                found.push(stored::read(collection.name(), &cursor.current().to_owned())?);
            }
            Ok(found)
        };
        let found = tokio::time::timeout(deadline, read).await;
        let found = found.unwrap_or_else(|_| Err(DbError::deadline(deadline)));
        found.map_err(|fault| read_failed(collection.name(), entity, fault))
    }
}

/// Logs a failed read. Reads are not operations, so no layer logs them.
fn read_failed(collection: &str, entity: ObjectId, fault: DbError) -> AppError {
    tracing::error!(collection, entity_id = %entity, reason = fault.reason.as_str(), error = %ErrorChain::new(&fault), "read failed");
    fault.into()
}
