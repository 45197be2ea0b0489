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

use super::attempt::RunningAttempt;
use super::attempt_recorder::AttemptRecorder;
use super::driver_error::{Delivery, ErrorSummary, code, delivery, is_write_concern_error};
use super::keyed_queue::QueuePermit;
use super::metrics::{AttemptOutcome, CleanupResult, NotStartedCause, TransactionMetrics};
use super::runner::Shared;
use super::session_debug::SessionState;
use crate::Reason;

/// After this the server has ended the transaction by itself: `transactionLifetimeLimitSeconds` is 60 by default, and
/// it looks every half of that, at most once a minute.
const MAX_TRANSACTION_LIFETIME: Duration = Duration::from_secs(120);
/// A command that has no answer after this was lost.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The databases in which no transaction may be.
const INTERNAL_DATABASES: [&str; 3] = ["admin", "config", "local"];

/// For so long those who wait for the same key wait for an abort, too: what it undoes would only make them conflict.
const ABORT_GRACE: Duration = Duration::from_millis(50);

/// Waits for an abort that is under way. One of which nothing is heard is followed by a kill.
pub(super) async fn abort(
    shared: Arc<Shared>,
    mut abort: Pin<Box<impl Future<Output = (ClientSession, Result<(), Error>)>>>,
    lsid: Document,
    recorder: AttemptRecorder,
    reason: Reason,
    permits: Vec<QueuePermit>,
) {
    let mut aborted = timeout(ABORT_GRACE, abort.as_mut()).await;
    drop(permits);
    if aborted.is_err() {
        aborted = timeout(COMMAND_TIMEOUT, abort.as_mut()).await;
    }
    match aborted {
        // The driver tries twice, tells nobody that both were lost, and never uses the session again, so that no later
        // transaction would end this one.
        Ok((session, _)) if SessionState::of(&session).may_have_lost_an_answer() => {
            kill(shared, Box::new(RunningAttempt { session, recorder }), reason).await;
        }
        Ok(_) => {}
        Err(_) => {
            // The abort keeps the session meanwhile, so that nobody else's work in it is killed.
            let deadline = Instant::now() + MAX_TRANSACTION_LIFETIME;
            let killed = kill_session(&shared.client, &lsid, deadline).await;
            let cleaned = match killed {
                Ok(()) => CleanupResult::Aborted,
                // The abort alone can end it then, and the session is what it may take to end it otherwise.
                Err(error) if is_permanently_refused(&error) => {
                    match timeout(MAX_TRANSACTION_LIFETIME, abort.as_mut()).await {
                        Ok((session, _)) if SessionState::of(&session).may_have_lost_an_answer() => {
                            return kill(shared, Box::new(RunningAttempt { session, recorder }), reason)
                                .await;
                        }
                        Ok(_) => CleanupResult::Aborted,
                        Err(_) => leave_to_server(&recorder, &error),
                    }
                }
                Err(error) => leave_to_server(&recorder, &error),
            };
            recorder.metrics.count_cleanup(cleaned);
            drop(abort);
        }
    }
}

