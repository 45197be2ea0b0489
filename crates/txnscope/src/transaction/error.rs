//! The errors of a transaction.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use mongodb::error::Error;

use super::driver_error::ErrorSummary;
use super::nesting::Deadlock;
use crate::{Classification, Reason};

/// An error of the application that ends a transaction: the transaction is aborted and not retried.
///
/// An error type that wraps the driver's errors, as a repository's does, exposes them with
/// [`driver_error`](Self::driver_error). A wrapped write conflict is then retried instead of being counted as a
/// rejection, although `?` has converted it into an application error.
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
    /// Returns the reason for the metrics. A reason that only the driver or the server produces, such as a write
    /// conflict, is never a rejection: the transaction is retried if such an error is transient, and fails otherwise.
    fn reason(&self) -> Reason;

    /// Returns the wrapped driver error, if there is one: the transaction is retried if that error is transient, and
    /// fails otherwise. If the application gives a business [reason](Self::reason) of its own for the driver error,
    /// that reason applies.
    ///
    /// The default returns `None`. [`find_driver_error`] searches the chain of sources.
    fn driver_error(&self) -> Option<&Error> {
        None
    }

    /// Returns whether the error is a fault: the operation has then failed. Otherwise it is rejected by a business
    /// rule: the data is right, and no alert is needed.
    fn is_fault(&self) -> bool {
        false
    }
}

/// Finds the driver's error in an error's chain of sources, including the error itself.
#[must_use]
pub fn find_driver_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An `Arc` or `Box` in the chain hides the error inside of it.
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

/// The error type of callbacks that never reject.
impl ApplicationError for Infallible {
    fn reason(&self) -> Reason {
        match *self {}
    }
}

/// The error of a callback, which ends the attempt. The `?` operator converts driver errors and application errors.
#[derive(Debug)]
pub enum Abort<E = Infallible> {
    /// An error of the driver: the transaction is retried if the error is transient.
    Driver(Error),
    /// An error of the application: the transaction ends.
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

/// The result of a committed transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// The callback's value in the attempt that committed.
    pub value: T,
    /// The number of attempts.
    pub attempts: u32,
}

/// The error of a transaction that did not, or may not have, committed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransactionError<E = Infallible> {
    /// The application rejected the transaction. Nothing was changed.
    Rejected {
        /// The application's error.
        error: E,
        /// The reason for the metrics.
        reason: Reason,
    },
    /// The transaction failed. Nothing was changed.
    Failed(Failure<E>),
    /// A commit was sent and its result is unknown, or it was applied without satisfying the write concern. Check the
    /// data before repeating the transaction, or use an idempotency key.
    CommitUnknown(Failure<E>),
}

impl<E> TransactionError<E> {
    /// Returns the reason for the metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Rejected { reason, .. } => *reason,
            Self::Failed(failure) => failure.reason,
            Self::CommitUnknown(_) => Reason::COMMIT_UNKNOWN,
        }
    }

    /// Returns the classification for the [layer](crate::TransactionLayer), with the underlying error for the log.
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

/// A failure of a transaction, with the last driver error.
#[derive(Debug)]
pub struct Failure<E = Infallible> {
    pub(super) reason: Reason,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    pub(super) cause: Cause<E>,
    /// The driver's error, if an application error wraps it.
    pub(super) wrapped: Option<Error>,
}

/// The cause of a failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause<E = Infallible> {
    /// An error of the driver or the server.
    Driver(Error),
    /// A fault of the application, or an application error that wraps a driver error.
    Application(E),
    /// The time limit or the caller's deadline passed. Contains the error of the previous attempt, if there was one.
    Deadline(Option<Error>),
    /// Too many transactions wait for the same key already.
    QueueFull,
    /// The key is held by a transaction that can only end after this one.
    Deadlock(Deadlock),
    /// The callback abandoned its first statement before the server had replied, and continued. Any effect on the
    /// server was undone.
    Unanswered,
}

impl<E> Failure<E> {
    /// Returns the reason of the last attempt, as the metrics count it.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the number of attempts.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the elapsed time, including backoff and queue wait.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Returns the cause.
    pub fn cause(&self) -> &Cause<E> {
        &self.cause
    }

    /// Returns the last error of the driver.
    pub fn driver_error(&self) -> Option<&Error> {
        match &self.cause {
            Cause::Driver(error) => Some(error),
            Cause::Deadline(error) => error.as_ref(),
            Cause::Application(_) => self.wrapped.as_ref(),
            Cause::QueueFull | Cause::Deadlock(_) | Cause::Unanswered => None,
        }
    }

    /// Returns whether the database was unavailable or overloaded, so that a later try may succeed.
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
                write!(f, ": deadline exceeded; the last error: {}", ErrorSummary(error))
            }
            Cause::Deadline(None) => f.write_str(": deadline exceeded"),
            Cause::QueueFull => f.write_str(": too many transactions wait for the same key"),
            Cause::Deadlock(deadlock) => write!(f, ": {deadlock}"),
            Cause::Unanswered => f.write_str(
                ": the callback abandoned its first statement before the server had replied, and continued",
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
