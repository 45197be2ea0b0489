//! The log events of transactions.

use super::driver_error::{ErrorSummary, code, code_name, labels};
use super::error::Failure;
use super::retry_loop::RetryLoop;
use crate::{Reason, scope};
use mongodb::error::Error;

macro_rules! emit_event {
    ($level:ident, $retry_loop:expr, $reason:expr, $error:expr, $elapsed:expr, $text:literal) => {{
        let error: Option<&Error> = $error;
        let labels = error.map(labels).filter(|labels| !labels.is_empty());
        tracing::$level!(
            operation = $retry_loop.metrics.operation(),
            attempt = $retry_loop.attempts,
            reason = $reason.as_str(),
            code = error.and_then(code),
            code_name = error.and_then(code_name),
            labels = labels.as_deref(),
            error = error.map(|error| tracing::field::display(ErrorSummary(error))),
            elapsed_seconds = $elapsed,
            lsid = $retry_loop.identity.lsid.map(tracing::field::display),
            txn_number = $retry_loop.identity.txn_number,
            $text
        )
    }};
}

/// Logs a transaction that failed, with the fields of the span that the handler attached.
pub(super) fn failed<E>(retry_loop: &RetryLoop, failure: &Failure<E>) {
    in_operation_span(|| {
        let elapsed = failure.elapsed().as_secs_f64();
        emit_event!(
            warn,
            retry_loop,
            failure.reason(),
            failure.driver_error(),
            elapsed,
            "transaction failed"
        );
    });
}

/// Logs a transaction whose commit result is unknown.
pub(super) fn commit_unknown<E>(retry_loop: &RetryLoop, failure: &Failure<E>) {
    in_operation_span(|| {
        let (elapsed, reason) = (failure.elapsed().as_secs_f64(), Reason::COMMIT_UNKNOWN);
        emit_event!(
            warn,
            retry_loop,
            reason,
            failure.driver_error(),
            elapsed,
            "transaction's commit is unknown"
        );
    });
}

/// Warns of a callback without a statement in its transaction, once for each operation.
pub(super) fn no_statement(retry_loop: &RetryLoop) {
    if retry_loop.metrics.count_without_statements() {
        in_operation_span(|| {
            tracing::warn!(
                operation = retry_loop.metrics.operation(),
                "a transaction's callback ended without any statement in the transaction: its writes, if any, were \
                 applied at once and are not undone; put .session(&mut tx) on each statement"
            );
        });
    }
}

/// Warns of a conflict of a nested transaction, once for each transaction.
fn nested_conflict(retry_loop: &RetryLoop) {
    if retry_loop.is_nested() && retry_loop.first_warning() {
        tracing::warn!(
            operation = retry_loop.metrics.operation(),
            lsid = retry_loop.identity.lsid.map(tracing::field::display),
            "a transaction conflicts that runs inside the callback of another one: if both write the same document, the \
             inner one is retried for the whole time limit, because the outer one cannot end first; pass the outer \
             transaction on instead"
        );
    }
}

/// Logs that an attempt is retried.
pub(super) fn retry(retry_loop: &RetryLoop, reason: Reason, error: Option<&Error>) {
    if reason == Reason::WRITE_CONFLICT {
        nested_conflict(retry_loop);
    }
    if tracing::enabled!(tracing::Level::DEBUG) {
        in_operation_span(|| {
            let elapsed: Option<f64> = None;
            emit_event!(debug, retry_loop, reason, error, elapsed, "transaction is retried");
        });
    }
}

fn in_operation_span(emit_event: impl FnOnce()) {
    match scope::span() {
        Some(span) => span.in_scope(emit_event),
        None => emit_event(),
    }
}
