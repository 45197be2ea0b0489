//! Connects to the database, verifies the deployment, and creates the collections.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Client, Collection, Database, IndexModel};
use txnscope::ConnectionPoolListener;
use txnscope_mongo::{Uri, server_code};

use crate::bank_accounts::BankAccount;
use crate::bank_transfers::BankTransfer;
use crate::db_error::DbError;
use crate::general_ledger::Line;
use crate::idempotency::Record;
use crate::invoices;
use crate::payments::Payment;
use crate::retainer_movements::Movement;
use crate::retainers::Retainer;

const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The driver's default of ten would make the pool the bottleneck.
const MAX_POOL_SIZE: u32 = 64;
/// How long the response to an idempotency key is stored.
const KEEP_RECORDS: Duration = Duration::from_secs(24 * 60 * 60);

/// Creates a client for a URI. Settings that the URI omits are set here: the application name `ledger`, a server
/// selection timeout of 5 s, and the size of the pool. No command is sent to the server yet.
///
/// # Errors
///
/// If the URI is invalid, or its host name does not resolve. The error never repeats the URI.
pub async fn connect(uri: &str) -> Result<Client, UriError> {
    let parsed = Uri::parse(uri)?;
    let mut options = parsed.options(None).await?;
    options.app_name.get_or_insert_with(|| "ledger".to_owned());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    options.max_pool_size.get_or_insert(MAX_POOL_SIZE);
    ConnectionPoolListener::new().install(&mut options);
    let ignored: Vec<_> = parsed.ignored().iter().map(ToString::to_string).collect();
    if !ignored.is_empty() {
        tracing::warn!(options = ignored.join(", "), "these options of the URI have no effect");
    }
    Client::with_options(options).map_err(|error| txnscope_mongo::UriError::from_client_error(&error).into())
}

/// The error of an invalid URI. It repeats nothing of the URI.
#[derive(Debug, thiserror::Error)]
#[error("invalid MongoDB URI: {0}")]
pub struct UriError(#[from] txnscope_mongo::UriError);

/// The error of a database that the ledger cannot use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A standalone mongod, which has no transactions.
    #[error(
        "the MongoDB server is a standalone mongod, which has no transactions. Make it a replica set of one: \
         start it with `mongod --replSet rs0`, then run `rs.initiate()` once in mongosh"
    )]
    Standalone,
    /// A member of a replica set that is not initiated.
    #[error(
        "the MongoDB server belongs to a replica set that is not initiated yet: run `rs.initiate()` once in mongosh"
    )]
    NotInitiated,
    /// A direct connection to a member that is not primary.
    #[error(
        "the MongoDB server is not the primary of its replica set: leave directConnection out of the URI and name the set with ?replicaSet="
    )]
    NotPrimary,
    /// No primary responds.
    #[error(
        "no MongoDB primary could be reached: is mongod running at that address, is the replica set initiated \
         (`rs.initiate()`), is its name that of ?replicaSet=, and do its members' host names resolve here?"
    )]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server rejected a command.
    #[error("MongoDB refused to set up the database")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<mongodb::error::Error> for OpenError {
    fn from(error: mongodb::error::Error) -> Self {
        let fault = DbError::from(error);
        if fault.is_away() { Self::Unreachable(Box::new(fault)) } else { Self::Refused(Box::new(fault)) }
    }
}

/// Rejects a server that does not support transactions, or is not the primary.
async fn check_deployment(client: &Client) -> Result<(), OpenError> {
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    let is_mongos = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    let is_member = hello.get_bool("isreplicaset").unwrap_or(false);
    match (hello.get_str("setName"), hello.get_bool("isWritablePrimary")) {
        _ if is_mongos => Ok(()),
        (Ok(_), Ok(true)) => Ok(()),
        (Ok(_), _) => Err(OpenError::NotPrimary),
        (Err(_), _) if is_member => Err(OpenError::NotInitiated),
        (Err(_), _) => Err(OpenError::Standalone),
    }
}

