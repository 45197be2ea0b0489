//! Ending one open transaction, at the request of an operator.
//!
//! `killSessions` ends what runs in a session, and takes no number of a transaction. So the transaction is read again
//! right before, and nothing is ended unless it is the very same one: same session of the same user, same number, same
//! start. What is left is the time between the two requests on one connection.
//!
//! The session is named with the digest of its user. Without it, the server takes the session of that id of the own
//! user, replies that all is well, and ends nothing.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Binary, Bson, Document, Uuid, doc};
use mongodb::error::Error as DriverError;
use tokio::time::{Instant, sleep, timeout};
use txnscope_catalog::Refusal;

use super::ending_decision::{Decision, Found, decide};
use crate::address;
use crate::collector::{Privilege, hello};
use crate::error::{PollError, StartError};
use crate::hello::close_client;
use crate::identity::Identity;
use crate::target::Target;
use crate::topology::ServerKind;
use crate::uri::{self, Uri};

/// How long connecting, and each request, may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all of it may take. A busy member may be the reason to end a transaction.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the end of the transaction is waited for. A statement that runs notices it at its next check.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often the transaction is looked for meanwhile.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What identifies an open transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionId {
    /// The member that reported it.
    pub member: String,
    /// The id of its session, a UUID.
    pub session: String,
    /// Its number in its session.
    pub txn_number: i64,
    /// When it began, by the server's clock; `None` if the server did not report it.
    pub started_at: Option<String>,
}

/// What became of the request to end a transaction.
#[derive(Debug)]
pub struct Ending {
    /// The users of the database that made the request, as `name@database`; none without authentication, or if the
    /// member was not reached.
    pub users: Vec<String>,
    /// The result.
    pub result: Result<EndOutcome, EndError>,
}

/// The result of a request to end a transaction that the member has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOutcome {
    /// It was open, the server was asked to end it, and it is open no longer.
    Ended,
    /// The server was asked to end it, and still lists it.
    Pending,
    /// It had ended before.
    AlreadyOver,
    /// It had ended before, and another transaction, of this number, runs in its session now.
    OtherTransaction(i64),
    /// It is prepared: only the coordinator of a transaction on several shards may end it.
    Prepared,
    /// It is internal: the server runs it for a command of a client.
    Internal,
    /// Sessions of several users have its id.
    SeveralUsers,
}

impl EndOutcome {
    /// The outcome in one word, for the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Pending => "pending",
            Self::AlreadyOver => "already_over",
            Self::OtherTransaction(_) => "other_transaction",
            Self::Prepared => "prepared",
            Self::Internal => "internal",
            Self::SeveralUsers => "several_users",
        }
    }

    /// The outcome as a sentence, with what to do next.
    #[must_use]
    pub fn message(self) -> String {
        match self {
            Self::Ended => {
                "the transaction is over: its client gets an error at its next statement, at which drivers \
                            run it again; a statement that ran was interrupted, and is not retried"
                    .to_owned()
            }
            Self::Pending => {
                "the server has accepted the request, and the transaction is still open: its statement \
                              ends at its next check; look again in a moment"
                    .to_owned()
            }
            Self::AlreadyOver => "nothing was ended: the transaction had ended before".to_owned(),
            Self::OtherTransaction(number) => format!(
                "nothing was ended: the transaction had ended before, and its session runs another one now, number {number}"
            ),
            Self::Prepared => {
                "nothing was ended: the transaction is prepared, and only its coordinator ends it; see \
                               the runbook MongoDBPreparedTransactionStuck"
                    .to_owned()
            }
            Self::Internal => {
                "nothing was ended: the server runs this transaction inside of a command of a client; \
                               end the client's command instead, with killOp"
                    .to_owned()
            }
            Self::SeveralUsers => {
                "nothing was ended: sessions of several users have this id, which drivers do not \
                                   let happen by chance; find out which client it is"
                    .to_owned()
            }
        }
    }
}

/// Why a transaction could not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// The URI cannot be used.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The session or the member is malformed.
    #[error("{0}")]
    Invalid(&'static str),
    /// The user lacks a privilege.
    #[error(
        "the user may not {0}: create the role that `txnscope role --allow-kill` prints, and grant it to the user"
    )]
    Denied(&'static str),
    /// The member is a mongos.
    #[error(
        "this member is a mongos, and the locks are held on shards: run the command with the URI of the shard's \
         replica set"
    )]
    Mongos,
    /// The member does not answer.
    #[error(
        "the member does not answer in time; whether the transaction was ended is unknown: look whether it is still open"
    )]
    Timeout,
    /// The member refuses, or cannot be reached.
    #[error("the member does not answer: {0}")]
    Failed(String),
}

