//! The ledger itself: what every handler works with.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::doc;
use mongodb::bson::oid::ObjectId;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection};
use serde::de::DeserializeOwned;

use crate::auth::Token;
use crate::database::{Collections, OpenError};
use crate::error::AppError;
use crate::fault::Fault;
use crate::idempotency::{Key, Once};
use crate::reply::Reply;
use crate::transaction::{TransactionError, Transactions, Work};

/// What the ledger is told at start-up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the database.
    pub database: String,
    /// How long one request may try to get its transaction through.
    pub deadline: Duration,
    /// What a client must know.
    pub token: Token,
}

impl Settings {
    /// The default of [`deadline`](Self::deadline).
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// The default database and deadline.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { database: "ledger".to_owned(), deadline: Self::DEADLINE, token }
    }
}

/// A ledger on its database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    data: Collections,
    transactions: Transactions,
    token: Token,
}

impl Ledger {
    /// Opens the database, and sets up the collections and indexes that it lacks.
    ///
    /// # Errors
    ///
    /// If no server is reached, or if it is one without transactions.
    pub async fn open(client: Client, settings: Settings) -> Result<Self, OpenError> {
        let Settings { database, deadline, token } = settings;
        let data = Collections::open(&client, &database).await?;
        let transactions = Transactions::new(client.clone(), deadline);
        Ok(Self(Arc::new(Inner { client, data, transactions, token })))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn data(&self) -> &Collections {
        &self.0.data
    }

    pub(crate) fn transactions(&self) -> &Transactions {
        &self.0.transactions
    }

    pub(crate) fn token(&self) -> &Token {
        &self.0.token
    }

    /// Moves money, once for each key.
    pub(crate) async fn write<W>(&self, key: Option<Key>, work: W) -> Result<Reply, AppError>
    where
        W: Work<Output = Reply> + Clone,
    {
        // A unique index refused a write: the server has aborted the transaction already, and the one that won
        // is committed. The next try's own look finds it and says no in plain words, or replays its answer.
        const TRIES: usize = 4;
        let mut tries = 1;
        loop {
            let (transactions, work) = (self.transactions(), work.clone());
            let result = match key.clone() {
                Some(key) => transactions.run(Once { data: self.data().clone(), key, work }).await,
                None => transactions.run(work).await,
            };
            match result {
                Err(TransactionError::Failed(fault)) if fault.is_duplicate_key() && tries < TRIES => {
                    tries += 1
                }
                other => return other.map_err(AppError::from),
            }
        }
    }

    /// Reads one document, as a majority has it.
    ///
    /// # Cancellation
    ///
    /// A read that is dropped leaves nothing behind.
    pub(crate) async fn find<T>(
        &self,
        collection: &Collection<T>,
        id: ObjectId,
    ) -> Result<Option<T>, AppError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let deadline = self.transactions().deadline();
        let find = collection
            .find_one(doc! { "_id": id })
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .max_time(deadline);
        let fault = match tokio::time::timeout(deadline, find.into_future()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => Fault::from(error),
            Err(_) => Fault::deadline(deadline),
        };
        // Reads are not operations, so that no layer logs them.
        tracing::error!(collection = collection.name(), entity_id = %id, reason = fault.reason.as_str(), error = %fault, "read failed");
        Err(if fault.is_away() { AppError::Unavailable(fault) } else { AppError::Failed(fault) })
    }
}
