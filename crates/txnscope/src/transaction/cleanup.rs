//! Ends transactions aside from the request that left them.
//!
//! A request can be dropped at any await. The driver, too, ends what was begun, but for one case: if the first
//! statement was under way, it does not know whether a transaction is open, and sends nothing. Such a one keeps its
//! locks until the server's limit ends it, after a minute and more.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{Client, ClientSession};
use tokio::time::{Instant, timeout};

use super::attempt::Live;
use super::books::{AttemptOutcome, Books, Cleaned, Unbegun};
use super::classify::{Brief, Reached, code, is_write_concern_error, reached};
use super::runner::Shared;
use super::tally::Tally;
use crate::Reason;

/// After this the server has ended the transaction by itself: `transactionLifetimeLimitSeconds` is 60 by default, and
/// it looks every half of that, at most once a minute.
const LIFETIME: Duration = Duration::from_secs(120);
/// A command that has no answer after this was lost.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Kills whatever the session has open, as soon as the server can be reached.
pub(super) async fn kill(shared: Arc<Shared>, live: Box<Live>, reason: Reason) {
    let Live { mut session, tally } = *live;
    let books = tally.books;
    let answered = session.operation_time().is_some();
    let until = Instant::now() + LIFETIME;
    let result = loop {
        let error = match timeout(PATIENCE, kill_session(&shared.client, &session)).await {
            // Nobody knows whether the first statement has reached the server: it may do so even now.
            Ok(Ok(())) if !answered => match keep_out(&shared.client, &mut session).await {
                Ok(cleaned) => break cleaned,
                Err(error) => Some(error),
            },
            Ok(Ok(())) => break Cleaned::Aborted,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let hopeless =
            error.as_ref().is_some_and(|error| reached(error) == Reached::Server && code(error) == Some(13));
        if hopeless || Instant::now() > until {
            let error = error.as_ref().map(|error| tracing::field::display(Brief(error)));
            let lsid = tally.identity().lsid.map(tracing::field::display);
            let operation = books.operation();
            tracing::warn!(operation, lsid, error, "a transaction may stay open until the server ends it");
            break Cleaned::GaveUp;
        }
        tokio::time::sleep(PAUSE).await;
    };
    if !answered {
        books.unbegun(Unbegun::Lost);
    }
    books.cleaned(result);
    tally.end(AttemptOutcome::Aborted(reason));
}

/// Everybody may kill sessions of his own; this needs no privilege.
async fn kill_session(client: &Client, session: &ClientSession) -> Result<(), Error> {
    client.database("admin").run_command(doc! { "killSessions": [session.id().clone()] }).await.map(drop)
}

/// Begins a later transaction in the session, so that the server refuses the lost one's first statement if it still
/// comes, and ends it.
///
/// A user who may not read there leaves that way closed: then the session is killed again, after a time in which
/// whatever was under way has arrived.
async fn keep_out(client: &Client, session: &mut ClientSession) -> Result<Cleaned, Error> {
    // Of the lost one, as far as the driver knows of it. It tells no errors here.
    let _ = timeout(PATIENCE, session.abort_transaction()).await;
    session
        .start_transaction()
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::majority())
        .await?;
    let database = client.default_database().unwrap_or_else(|| client.database("test"));
    let fence = database.collection::<Document>("txnscope_fence");
    let begun = fence.find_one(doc! {}).session(&mut *session).await;
    let _ = timeout(PATIENCE, session.abort_transaction()).await;
    match begun {
        Ok(_) => Ok(Cleaned::Fenced),
        Err(error) if reached(&error) == Reached::Server && code(&error) == Some(13) => {
            for pause in [PAUSE, 4 * PAUSE] {
                tokio::time::sleep(pause).await;
                kill_session(client, session).await?;
            }
            Ok(Cleaned::Aborted)
        }
        Err(error) => Err(error),
    }
}

/// Sends a commit again until its result is known. What it is then counted as, if it was not yet, is that.
///
/// Never an abort: the caller's work was complete, and the commit may have taken effect.
pub(super) async fn settle(mut session: ClientSession, tally: Option<Tally>, books: &'static Books) {
    let until = Instant::now() + LIFETIME;
    let (outcome, result) = loop {
        match timeout(PATIENCE, session.commit_transaction()).await {
            Ok(Ok(())) => break (AttemptOutcome::Committed, Cleaned::Committed),
            Ok(Err(error)) if is_write_concern_error(&error) => {
                break (AttemptOutcome::Unknown, Cleaned::Committed);
            }
            Ok(Err(error))
                if error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                    && reached(&error) == Reached::Server =>
            {
                break (AttemptOutcome::Aborted(Reason::of(&error)), Cleaned::Aborted);
            }
            Ok(Err(_)) | Err(_) if Instant::now() < until => {}
            Ok(Err(_)) | Err(_) => break (AttemptOutcome::Unknown, Cleaned::GaveUp),
        }
        books.commit_retries.increment(1);
        tokio::time::sleep(PAUSE).await;
    };
    books.cleaned(result);
    if let Some(tally) = tally {
        tally.end(outcome);
    }
}