impl EndError {
    fn of(error: DriverError, what: &'static str) -> Self {
        let error = PollError::from(error);
        match error.refusal() {
            Some(Refusal::Denied) => Self::Denied(what),
            _ => Self::Failed(error.to_string()),
        }
    }

    /// The error in one word, for the log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Start(_) | Self::Invalid(_) => "invalid",
            Self::Denied(_) => "permission_denied",
            Self::Mongos => "mongos",
            Self::Timeout => "timeout",
            Self::Failed(_) => "failed",
        }
    }
}

/// The privilege that ending a transaction of another user needs, besides those of the live view.
#[must_use]
pub fn kill_privilege() -> Privilege {
    Privilege::on_cluster("killAnySession")
}

/// Ends an open transaction of a deployment. Nothing else in this crate changes anything on a server.
///
/// # Cancellation
///
/// The transaction may have been ended.
pub async fn end_transaction(target: &Target, transaction: &TransactionId) -> Ending {
    let mut users = Vec::new();
    let result = timeout(LIMIT, connect_and_end(target, transaction, &mut users)).await;
    Ending { users, result: result.unwrap_or(Err(EndError::Timeout)) }
}

async fn connect_and_end(
    target: &Target,
    transaction: &TransactionId,
    users: &mut Vec<String>,
) -> Result<EndOutcome, EndError> {
    let session = Uuid::parse_str(&transaction.session)
        .map_err(|_| EndError::Invalid("the session is no UUID: give it as `txnscope top` shows it"))?;
    let member = address::parse(&transaction.member)
        .ok_or(EndError::Invalid("the member is no address: give it as host:port"))?;
    let options = Uri::of(target)?.resolve().await?;
    let client = uri::client(&options, member, REQUEST_TIMEOUT).map_err(StartError::from)?;
    let admin = client.database("admin");
    let result = end(&admin, session.into(), transaction, users).await;
    close_client(client).await;
    result
}

async fn end(
    admin: &Database,
    session: Binary,
    transaction: &TransactionId,
    users: &mut Vec<String>,
) -> Result<EndOutcome, EndError> {
    let failed = |error: PollError| EndError::Failed(error.to_string());
    if hello(admin, &Identity::default()).await.map_err(failed)?.kind == ServerKind::Mongos {
        return Err(EndError::Mongos);
    }
    *users = authenticated_users(admin).await?;
    let user = match decide(&open_transactions(admin, &session).await?, transaction) {
        Decision::End { user } => user,
        Decision::Refuse(outcome) => return Ok(outcome),
    };
    let of_user = Bson::Binary(user.clone());
    let kill = doc! {"killSessions": [{"id": Bson::Binary(session.clone()), "uid": of_user}]};
    admin.run_command(kill).await.map_err(|error| EndError::of(error, "end the session of another user"))?;
    let began = Instant::now();
    loop {
        let found = open_transactions(admin, &session).await?;
        let is_open = |of: &Found| of.user.as_ref() == Some(&user) && of.txn_number == transaction.txn_number;
        if !found.iter().any(is_open) {
            return Ok(EndOutcome::Ended);
        }
        if began.elapsed() > END_LIMIT {
            return Ok(EndOutcome::Pending);
        }
        sleep(RECHECK_INTERVAL).await;
    }
}

/// The users of the connection. Asking for them needs no privilege.
async fn authenticated_users(admin: &Database) -> Result<Vec<String>, EndError> {
    let status = admin.run_command(doc! {"connectionStatus": 1}).await;
    let status = status.map_err(|error| EndError::of(error, "connect"))?;
    let users = status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUsers"));
    let name = |user: &Bson| {
        let user = user.as_document()?;
        Some(format!("{}@{}", user.get_str("user").ok()?, user.get_str("db").ok()?))
    };
    Ok(users.map(|users| users.iter().filter_map(name).collect()).unwrap_or_default())
}

/// The open transactions in the sessions of an id. No text of a client is read.
async fn open_transactions(admin: &Database, session: &Binary) -> Result<Vec<Found>, EndError> {
    let denied = |error| EndError::of(error, "read the transactions of other users");
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleSessions": true, "localOps": true}},
        doc! {"$match": {"lsid.id": Bson::Binary(session.clone()), "transaction.parameters.autocommit": false}},
        doc! {"$project": {
            "lsid": 1, "transaction.parameters.txnNumber": 1, "transaction.startWallClockTime": 1,
            "transaction.timePreparedMicros": 1,
        }},
    ];
    let mut cursor = admin.aggregate(pipeline).await.map_err(denied)?;
    let mut found = Vec::new();
    while cursor.advance().await.map_err(denied)? {
        let document: Document = cursor.deserialize_current().map_err(denied)?;
        found.extend(Found::decode(&document));
    }
    Ok(found)
}
