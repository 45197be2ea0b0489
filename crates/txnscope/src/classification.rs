//! The classification of a response by its handler.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::{Outcome, Reason};

/// The classification of an operation: its outcome, the reason, and the underlying error.
///
/// A handler puts a classification into its response's extensions to report why it rejected a request; with the
/// `axum` feature a classification is a response part. The error travels to the layer, which logs it once; it is
/// never sent to the caller. A middleware that replaces the handler's response loses the classification, unless it
/// copies the extensions.
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

/// The origin of a classification.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The handler classified the response explicitly.
    Handler,
    /// The classification was derived, such as from a status; a reason noted in the scope overrides it.
    Presumed,
    /// The classification was derived, and no handler was reached.
    NoHandler,
}

impl Classification {
    /// The operation succeeded.
    #[must_use]
    pub const fn succeeded() -> Self {
        Self::new(Outcome::Succeeded, Reason::OTHER)
    }

    /// A business rule rejected the operation; the data is right. With a reason that only the driver or the server
    /// produces, such as a write conflict, the operation still counts as failed.
    #[must_use]
    pub const fn rejected(reason: Reason) -> Self {
        Self::new(Outcome::Rejected, reason)
    }

    /// The operation failed because of a defect or an infrastructure error.
    #[must_use]
    pub const fn failed(reason: Reason) -> Self {
        Self::new(Outcome::Failed, reason)
    }

    pub(crate) const fn new(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, source: None, origin: Origin::Handler }
    }

    /// Attaches the underlying error, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Lets a reason that was noted in the scope (the last driver error) override this classification's reason. For a
    /// classification that was only derived, such as from a status.
    #[must_use]
    pub const fn overridable(mut self) -> Self {
        self.origin = Origin::Presumed;
        self
    }

    /// Marks a response that the router made itself, without reaching a handler.
    #[cfg(feature = "http")]
    pub(crate) const fn without_handler(mut self) -> Self {
        self.origin = Origin::NoHandler;
        self
    }

    pub(crate) fn is_without_handler(&self) -> bool {
        self.origin == Origin::NoHandler
    }

    /// Returns the outcome.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns the reason, which has no meaning for [`Outcome::Succeeded`].
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the underlying error.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// Applies the last reason noted in the scope. A reason that only the driver or the server produces turns a
    /// rejection, which would trigger no alert, into a failure: no business rule has rejected anything.
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
