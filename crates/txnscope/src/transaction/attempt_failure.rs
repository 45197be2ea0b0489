//! The consequence of a failed attempt: whether the transaction is retried, and for which reason it fails.

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};

use super::attempt::RunningAttempt;
use super::error::{Abort, ApplicationError, Cause};
use crate::Reason;

/// Why an attempt has failed.
pub(super) struct AttemptFailure<E> {
    pub(super) cause: Cause<E>,
    /// The driver's error, if an application error wraps it.
    pub(super) wrapped: Option<Error>,
    pub(super) reason: Reason,
    pub(super) next_step: NextStep,
}

/// The consequence for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The transaction may be retried.
    Retry,
    Fail,
    /// A business rule rejected the transaction.
    Reject,
}

impl<E: ApplicationError> AttemptFailure<E> {
    pub(super) fn of(abort: Abort<E>) -> Self {
        match abort {
            Abort::Driver(error) => Self::driver(error),
            Abort::Application(error) => Self::application(error),
        }
    }

    fn driver(error: Error) -> Self {
        Self {
            reason: Reason::from_error(&error),
            next_step: next_step(&error),
            wrapped: None,
            cause: Cause::Driver(error),
        }
    }

    /// An application error that wraps a driver error counts as the driver error: no business rule has rejected
    /// anything. If the application gives the driver error a business meaning (such as a duplicate key for a payment
    /// that was already made), it returns a reason of its own.
    fn application(error: E) -> Self {
        let (reason_given, wrapped) = (error.reason(), error.driver_error().cloned());
        let (reason, next_step) = match &wrapped {
            Some(wrapped) => {
                let reason = Reason::from_error(wrapped);
                let no_reason_of_its_own = [reason, Reason::APPLICATION, Reason::OTHER]
                    .contains(&reason_given)
                    || reason_given.is_driver_reason();
                match next_step(wrapped) {
                    NextStep::Retry => (reason, NextStep::Retry),
                    NextStep::Fail if no_reason_of_its_own => (reason, NextStep::Fail),
                    NextStep::Fail | NextStep::Reject => (reason_given, rejected_or_failed(&error)),
                }
            }
            // Without the driver error, the reason implies the error's label.
            None if is_always_transient(reason_given) => (reason_given, NextStep::Retry),
            None if reason_given.is_driver_reason() => (reason_given, NextStep::Fail),
            None => (reason_given, rejected_or_failed(&error)),
        };
        Self { cause: Cause::Application(error), wrapped, reason, next_step }
    }
}

impl<E> AttemptFailure<E> {
    /// The deadline passed; `last` is the error of the previous attempt.
    pub(super) fn deadline_exceeded(last: Option<Error>) -> Self {
        let reason = last.as_ref().map_or(Reason::TIMEOUT, Reason::from_error);
        Self::fail(Cause::Deadline(last), reason)
    }

    /// The callback has abandoned a statement, and continued.
    pub(super) fn unanswered() -> Self {
        Self::fail(Cause::Unanswered, Reason::CANCELLED)
    }

    /// The transaction failed before its first attempt.
    pub(super) fn no_permit(cause: Cause<E>) -> Self {
        let reason = match &cause {
            Cause::Deadlock(_) => Reason::DEADLOCK,
            Cause::QueueFull => Reason::QUEUE_FULL,
            _ => Reason::TIMEOUT,
        };
        Self::fail(cause, reason)
    }

    fn fail(cause: Cause<E>, reason: Reason) -> Self {
        Self { cause, wrapped: None, reason, next_step: NextStep::Fail }
    }

    /// Converts the failure if no time is left for another attempt.
    pub(super) fn without_time_left(self) -> Self {
        match (self.cause, self.wrapped) {
            (Cause::Driver(error), _) | (Cause::Application(_), Some(error)) => {
                Self::deadline_exceeded(Some(error))
            }
            (cause, wrapped) => Self { cause, wrapped, ..self },
        }
    }

    pub(super) fn into_driver_error(self) -> Option<Error> {
        match self.cause {
            Cause::Driver(error) => Some(error),
            _ => self.wrapped,
        }
    }

    /// Whether an application error gives a network reason, and the session has lost a connection, which the driver
    /// would label transient.
    pub(super) fn lost_connection_in(&self, attempt: &RunningAttempt) -> bool {
        self.driver_error().is_none()
            && [Reason::NETWORK, Reason::SERVER_SELECTION].contains(&self.reason)
            && (attempt.is_unanswered() || attempt.may_have_lost_an_answer())
    }

    pub(super) fn driver_error(&self) -> Option<&Error> {
        match &self.cause {
            Cause::Driver(error) => Some(error),
            _ => self.wrapped.as_ref(),
        }
    }
}

fn next_step(error: &Error) -> NextStep {
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) { NextStep::Retry } else { NextStep::Fail }
}

fn rejected_or_failed(error: &impl ApplicationError) -> NextStep {
    if error.is_fault() { NextStep::Fail } else { NextStep::Reject }
}

/// Whether the reason is specific to the database, and always labeled `TransientTransactionError` on a statement. A
/// network reason can also come from another service.
fn is_always_transient(reason: Reason) -> bool {
    reason.is_transient() && ![Reason::NETWORK, Reason::SERVER_SELECTION].contains(&reason)
}
