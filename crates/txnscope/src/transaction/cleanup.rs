//! Ends transactions aside from the request that left them.
//!
//! A request can be dropped at any await. The driver, too, ends what was begun, but for one case: if the first
//! statement was under way, it does not know whether a transaction is open, and sends nothing. Such a one keeps its
//! locks until the server's limit ends it, after a minute and more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{Client, ClientSession};
use tokio::time::{Instant, timeout};
use txnscope_catalog::{Refusal, refusal};

use super::attempt::Live;
use super::books::{AttemptOutcome, Books, Cleaned, Unbegun};
use super::classify::{Brief, Reached, code, is_write_concern_error, reached};
use super::driver_session::Account;
use super::queue::Turn;
use super::runner::Shared;
use super::tally::Tally;
use crate::Reason;

/// After this the server has ended the transaction by itself: `transactionLifetimeLimitSeconds` is 60 by default, and
/// it looks every half of that, at most once a minute.
const LIFETIME: Duration = Duration::from_secs(120);
/// A command that has no answer after this was lost.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// The databases in which no transaction may be.
const OF_THE_SERVER: [&str; 3] = ["admin", "config", "local"];

/// For so long those who wait for the same key wait for an abort, too: what it undoes would only make them conflict.
const GRACE: Duration = Duration::from_millis(50);

/// Waits for an abort that is under way. One of which nothing is heard is followed by a kill.
pub(super) async fn abort(
    shared: Arc<Shared>,
    mut abort: Pin<Box<impl Future<Output = (ClientSession, Result<(), Error>)>>>,
    lsid: Document,
    tally: Tally,
    reason: Reason,
    turns: Vec<Turn>,
) {
    let mut aborted = timeout(GRACE, abort.as_mut()).await;
    drop(turns);
    if aborted.is_err() {
        aborted = timeout(PATIENCE, abort.as_mut()).await;
    }
    match aborted {
        // The driver tries twice, tells nobody that both were lost, and never uses the session again, so that no later
        // transaction would end this one.
        Ok((session, _)) if Account::of(&session).may_have_lost_an_answer() => {
            kill(shared, Box::new(Live { session, tally }), reason).await;
        }
        Ok(_) => {}
        Err(_) => {
            // The abort keeps the session meanwhile, so that nobody else's work in it is killed.
            let until = Instant::now() + LIFETIME;
            let killed = kill_session(&shared.client, &lsid, until).await;
            let cleaned = match killed {
                Ok(()) => Cleaned::Aborted,
                // The abort alone can end it then, and the session is what it may take to end it otherwise.
                Err(error) if is_refused_for_good(&error) => match timeout(LIFETIME, abort.as_mut()).await {
                    Ok((session, _)) if Account::of(&session).may_have_lost_an_answer() => {
                        return kill(shared, Box::new(Live { session, tally }), reason).await;
                    }
                    Ok(_) => Cleaned::Aborted,
                    Err(_) => gave_up(&tally, &error),
                },
                Err(error) => gave_up(&tally, &error),
            };
            tally.books.cleaned(cleaned);
            drop(abort);
        }
    }
}

