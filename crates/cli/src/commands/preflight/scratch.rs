//! A real transaction in a temporary collection.

use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{Acknowledgment, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};
use tokio::time::Instant;

use super::deployment::query_error;
use super::finding::Finding;
use crate::client::services::prometheus::plain;
use crate::runtime::signals::ShutdownSignals;

const SCRATCH: &str = "scratch transaction";
const PREFIX: &str = "txnscope_preflight_";

/// Commits one transaction and aborts another. The collection is dropped in any case, also after a signal.
pub(crate) async fn transaction(client: &Client, database: &str, timeout: Duration) -> Finding {
    let name = format!("{PREFIX}{}", ObjectId::new().to_hex());
    let collection: Collection<Document> = client.database(database).collection(&name);
    let work = async {
        match tokio::time::timeout(timeout * 3, run(client, &collection)).await {
            Ok(Ok(took)) => Ok(took),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("it timed out".to_owned()),
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = interrupted() => Err("it was interrupted".to_owned()),
    };
    let dropped = tokio::time::timeout(timeout, collection.drop()).await;
    let left = match dropped {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(describe(&error)),
        Err(_) => Some("the command timed out".to_owned()),
    };
    match (ended, left) {
        (Ok(took), None) => Finding::pass(
            SCRATCH,
            format!(
                "committed in {:.1} ms, another one aborted; {database}.{name} is dropped",
                took.as_secs_f64() * 1e3
            ),
        ),
        (ended, Some(left)) => Finding::fail(
            SCRATCH,
            format!(
                "{}{database}.{name} may still exist: {left}",
                ended.err().map(|what| format!("{what}; ")).unwrap_or_default()
            ),
            format!("when the server is healthy again: db.getSiblingDB(\"{database}\").{name}.drop()"),
        ),
        (Err(what), None) => Finding::fail(
            SCRATCH,
            what,
            "see the other findings; the user needs createCollection, insert, update, find and dropCollection on this database",
        ),
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() {
    match ShutdownSignals::listen() {
        Ok(mut signals) => _ = signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

/// Runs the transactions, and returns the duration of the commit.
async fn run(client: &Client, collection: &Collection<Document>) -> Result<Duration, Error> {
    let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
    // Not every version can create a collection inside of a transaction.
    collection.insert_one(doc! {"_id": "outside"}).write_concern(majority.clone()).await?;
    let mut session = client.start_session().await?;
    let begin = session.start_transaction().read_concern(ReadConcern::snapshot());
    begin.write_concern(majority.clone()).await?;
    let add = doc! {"$set": {"seen": true}};
    collection.update_one(doc! {"_id": "outside"}, add).session(&mut session).await?;
    collection.insert_one(doc! {"_id": "inside"}).session(&mut session).await?;
    let began = Instant::now();
    session.commit_transaction().await?;
    let took = began.elapsed();
    session.start_transaction().write_concern(majority).await?;
    collection.insert_one(doc! {"_id": "aborted"}).session(&mut session).await?;
    session.abort_transaction().await?;
    let count = collection.count_documents(doc! {}).read_concern(ReadConcern::majority()).await?;
    if count == 2 {
        return Ok(took);
    }
    Err(Error::custom(format!("expected two documents, found {count}")))
}

fn describe(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Custom(what) => what.downcast_ref::<String>().cloned().unwrap_or_default(),
        ErrorKind::Command(command) => plain(&format!("{} ({})", command.message, command.code_name)),
        _ => query_error(error).to_string(),
    }
}
