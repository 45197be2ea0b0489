//! What it means that the work has given an attempt up: whether it is tried again, and whose word it was.

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};

use super::attempt::RunningAttempt;
use super::error::{Abort, ApplicationError, Cause};
use crate::Reason;

/// Why the work has given an attempt up.
pub(super) struct AttemptFailure<E> {
    pub(super) cause: Cause<E>,
    /// The driver's error, if it stands inside an error of the application's.
    pub(super) wrapped: Option<Error>,
    pub(super) reason: Reason,
    pub(super) next_step: NextStep,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// The whole transaction may be tried again.
    Retry,
    Fail,
    /// The application's rules said no.
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

    /// An application that puts an error of its own around the driver's, as every repository does, means the driver's:
    /// no rule of the application's has said no. If it means something else by it (that a duplicate is a payment which
    /// was made before, say), it gives a reason of its own.
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
            // Without the error itself, the reason says as much as its label would.
            None if is_always_transient(reason_given) => (reason_given, NextStep::Retry),
            None if reason_given.is_driver_reason() => (reason_given, NextStep::Fail),
            None => (reason_given, rejected_or_failed(&error)),
        };
        Self { cause: Cause::Application(error), wrapped, reason, next_step }
    }
}

impl<E> AttemptFailure<E> {
    /// The time is over; before that an attempt had failed with this error.
    pub(super) fn deadline_exceeded(last: Option<Error>) -> Self {
        let reason = last.as_ref().map_or(Reason::TIMEOUT, Reason::from_error);
        Self::fail(Cause::Deadline(last), reason)
    }

    /// The work has given up a statement, and gone on.
    pub(super) fn unanswered() -> Self {
        Self::fail(Cause::Unanswered, Reason::CANCELLED)
    }

    /// Without an attempt.
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

    /// The same, when there is no time left for another attempt.
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

    /// Whether the reason that an error of the application's gives is that the connection was lost in the session,
    /// which the driver would call transient.
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

/// Whether it is of the database alone, and the server or the driver puts the label `TransientTransactionError` on every
/// such error of a statement. That the network failed can be said of another service, too.
fn is_always_transient(reason: Reason) -> bool {
    reason.is_transient() && ![Reason::NETWORK, Reason::SERVER_SELECTION].contains(&reason)
}
