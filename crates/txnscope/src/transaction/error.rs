//! How a transaction ends other than with a commit.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use mongodb::error::Error;

use super::driver_error::ErrorSummary;
use super::nesting::Deadlock;
use crate::{Classification, Reason};

/// An error of the application that ends a transaction: the transaction is aborted and not tried again.
///
/// An error type that stands around the driver's own, as that of a repository does, says so with
/// [`driver_error`](Self::driver_error). Then a write conflict is tried again, and is no rejection, although the `?` of
/// the work has made an error of the application's of it.
///
/// ```
/// use txnscope::transaction::find_driver_error;
/// use txnscope::{ApplicationError, Reason};
///
/// #[derive(Debug, thiserror::Error)]
/// enum ConsumeError {
///     #[error("the balance is too low")]
///     InsufficientBalance,
///     #[error("the database failed")]
///     Database(#[from] mongodb::error::Error),
///     #[error("the ledger does not add up")]
///     LedgerIsBroken,
/// }
///
/// impl ApplicationError for ConsumeError {
///     fn reason(&self) -> Reason {
///         match self {
///             Self::InsufficientBalance => const { Reason::declare("insufficient_balance") },
///             Self::Database(error) => Reason::from_error(error),
///             Self::LedgerIsBroken => Reason::APPLICATION,
///         }
///     }
///     fn is_fault(&self) -> bool {
///         matches!(self, Self::LedgerIsBroken)
///     }
///     fn driver_error(&self) -> Option<&mongodb::error::Error> {
///         find_driver_error(self) // wherever it is in the chain of sources
///     }
/// }
/// ```
pub trait ApplicationError: fmt::Debug {
    /// Why, as the books count it. A reason that only the driver can mean, such as a write conflict, is never a
    /// rejection: the transaction is tried again if such an error is transient, and fails otherwise.
    fn reason(&self) -> Reason;

    /// The error of the driver that this one stands around, if it does: the whole transaction is tried again where that
    /// may help, and has failed otherwise. If the application means something else by it, and gives a
    /// [reason](Self::reason) of its own, that stands.
    ///
    /// The default knows of none. [`find_driver_error`] finds it in the chain of sources.
    fn driver_error(&self) -> Option<&Error> {
        None
    }

    /// Whether something is broken, so that the operation has failed. Otherwise a rule said no, and it is rejected:
    /// the data is right, and nobody is paged.
    fn is_fault(&self) -> bool {
        false
    }
}

/// The driver's error in the chain of sources of an error, if there is one; the error itself included.
#[must_use]
pub fn find_driver_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What is shared or boxed stands in the chain as what it is wrapped in, and hides itself behind it.
        if let Some(found) = error.downcast_ref::<std::sync::Arc<Error>>() {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<Box<Error>>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A bare reason is a rejection: `return Err(INSUFFICIENT_BALANCE.into())`.
impl ApplicationError for Reason {
    fn reason(&self) -> Reason {
        *self
    }
}

/// Of work that never says no by itself.
impl ApplicationError for Infallible {
    fn reason(&self) -> Reason {
        match *self {}
    }
}

/// Why one attempt at the work is given up. The `?` operator makes it of a driver's error, and of an application's.
#[derive(Debug)]
pub enum Abort<E = Infallible> {
    /// The driver's: the whole transaction is tried again where that may help.
    Driver(Error),
    /// The application's: that is the end of it.
    Application(E),
}

impl<E> From<Error> for Abort<E> {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl<E: ApplicationError> From<E> for Abort<E> {
    fn from(error: E) -> Self {
        Self::Application(error)
    }
}

/// What a transaction that committed brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the work returned in the attempt that committed.
    pub value: T,
    /// How many attempts it took.
    pub attempts: u32,
}

/// How a transaction ended other than with a commit.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransactionError<E = Infallible> {
    /// The application said no. Nothing was changed.
    Rejected {
        /// In its own words.
        error: E,
        /// In those of the books.
        reason: Reason,
    },
    /// It failed. Nothing was changed.
    Failed(Failure<E>),
    /// A commit was sent, and nobody knows what became of it; or it is known, and was not written as widely as was
    /// asked. Ask the data before doing it again, or do it under an idempotency key.
    CommitUnknown(Failure<E>),
}