/// Kills whatever the session has open, as soon as the server can be reached. Where the server lets nobody kill sessions (its
/// host forbids it, or the strict Stable API does), it is told so once, and aborts what it has answered, or begins a later
/// transaction in the session, which ends the earlier one.
pub(super) async fn kill(shared: Arc<Shared>, attempt: Box<RunningAttempt>, reason: Reason) {
    let may_still_start = attempt.may_still_start();
    let RunningAttempt { mut session, recorder } = *attempt;
    let deadline = Instant::now() + MAX_TRANSACTION_LIFETIME;
    let result = loop {
        match kill_session(&shared.client, session.id(), deadline).await {
            Ok(()) if !may_still_start => break CleanupResult::Aborted,
            Ok(()) => {}
            Err(error) if is_permanently_refused(&error) => {
                break end_without_kill(&shared.client, &mut session, &recorder, !may_still_start, deadline)
                    .await;
            }
            Err(error) => break leave_to_server(&recorder, &error),
        }
        // Nobody knows whether the first statement has reached the server: it may do so even now.
        match fence_session(&shared.client, &mut session, recorder.metrics).await {
            Ok(cleaned) => break cleaned,
            Err(error) if is_permanent(&error) || Instant::now() > deadline => {
                break leave_to_server(&recorder, &error);
            }
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    };
    if may_still_start {
        recorder.lost();
    }
    recorder.metrics.count_cleanup(result);
    recorder.end(AttemptOutcome::Aborted(reason));
}

/// Kills it as soon as the server can be reached. Everybody may kill sessions of his own; this needs no privilege.
async fn kill_session(client: &Client, lsid: &Document, deadline: Instant) -> Result<(), Error> {
    let admin = client.database("admin");
    loop {
        let kill = admin.run_command(doc! { "killSessions": [lsid.clone()] });
        let error = match timeout(COMMAND_TIMEOUT, kill.into_future()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => no_reply_error(),
        };
        if is_permanent(&error) || Instant::now() > deadline {
            return Err(error);
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Ends what the session has open on a server that kills no sessions.
async fn end_without_kill(
    client: &Client,
    session: &mut ClientSession,
    recorder: &AttemptRecorder,
    answered: bool,
    deadline: Instant,
) -> CleanupResult {
    if answered {
        // It waits on the server for the statement that is under way.
        let aborted = timeout(COMMAND_TIMEOUT, session.abort_transaction()).await;
        if matches!(aborted, Ok(Ok(()))) && !SessionState::of(session).may_have_lost_an_answer() {
            return CleanupResult::Aborted;
        }
    }
    loop {
        match fence_session(client, session, recorder.metrics).await {
            Ok(cleaned) => return cleaned,
            Err(error) if is_permanent(&error) || Instant::now() > deadline => {
                return leave_to_server(recorder, &error);
            }
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// Whether the same would come of it the next time.
fn is_permanent(error: &Error) -> bool {
    is_permanently_refused(error) || matches!(error.kind.as_ref(), ErrorKind::Shutdown)
}

/// Whether the server said no, and will say so again: to this user, to this command, or to a transaction there.
fn is_permanently_refused(error: &Error) -> bool {
    const NOT_IN_A_TRANSACTION: i32 = 263;
    let code = code(error);
    delivery(error) == Delivery::Answered
        && (code == Some(NOT_IN_A_TRANSACTION)
            || matches!(refusal(code), Refusal::Unsupported | Refusal::Denied))
}

fn leave_to_server(recorder: &AttemptRecorder, error: &Error) -> CleanupResult {
    let error = tracing::field::display(ErrorSummary(error));
    let lsid = recorder.identity().lsid.map(tracing::field::display);
    let operation = recorder.metrics.operation();
    tracing::warn!(operation, lsid, error, "a transaction may stay open until the server ends it");
    CleanupResult::LeftToServer
}

/// Begins a later transaction in the session, so that the server refuses the lost one's first statement if it still
/// comes, and ends it.
///
/// A user who may not read there leaves that way closed: then the session is killed again, after a time in which
/// whatever was under way has arrived.
async fn fence_session(
    client: &Client,
    session: &mut ClientSession,
    metrics: &'static TransactionMetrics,
) -> Result<CleanupResult, Error> {
    // Of the lost one, as far as the driver knows of it. It tells no errors here.
    let _ = timeout(COMMAND_TIMEOUT, session.abort_transaction()).await;
    session
        .start_transaction()
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::majority())
        .await?;
    // The server runs no transaction in its own databases, which a URI may name for the user's sake.
    let database =
        client.default_database().filter(|database| !INTERNAL_DATABASES.contains(&database.name()));
    let database = database.unwrap_or_else(|| client.database("test"));
    let fence = database.collection::<Document>("txnscope_fence");
    let read = fence.find_one(doc! {}).session(&mut *session);
    let read_result =
        timeout(COMMAND_TIMEOUT, read.into_future()).await.unwrap_or_else(|_| Err(no_reply_error()));
    let abort_result = timeout(COMMAND_TIMEOUT, session.abort_transaction()).await;
    match read_result {
        Ok(_) => {
            if abort_result.is_err() || SessionState::of(session).may_have_lost_an_answer() {
                kill_session(client, session.id(), Instant::now()).await?;
            }
            Ok(CleanupResult::Fenced)
        }
        Err(error) if is_permanently_refused(&error) => {
            for delay in [RETRY_INTERVAL, 4 * RETRY_INTERVAL] {
                tokio::time::sleep(delay).await;
                kill_session(client, session.id(), Instant::now()).await?;
            }
            Ok(CleanupResult::Aborted)
        }
        Err(error) => {
            if delivery(&error) != Delivery::NotSent {
                // It may have begun on the server, and another one follows.
                metrics.count_cleanup(CleanupResult::Fenced);
                metrics.count_not_started(NotStartedCause::Lost);
            }
            Err(error)
        }
    }
}

/// In place of an error of the driver's, which waits longer.
fn no_reply_error() -> Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Sends a commit again until its result is known. What it is then counted as, if it was not yet, is that.
///
/// Never an abort: the caller's work was complete, and the commit may have taken effect.
pub(super) async fn resolve_commit(
    mut session: ClientSession,
    recorder: Option<AttemptRecorder>,
    metrics: &'static TransactionMetrics,
) {
    let deadline = Instant::now() + MAX_TRANSACTION_LIFETIME;
    let (outcome, result) = loop {
        match timeout(COMMAND_TIMEOUT, session.commit_transaction()).await {
            Ok(Ok(())) => break (AttemptOutcome::Committed, CleanupResult::Committed),
            Ok(Err(error)) if is_write_concern_error(&error) => {
                break (AttemptOutcome::Unknown, CleanupResult::Committed);
            }
            Ok(Err(error))
                if error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                    && delivery(&error) == Delivery::Answered =>
            {
                break (AttemptOutcome::Aborted(Reason::from_error(&error)), CleanupResult::Aborted);
            }
            Ok(Err(_)) | Err(_) if Instant::now() < deadline => {}
            Ok(Err(_)) | Err(_) => break (AttemptOutcome::Unknown, CleanupResult::LeftToServer),
        }
        metrics.commit_retries.increment(1);
        tokio::time::sleep(RETRY_INTERVAL).await;
    };
    metrics.count_cleanup(result);
    if let Some(recorder) = recorder {
        recorder.end(outcome);
    }
}
