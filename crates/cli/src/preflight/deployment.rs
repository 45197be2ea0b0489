//! Asking the deployment, with a limit on the time of every question.

use std::io;
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ReadPreference, SelectionCriteria, ServerAddress};
use mongodb::{Client, options::DriverInfo};

use txnscope_mongo::UriError;

use crate::services::prometheus::plain;

const APP_NAME: &str = "txnscope-preflight";

/// What a question brought.
pub(crate) type Answer = Result<Document, Refusal>;

/// Why there is no answer. Its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The user, or nobody, may not ask this.
    #[error("not allowed")]
    Denied,
    /// The credentials are wrong.
    #[error("the server does not accept the credentials: {0}")]
    Credentials(String),
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// The server does not know the command, or not in its present state.
    #[error("{0}")]
    Refused(String),
}

/// The deployment that is looked at.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// As the URI has it: what is asked about the pool is asked of these.
    pub(crate) options: ClientOptions,
    pub(crate) client: Client,
    timeout: Duration,
}

impl Deployment {
    /// # Errors
    ///
    /// If the driver refuses the options.
    pub(crate) fn new(options: ClientOptions, timeout: Duration) -> anyhow::Result<Self> {
        let client = client(&options, &options.hosts, options.direct_connection, timeout)?;
        Ok(Self { options, client, timeout })
    }

    /// A client of that member alone.
    ///
    /// # Errors
    ///
    /// If the driver refuses the options.
    pub(crate) fn member(&self, address: &ServerAddress) -> anyhow::Result<Client> {
        let mut options = self.options.clone();
        options.repl_set_name = None;
        client(&options, std::slice::from_ref(address), Some(true), self.timeout)
    }

    /// Runs a command on `admin`, on the primary if there is one.
    pub(crate) async fn ask(&self, command: Document) -> Answer {
        self.ask_on("admin", command).await
    }

    pub(crate) async fn ask_on(&self, database: &str, command: Document) -> Answer {
        ask(&self.client, database, command, self.timeout).await
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

/// What the server says of itself.
pub(crate) async fn hello_of(client: &Client, timeout: Duration) -> Answer {
    match ask(client, "admin", doc! {"hello": 1}, timeout).await {
        // Before 4.4.2 it had another name.
        Err(Refusal::Refused(_)) => ask(client, "admin", doc! {"isMaster": 1}, timeout).await,
        answer => answer,
    }
}

async fn ask(client: &Client, database: &str, command: Document, timeout: Duration) -> Answer {
    let nearest = SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred { options: None });
    let database = client.database(database);
    let answer = database.run_command(command).selection_criteria(nearest);
    // The driver's own limits do not bound a server that takes the command and is silent.
    match tokio::time::timeout(timeout + timeout / 2, answer).await {
        Ok(answer) => answer.map_err(|error| refusal(&error)),
        Err(_) => Err(Refusal::Unreachable("it takes the question and does not answer in time".to_owned())),
    }
}

/// The driver's error, told apart by what to do about it.
pub(crate) fn refusal(error: &Error) -> Refusal {
    const UNAUTHORIZED: i32 = 13;
    const AUTHENTICATION_FAILED: i32 = 18;
    const REFUSED: &str = "user, password, authSource or authMechanism is wrong";
    // The kind alone: the error's own form repeats the server's whole reply.
    let text = plain(&error.kind.to_string());
    match error.kind.as_ref() {
        // A server's words can name the user.
        ErrorKind::Authentication { .. } => Refusal::Credentials(REFUSED.to_owned()),
        ErrorKind::Command(command) => match command.code {
            UNAUTHORIZED => Refusal::Denied,
            AUTHENTICATION_FAILED => Refusal::Credentials(REFUSED.to_owned()),
            _ => Refusal::Refused(text),
        },
        ErrorKind::Io(io) if io.kind() == io::ErrorKind::TimedOut => {
            Refusal::Unreachable("it does not answer in time".to_owned())
        }
        // The driver's words repeat the server's reply to somebody else's command.
        ErrorKind::ConnectionPoolCleared { .. } => {
            Refusal::Unreachable("another connection could not be made".to_owned())
        }
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(_) | ErrorKind::DnsResolve { .. } => {
            Refusal::Unreachable(text)
        }
        _ => Refusal::Refused(text),
    }
}

// ===== Reading a reply by field =====

/// The field at that path of nested documents.
pub(crate) fn field<'a>(document: &'a Document, path: &[&str]) -> Option<&'a Bson> {
    let (last, parents) = path.split_last()?;
    let mut document = document;
    for parent in parents {
        document = document.get(parent)?.as_document()?;
    }
    document.get(last)
}

/// The finite number there, of whatever type.
pub(crate) fn number(document: &Document, path: &[&str]) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "what is counted here stays far below 2^53")]
    let number = match field(document, path)? {
        Bson::Int32(number) => f64::from(*number),
        Bson::Int64(number) => *number as f64,
        Bson::Double(number) => *number,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The text there.
pub(crate) fn text<'a>(document: &'a Document, path: &[&str]) -> Option<&'a str> {
    field(document, path)?.as_str()
}

/// Whether there is a truth.
pub(crate) fn flag(document: &Document, path: &[&str]) -> bool {
    matches!(field(document, path), Some(Bson::Boolean(true)))
}

/// The texts of the list there.
pub(crate) fn texts<'a>(document: &'a Document, path: &[&str]) -> Vec<&'a str> {
    let list = field(document, path).and_then(Bson::as_array);
    list.into_iter().flatten().filter_map(Bson::as_str).collect()
}