impl<E> TransactionError<E> {
    /// Why, as the books count it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Rejected { reason, .. } => *reason,
            Self::Failed(failure) => failure.reason,
            Self::CommitUnknown(_) => Reason::COMMIT_UNKNOWN,
        }
    }

    /// What the [layer](crate::TransactionLayer) shall count, with the error behind it for the log.
    pub fn classification(&self) -> Classification {
        match self {
            Self::Rejected { reason, .. } => Classification::rejected(*reason),
            Self::Failed(failure) | Self::CommitUnknown(failure) => {
                Classification::failed(self.reason()).with_source(failure.to_string())
            }
        }
    }
}

impl<E> fmt::Display for TransactionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { reason, .. } => write!(f, "the transaction was rejected: {}", reason.as_str()),
            Self::Failed(_) => f.write_str("the transaction failed; nothing was changed"),
            Self::CommitUnknown(_) => f.write_str("it is not known whether the transaction committed"),
        }
    }
}

impl<E: fmt::Debug + 'static> StdError for TransactionError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected { .. } => None,
            Self::Failed(failure) | Self::CommitUnknown(failure) => Some(failure),
        }
    }
}

/// A failure of a transaction, with the last real error behind it.
#[derive(Debug)]
pub struct Failure<E = Infallible> {
    pub(super) reason: Reason,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    pub(super) cause: Cause<E>,
    /// The driver's error, if it stands inside an error of the application's.
    pub(super) wrapped: Option<Error>,
}

/// What is behind a failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause<E = Infallible> {
    /// An error of the driver or the server.
    Driver(Error),
    /// A fault of the application, or an error of its own around one of the driver's.
    Application(E),
    /// The time limit or the caller's deadline passed. If an attempt had failed before, with that error.
    Deadline(Option<Error>),
    /// Too many transactions wait for the same key already.
    QueueFull,
    /// The key is held by a transaction that could only end after this one.
    Deadlock(Deadlock),
    /// The work has given up its first statement before the server had answered, and has gone on all the same. What had
    /// reached the server was undone.
    Unanswered,
}

impl<E> Failure<E> {
    /// Why, as the books count it: of the last attempt.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// How many attempts were made.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long it took, pauses and queues included.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What is behind it.
    pub fn cause(&self) -> &Cause<E> {
        &self.cause
    }

    /// The last error of the driver.
    pub fn driver_error(&self) -> Option<&Error> {
        match &self.cause {
            Cause::Driver(error) => Some(error),
            Cause::Deadline(error) => error.as_ref(),
            Cause::Application(_) => self.wrapped.as_ref(),
            Cause::QueueFull | Cause::Deadlock(_) | Cause::Unanswered => None,
        }
    }

    /// Whether the database was away or too busy, so that the same may work a little later.
    pub fn is_transient(&self) -> bool {
        match self.cause {
            Cause::Deadline(_) | Cause::QueueFull | Cause::Unanswered => true,
            Cause::Deadlock(_) => false,
            Cause::Application(_) | Cause::Driver(_) => {
                self.reason.is_transient()
                    || [
                        Reason::MAX_TIME_EXPIRED,
                        Reason::INTERRUPTED,
                        Reason::POOL_TIMEOUT,
                        Reason::OVERLOADED,
                    ]
                    .contains(&self.reason)
            }
        }
    }
}

impl<E> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (attempts, elapsed) = (self.attempts, self.elapsed);
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "{} after {attempts} {times} in {elapsed:.1?}", self.reason.as_str())?;
        match &self.cause {
            Cause::Driver(error) => write!(f, ": {}", ErrorSummary(error)),
            Cause::Deadline(Some(error)) => {
                write!(f, ": out of time; the last error: {}", ErrorSummary(error))
            }
            Cause::Deadline(None) => f.write_str(": out of time"),
            Cause::QueueFull => f.write_str(": too many transactions wait for the same key"),
            Cause::Deadlock(deadlock) => write!(f, ": {deadlock}"),
            Cause::Unanswered => f.write_str(
                ": the work gave up its first statement before the server had answered, and went on",
            ),
            Cause::Application(_) => match &self.wrapped {
                Some(error) => write!(f, ": {}", ErrorSummary(error)),
                None => Ok(()),
            },
        }
    }
}

impl<E: fmt::Debug + 'static> StdError for Failure<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.driver_error().map(|error| error as _)
    }
}