/// Kills whatever the session has open, as soon as the server can be reached. Where the server lets nobody kill sessions (its
/// host forbids it, or the strict Stable API does), it is told so once, and aborts what it has answered, or begins a later
/// transaction in the session, which ends the earlier one.
pub(super) async fn kill(shared: Arc<Shared>, live: Box<Live>, reason: Reason) {
    let may_still_begin = live.may_still_begin();
    let Live { mut session, tally } = *live;
    let until = Instant::now() + LIFETIME;
    let result = loop {
        match kill_session(&shared.client, session.id(), until).await {
            Ok(()) if !may_still_begin => break Cleaned::Aborted,
            Ok(()) => {}
            Err(error) if is_refused_for_good(&error) => {
                break without_kill(&shared.client, &mut session, &tally, !may_still_begin, until).await;
            }
            Err(error) => break gave_up(&tally, &error),
        }
        // Nobody knows whether the first statement has reached the server: it may do so even now.
        match keep_out(&shared.client, &mut session, tally.books).await {
            Ok(cleaned) => break cleaned,
            Err(error) if is_hopeless(&error) || Instant::now() > until => break gave_up(&tally, &error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    if may_still_begin {
        tally.lost();
    }
    tally.books.cleaned(result);
    tally.end(AttemptOutcome::Aborted(reason));
}

/// Kills it as soon as the server can be reached. Everybody may kill sessions of his own; this needs no privilege.
async fn kill_session(client: &Client, lsid: &Document, until: Instant) -> Result<(), Error> {
    let admin = client.database("admin");
    loop {
        let kill = admin.run_command(doc! { "killSessions": [lsid.clone()] });
        let error = match timeout(PATIENCE, kill.into_future()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => no_answer(),
        };
        if is_hopeless(&error) || Instant::now() > until {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends what the session has open on a server that kills no sessions.
async fn without_kill(
    client: &Client,
    session: &mut ClientSession,
    tally: &Tally,
    answered: bool,
    until: Instant,
) -> Cleaned {
    if answered {
        // It waits on the server for the statement that is under way.
        let aborted = timeout(PATIENCE, session.abort_transaction()).await;
        if matches!(aborted, Ok(Ok(()))) && !Account::of(session).may_have_lost_an_answer() {
            return Cleaned::Aborted;
        }
    }
    loop {
        match keep_out(client, session, tally.books).await {
            Ok(cleaned) => return cleaned,
            Err(error) if is_hopeless(&error) || Instant::now() > until => return gave_up(tally, &error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Whether the same would come of it the next time.
fn is_hopeless(error: &Error) -> bool {
    is_refused_for_good(error) || matches!(error.kind.as_ref(), ErrorKind::Shutdown)
}

/// Whether the server said no, and will say so again: to this user, to this command, or to a transaction there.
fn is_refused_for_good(error: &Error) -> bool {
    const NOT_IN_A_TRANSACTION: i32 = 263;
    let code = code(error);
    reached(error) == Reached::Server
        && (code == Some(NOT_IN_A_TRANSACTION)
            || matches!(refusal(code), Refusal::Unsupported | Refusal::Denied))
}

fn gave_up(tally: &Tally, error: &Error) -> Cleaned {
    let error = tracing::field::display(Brief(error));
    let lsid = tally.identity().lsid.map(tracing::field::display);
    let operation = tally.books.operation();
    tracing::warn!(operation, lsid, error, "a transaction may stay open until the server ends it");
    Cleaned::GaveUp
}

/// Begins a later transaction in the session, so that the server refuses the lost one's first statement if it still
/// comes, and ends it.
///
/// A user who may not read there leaves that way closed: then the session is killed again, after a time in which
/// whatever was under way has arrived.
async fn keep_out(
    client: &Client,
    session: &mut ClientSession,
    books: &'static Books,
) -> Result<Cleaned, Error> {
    // Of the lost one, as far as the driver knows of it. It tells no errors here.
    let _ = timeout(PATIENCE, session.abort_transaction()).await;
    session
        .start_transaction()
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::majority())
        .await?;
    // The server runs no transaction in its own databases, which a URI may name for the user's sake.
    let database = client.default_database().filter(|database| !OF_THE_SERVER.contains(&database.name()));
    let database = database.unwrap_or_else(|| client.database("test"));
    let fence = database.collection::<Document>("txnscope_fence");
    let read = fence.find_one(doc! {}).session(&mut *session);
    let begun = timeout(PATIENCE, read.into_future()).await.unwrap_or_else(|_| Err(no_answer()));
    let ended = timeout(PATIENCE, session.abort_transaction()).await;
    match begun {
        Ok(_) => {
            if ended.is_err() || Account::of(session).may_have_lost_an_answer() {
                kill_session(client, session.id(), Instant::now()).await?;
            }
            Ok(Cleaned::Fenced)
        }
        Err(error) if is_refused_for_good(&error) => {
            for pause in [PAUSE, 4 * PAUSE] {
                tokio::time::sleep(pause).await;
                kill_session(client, session.id(), Instant::now()).await?;
            }
            Ok(Cleaned::Aborted)
        }
        Err(error) => {
            if reached(&error) != Reached::Nobody {
                // It may have begun on the server, and another one follows.
                books.cleaned(Cleaned::Fenced);
                books.unbegun(Unbegun::Lost);
            }
            Err(error)
        }
    }
}

/// In place of an error of the driver's, which waits longer.
fn no_answer() -> Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
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
                break (AttemptOutcome::Aborted(Reason::from_error(&error)), Cleaned::Aborted);
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
