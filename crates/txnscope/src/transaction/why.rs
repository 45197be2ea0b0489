//! What it means that the work has given an attempt up: whether it is tried again, and whose word it was.

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};

use super::attempt::Live;
use super::error::{Abort, ApplicationError, Cause};
use crate::Reason;

/// Why the work has given an attempt up.
pub(super) struct Why<E> {
    pub(super) cause: Cause<E>,
    /// The driver's error, if it stands inside an error of the application's.
    pub(super) inside: Option<Error>,
    pub(super) reason: Reason,
    pub(super) then: Then,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The whole transaction may be tried again.
    Again,
    Fail,
    /// The application's rules said no.
    Reject,
}

impl<E: ApplicationError> Why<E> {
    pub(super) fn of(abort: Abort<E>) -> Self {
        match abort {
            Abort::Driver(error) => Self::driver(error),
            Abort::Application(error) => Self::application(error),
        }
    }

    fn driver(error: Error) -> Self {
        Self {
            reason: Reason::from_error(&error),
            then: then(&error),
            inside: None,
            cause: Cause::Driver(error),
        }
    }

    /// An application that puts an error of its own around the driver's, as every repository does, means the driver's:
    /// no rule of the application's has said no. If it means something else by it (that a duplicate is a payment which
    /// was made before, say), it gives a reason of its own.
    fn application(error: E) -> Self {
        let (said, inside) = (error.reason(), error.driver_error().cloned());
        let (reason, then) = match &inside {
            Some(inside) => {
                let reason = Reason::from_error(inside);
                let means_it =
                    [reason, Reason::APPLICATION, Reason::OTHER].contains(&said) || said.is_the_drivers();
                match then(inside) {
                    Then::Again => (reason, Then::Again),
                    Then::Fail if means_it => (reason, Then::Fail),
                    Then::Fail | Then::Reject => (said, no(&error)),
                }
            }
            // Without the error itself, the reason says as much as its label would.
            None if is_retried(said) => (said, Then::Again),
            None if said.is_the_drivers() => (said, Then::Fail),
            None => (said, no(&error)),
        };
        Self { cause: Cause::Application(error), inside, reason, then }
    }
}

impl<E> Why<E> {
    /// The time is over; before that an attempt had failed with this error.
    pub(super) fn late(last: Option<Error>) -> Self {
        let reason = last.as_ref().map_or(Reason::TIMEOUT, Reason::from_error);
        Self::fail(Cause::Deadline(last), reason)
    }

    /// The work has given up a statement, and gone on.
    pub(super) fn unanswered() -> Self {
        Self::fail(Cause::Unanswered, Reason::CANCELLED)
    }

    /// Without an attempt.
    pub(super) fn no_turn(cause: Cause<E>) -> Self {
        let reason = match &cause {
            Cause::Deadlock(_) => Reason::DEADLOCK,
            Cause::QueueFull => Reason::QUEUE_FULL,
            _ => Reason::TIMEOUT,
        };
        Self::fail(cause, reason)
    }

    fn fail(cause: Cause<E>, reason: Reason) -> Self {
        Self { cause, inside: None, reason, then: Then::Fail }
    }

    /// The same, when there is no time left for another attempt.
    pub(super) fn out_of_time(self) -> Self {
        match (self.cause, self.inside) {
            (Cause::Driver(error), _) | (Cause::Application(_), Some(error)) => Self::late(Some(error)),
            (cause, inside) => Self { cause, inside, ..self },
        }
    }

    pub(super) fn into_driver_error(self) -> Option<Error> {
        match self.cause {
            Cause::Driver(error) => Some(error),
            _ => self.inside,
        }
    }

    /// Whether the reason that an error of the application's gives is that the connection was lost in the session,
    /// which the driver would call transient.
    pub(super) fn is_lost_to(&self, live: &Live) -> bool {
        self.driver_error().is_none()
            && [Reason::NETWORK, Reason::SERVER_SELECTION].contains(&self.reason)
            && (live.was_never_answered() || live.may_have_lost_an_answer())
    }

    pub(super) fn driver_error(&self) -> Option<&Error> {
        match &self.cause {
            Cause::Driver(error) => Some(error),
            _ => self.inside.as_ref(),
        }
    }
}

fn then(error: &Error) -> Then {
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) { Then::Again } else { Then::Fail }
}

fn no(error: &impl ApplicationError) -> Then {
    if error.is_fault() { Then::Fail } else { Then::Reject }
}

/// Whether it is of the database alone, and the server or the driver puts the label `TransientTransactionError` on every
/// such error of a statement. That the network failed can be said of another service, too.
fn is_retried(reason: Reason) -> bool {
    reason.is_transient() && ![Reason::NETWORK, Reason::SERVER_SELECTION].contains(&reason)
}
