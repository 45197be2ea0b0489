//! What became of an operation, in the handler's own words.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::{Outcome, Reason};

/// What became of an operation: its outcome, why, and the error behind it.
///
/// A handler puts one into its response's extensions to say why it refused; with the `axum` feature a classification
/// is a part of a response. The error travels to the layer, which logs it once; it is never sent to the caller. A middleware
/// that answers with a new response in place of the handler's drops it, unless it takes the extensions along.
///
/// ```
/// use txnscope::{Outcome, Reason, Classification};
///
/// const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
/// let classification = Classification::rejected(INSUFFICIENT_BALANCE);
/// assert_eq!(classification.outcome(), Outcome::Rejected);
/// ```
#[derive(Clone)]
pub struct Classification {
    outcome: Outcome,
    reason: Reason,
    source: Option<Arc<dyn Error + Send + Sync>>,
    origin: Origin,
}

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The handler's own.
    Handler,
    /// A reason noted in the scope knows better.
    Presumed,
    /// The same, and no handler has been reached.
    NoHandler,
}

impl Classification {
    /// The operation did what was asked.
    #[must_use]
    pub const fn succeeded() -> Self {
        Self::new(Outcome::Succeeded, Reason::OTHER)
    }

    /// A business rule said no; the data is right. A reason that only the driver can mean, such as a write conflict, is
    /// counted as failed all the same.
    #[must_use]
    pub const fn rejected(reason: Reason) -> Self {
        Self::new(Outcome::Rejected, reason)
    }

    /// We broke.
    #[must_use]
    pub const fn failed(reason: Reason) -> Self {
        Self::new(Outcome::Failed, reason)
    }

    pub(crate) const fn new(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, source: None, origin: Origin::Handler }
    }

    /// Attaches the error behind it, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Lets a reason that was noted in the scope (the driver's last one) take the place of this one, which was
    /// only presumed from a status, say.
    #[must_use]
    pub const fn overridable(mut self) -> Self {
        self.origin = Origin::Presumed;
        self
    }

    /// Says that no handler was reached: the router has answered by itself.
    #[cfg(feature = "http")]
    pub(crate) const fn without_handler(mut self) -> Self {
        self.origin = Origin::NoHandler;
        self
    }

    pub(crate) fn is_without_handler(&self) -> bool {
        self.origin == Origin::NoHandler
    }

    /// How the operation ended.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Why; of no meaning where the outcome is [`Outcome::Succeeded`].
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The error behind it.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// The classification after the scope's last noted reason was heard. What only the driver can mean is never a rejection, of
    /// which nobody would be told: no rule has said no.
    pub(crate) fn apply_scope_reason(mut self, noted: Option<Reason>) -> Self {
        if let (true, Some(reason)) = (self.origin != Origin::Handler, noted) {
            self.reason = reason;
        }
        if self.outcome == Outcome::Rejected && self.reason.is_driver_reason() {
            self.outcome = Outcome::Failed;
        }
        self
    }
}

impl fmt::Debug for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classification")
            .field("outcome", &self.outcome)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
