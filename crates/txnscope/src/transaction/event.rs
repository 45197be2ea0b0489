//! What the log is told of transactions.

use super::classify::{Brief, code, code_name, labels};
use super::course::Course;
use super::error::Failure;
use crate::{Reason, scope};
use mongodb::error::Error;

macro_rules! say {
    ($level:ident, $course:expr, $reason:expr, $error:expr, $elapsed:expr, $text:literal) => {{
        let error: Option<&Error> = $error;
        let labels = error.map(labels).filter(|labels| !labels.is_empty());
        tracing::$level!(
            operation = $course.books.operation(),
            attempt = $course.attempts,
            reason = $reason.as_str(),
            code = error.and_then(code),
            code_name = error.and_then(code_name),
            labels = labels.as_deref(),
            error = error.map(|error| tracing::field::display(Brief(error))),
            elapsed_seconds = $elapsed,
            lsid = $course.identity.lsid.map(tracing::field::display),
            txn_number = $course.identity.txn_number,
            $text
        )
    }};
}

/// The one event of a transaction that failed. It carries the fields of the span that the handler attached.
pub(super) fn failed<E>(course: &Course, failure: &Failure<E>) {
    within(|| {
        let elapsed = failure.elapsed().as_secs_f64();
        say!(warn, course, failure.reason(), failure.driver_error(), elapsed, "transaction failed");
    });
}

/// The one event of a transaction whose result is not known.
pub(super) fn unknown<E>(course: &Course, failure: &Failure<E>) {
    within(|| {
        let (elapsed, reason) = (failure.elapsed().as_secs_f64(), Reason::COMMIT_UNKNOWN);
        say!(warn, course, reason, failure.driver_error(), elapsed, "transaction's commit is unknown");
    });
}

/// The work has made no statement of its own transaction. Once for each operation.
pub(super) fn without_a_statement(course: &Course) {
    if course.books.without_a_statement() {
        within(|| {
            tracing::warn!(
                operation = course.books.operation(),
                "a transaction's work ended without any statement of the transaction: what it wrote, if it wrote \
                 anything, was written at once and is not undone; put .session(&mut tx) on each statement"
            );
        });
    }
}

/// An attempt conflicts, and is in the work of another run. Once for each run.
fn met_in_the_work_of_another(course: &Course) {
    if course.is_inside_of_another() && course.warns() {
        tracing::warn!(
            operation = course.books.operation(),
            lsid = course.identity.lsid.map(tracing::field::display),
            "a transaction conflicts that runs inside the work of another one: if both write the same document, it is \
             tried again for the whole time limit, because the outer one cannot end before it; hand the outer \
             transaction on instead"
        );
    }
}

/// An attempt ended, and another follows.
pub(super) fn to_be_tried_again(course: &Course, reason: Reason, error: Option<&Error>) {
    if reason == Reason::WRITE_CONFLICT {
        met_in_the_work_of_another(course);
    }
    if tracing::enabled!(tracing::Level::DEBUG) {
        within(|| {
            let elapsed: Option<f64> = None;
            say!(debug, course, reason, error, elapsed, "transaction is tried again");
        });
    }
}

fn within(say: impl FnOnce()) {
    match scope::span() {
        Some(span) => span.in_scope(say),
        None => say(),
    }
}
