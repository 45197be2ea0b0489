//! Commands to the deployment, each with a timeout.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::{ClientOptions, ReadPreference, SelectionCriteria, ServerAddress};
use mongodb::{Client, options::DriverInfo};

use txnscope_mongo::{ErrorClass, UriError};

use crate::client::services::prometheus::plain;

const APP_NAME: &str = "txnscope-preflight";

/// The result of a command.
pub(crate) type Reply = Result<Document, QueryError>;

/// Why a command failed. The text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// The user lacks the privilege.
    #[error("permission denied")]
    PermissionDenied,
    /// The credentials are invalid.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// The server does not respond.
    #[error("{0}")]
    Unreachable(String),
    /// The server does not support the command, or not in its current state.
    #[error("{0}")]
    CommandFailed(String),
}

/// The deployment that is checked.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// The options of the URI. The finding about the connection pool refers to them.
    pub(crate) options: ClientOptions,
    pub(crate) client: Client,
    timeout: Duration,
}

impl Deployment {
    /// # Errors
    ///
    /// If the driver rejects the options.
    pub(crate) fn new(options: ClientOptions, timeout: Duration) -> anyhow::Result<Self> {
        let client = client(&options, &options.hosts, options.direct_connection, timeout)?;
        Ok(Self { options, client, timeout })
    }

    /// A client with a direct connection to one member.
    ///
    /// # Errors
    ///
    /// If the driver rejects the options.
    pub(crate) fn member(&self, address: &ServerAddress) -> anyhow::Result<Client> {
        let mut options = self.options.clone();
        options.repl_set_name = None;
        client(&options, std::slice::from_ref(address), Some(true), self.timeout)
    }

    /// Runs a command on `admin`, on the primary if there is one.
    pub(crate) async fn run(&self, command: Document) -> Reply {
        self.run_on("admin", command).await
    }

    pub(crate) async fn run_on(&self, database: &str, command: Document) -> Reply {
        run_command(&self.client, database, command, self.timeout).await
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn client(
    of: &ClientOptions,
    hosts: &[ServerAddress],
    direct: Option<bool>,
    timeout: Duration,
) -> anyhow::Result<Client> {
    let mut options = ClientOptions::default();
    options.hosts = hosts.to_vec();
    options.direct_connection = direct;
    options.repl_set_name.clone_from(&of.repl_set_name);
    options.app_name = Some(APP_NAME.to_owned());
    options.driver_info = Some(DriverInfo::builder().name(APP_NAME).build());
    options.credential.clone_from(&of.credential);
    options.tls.clone_from(&of.tls);
    options.server_api.clone_from(&of.server_api);
    options.max_pool_size = Some(2);
    options.min_pool_size = Some(0);
    options.connect_timeout = Some(timeout);
    options.server_selection_timeout = Some(timeout);
    options.retry_reads = Some(false);
    Client::with_options(options).map_err(|error| UriError::from_client_error(&error).into())
}

/// The reply to `hello`.
pub(crate) async fn hello_of(client: &Client, timeout: Duration) -> Reply {
    match run_command(client, "admin", doc! {"hello": 1}, timeout).await {
        // The name of the command before version 4.4.2.
        Err(QueryError::CommandFailed(_)) => {
            run_command(client, "admin", doc! {"isMaster": 1}, timeout).await
        }
        reply => reply,
    }
}

async fn run_command(client: &Client, database: &str, command: Document, timeout: Duration) -> Reply {
    let nearest = SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred { options: None });
    let database = client.database(database);
    let reply = database.run_command(command).selection_criteria(nearest);
    // The driver has no timeout for a server that accepts a command and does not reply.
    match tokio::time::timeout(timeout + timeout / 2, reply).await {
        Ok(reply) => reply.map_err(|error| query_error(&error)),
        Err(_) => Err(QueryError::Unreachable("the command timed out".to_owned())),
    }
}

/// Classifies an error of the driver by its remediation.
pub(crate) fn query_error(error: &Error) -> QueryError {
    const UNAUTHORIZED: i32 = 13;
    const INVALID: &str = "user, password, authSource or authMechanism is wrong";
    // Only the kind, since the text of the error itself repeats the whole reply.
    let text = plain(&error.kind.to_string());
    match ErrorClass::of(error) {
        // The message of the server can name the user.
        ErrorClass::Authentication => QueryError::Authentication(INVALID.to_owned()),
        ErrorClass::Code(UNAUTHORIZED) => QueryError::PermissionDenied,
        ErrorClass::Timeout => QueryError::Unreachable("it timed out".to_owned()),
        // The message of the driver repeats the reply to an unrelated command.
        ErrorClass::PoolCleared => QueryError::Unreachable("another connection failed".to_owned()),
        ErrorClass::ServerSelection | ErrorClass::Network => QueryError::Unreachable(text),
        _ => QueryError::CommandFailed(text),
    }
}

// ===== Fields of a reply =====

/// The field at a path of nested documents.
pub(crate) fn field<'a>(document: &'a Document, path: &[&str]) -> Option<&'a Bson> {
    let (last, parents) = path.split_last()?;
    let mut document = document;
    for parent in parents {
        document = document.get(parent)?.as_document()?;
    }
    document.get(last)
}

/// The finite number at a path, of any numeric type.
pub(crate) fn number(document: &Document, path: &[&str]) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "these counts stay far below 2^53")]
    let number = match field(document, path)? {
        Bson::Int32(number) => f64::from(*number),
        Bson::Int64(number) => *number as f64,
        Bson::Double(number) => *number,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The string at a path.
pub(crate) fn text<'a>(document: &'a Document, path: &[&str]) -> Option<&'a str> {
    field(document, path)?.as_str()
}

/// Whether the boolean at a path is true.
pub(crate) fn flag(document: &Document, path: &[&str]) -> bool {
    matches!(field(document, path), Some(Bson::Boolean(true)))
}

/// The strings of the array at a path.
pub(crate) fn texts<'a>(document: &'a Document, path: &[&str]) -> Vec<&'a str> {
    let list = field(document, path).and_then(Bson::as_array);
    list.into_iter().flatten().filter_map(Bson::as_str).collect()
}
