//! Background cleanup of transactions that a request has left.
//!
//! A request can be dropped at any await point. The driver then ends the transaction itself, with one exception: if
//! the first statement is in flight, the driver does not know whether a transaction is open, and sends nothing. Such
//! a transaction keeps its locks until the server's limit ends it, after a minute or more.

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

/// After this time the server has ended the transaction itself: `transactionLifetimeLimitSeconds` is 60 by default,
/// and the server checks every half of that, at most once a minute.
const MAX_TRANSACTION_LIFETIME: Duration = Duration::from_secs(120);
/// A command without a reply after this time is considered lost.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The databases in which the server allows no transactions.
const INTERNAL_DATABASES: [&str; 3] = ["admin", "config", "local"];

/// How long the waiters for the same key also wait for an abort, to avoid conflicts with it.
const ABORT_GRACE: Duration = Duration::from_millis(50);

/// Waits for an abort in flight. An abort without a reply is followed by a kill.
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
        // The driver tries twice, hides that both replies were lost, and never reuses the session, so that no later
        // transaction would end this one.
        Ok((session, _)) if SessionState::of(&session).may_have_lost_an_answer() => {
            kill(shared, Box::new(RunningAttempt { session, recorder }), reason).await;
        }
        Ok(_) => {}
        Err(_) => {
            // The abort holds the session meanwhile, so that no other transaction in it is killed.
            let deadline = Instant::now() + MAX_TRANSACTION_LIFETIME;
            let killed = kill_session(&shared.client, &lsid, deadline).await;
            let cleaned = match killed {
                Ok(()) => CleanupResult::Aborted,
                // Only the abort can end the transaction then, and its session is needed for any other way.
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

/// Kills the session's transaction as soon as the server is reachable. If the server refuses `killSessions` (hosted
/// deployments and the strict Stable API do), aborts the transaction if it was answered, or else starts a later
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
        // The first statement may still reach the server.
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

/// Kills the session as soon as the server is reachable. Killing one's own sessions requires no privilege.
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

/// Ends the session's transaction on a server that refuses `killSessions`.
async fn end_without_kill(
    client: &Client,
    session: &mut ClientSession,
    recorder: &AttemptRecorder,
    answered: bool,
    deadline: Instant,
) -> CleanupResult {
    if answered {
        // On the server, the abort waits for the statement in flight.
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

/// Whether a retry would have the same result.
fn is_permanent(error: &Error) -> bool {
    is_permanently_refused(error) || matches!(error.kind.as_ref(), ErrorKind::Shutdown)
}

/// Whether the server permanently refuses this command: by privilege, by API version, or because transactions are not
/// allowed there.
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

/// Fences the session: starts a later transaction in it, so that the server ends the earlier one, and rejects its
/// first statement if it still arrives.
///
/// Without the `find` privilege on the fence's collection, fencing is not possible; then the session is killed again,
/// after a time in which any statement in flight has arrived.
async fn fence_session(
    client: &Client,
    session: &mut ClientSession,
    metrics: &'static TransactionMetrics,
) -> Result<CleanupResult, Error> {
    // Ends the earlier transaction as far as the driver knows of it. The driver reports no errors here.
    let _ = timeout(COMMAND_TIMEOUT, session.abort_transaction()).await;
    session
        .start_transaction()
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::majority())
        .await?;
    // The server allows no transactions in its own databases, which a URI may name as the authentication database.
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
                // The fence may have started on the server, and another one follows.
                metrics.count_cleanup(CleanupResult::Fenced);
                metrics.count_not_started(NotStartedCause::Lost);
            }
            Err(error)
        }
    }
}

/// Replaces the driver's own error, which would come later.
fn no_reply_error() -> Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Retries a commit until its result is known, and records that result unless the attempt was already recorded.
///
/// Never aborts: the callback was complete, and the commit may have been applied.
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