/// The collections.
#[derive(Debug, Clone)]
pub(crate) struct Collections {
    pub(crate) retainers: Collection<Retainer>,
    pub(crate) retainer_movements: Collection<Movement>,
    pub(crate) payments: Collection<Payment>,
    pub(crate) bank_accounts: Collection<BankAccount>,
    pub(crate) bank_transfers: Collection<BankTransfer>,
    pub(crate) general_ledger: Collection<Line>,
    pub(crate) idempotency_keys: Collection<Record>,
}

impl Collections {
    /// Verifies the deployment, and creates missing collections and indexes.
    ///
    /// The collections exist before the first transaction, because a transaction that creates a collection holds a
    /// lock that conflicts with every other writer of the database.
    pub(crate) async fn open(client: &Client, database: &str) -> Result<Self, OpenError> {
        check_deployment(client).await?;
        let database = client.database(database);
        let data = Self {
            retainers: open(&database, "retainers", []).await?,
            retainer_movements: open(
                &database,
                "retainerMovements",
                [index(doc! { "retainerId": 1, "_id": 1 })],
            )
            .await?,
            payments: open(&database, "payments", invoices::indexes()).await?,
            bank_accounts: open(&database, "bankAccounts", []).await?,
            bank_transfers: open(&database, "bankTransfers", []).await?,
            general_ledger: open(
                &database,
                "generalLedger",
                [index(doc! { "movementId": 1 }), index(doc! { "account": 1, "at": 1 })],
            )
            .await?,
            idempotency_keys: open(&database, "idempotencyKeys", [expiry()]).await?,
        };
        invoices::give_keys(&data.payments).await?;
        Ok(data)
    }
}

async fn open<T: Send + Sync>(
    database: &Database,
    name: &str,
    indexes: impl IntoIterator<Item = IndexModel>,
) -> Result<Collection<T>, OpenError> {
    const NAMESPACE_EXISTS: i32 = 48;
    match database.create_collection(name).await {
        Err(error) if server_code(&error) != Some(NAMESPACE_EXISTS) => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let collection = database.collection(name);
    for index in indexes {
        collection.create_index(index).await?;
    }
    Ok(collection)
}

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

fn expiry() -> IndexModel {
    let options = IndexOptions::builder().expire_after(KEEP_RECORDS).build();
    IndexModel::builder().keys(doc! { "createdAt": 1 }).options(options).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(uri: &str) -> String {
        connect(uri).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn invalid_uri_is_rejected_without_repeating_it() {
        for uri in [
            "mongodb://user:s3cret",
            "mongodb://user:s3cret/db",
            "mongodb://user:p@s3cret:x/db",
            "mongodb://user:s3cret@host:port/db",
            "mongodb://user:s3cret@host/?replicaSet",
            "mongodb://host/?s3cret",
            "mongodb://host/?authMechanism=s3cret",
            "mongodb://host/?readPreference=s3cret",
            "mongodb://host/?readPreference=%733cret",
            "mongodb://user:s3cret%4\u{fffd}@host/",
            "mongo://user:s3cret@host",
            "s3cret",
        ] {
            let message = refusal(uri).await;
            assert!(!message.contains("s3cret"), "{uri}: {message}");
            assert!(message.starts_with("invalid MongoDB URI: "), "{message}");
        }
    }

    #[tokio::test]
    async fn uri_error_is_explained_without_secrets() {
        let message = refusal("mongodb://user:s3cret@host/?directConnection=true&loadBalanced=true").await;
        assert!(message.contains("loadBalanced"), "{message}");
    }

    #[tokio::test]
    async fn uri_defaults_are_set() {
        // No server is needed, because the driver connects lazily.
        assert!(connect("mongodb://127.0.0.1:1/?replicaSet=rs0&appName=mine").await.is_ok());
    }
}
