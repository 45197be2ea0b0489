//! The outcome of an operation.

use std::fmt;

/// The outcome of an operation, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The operation did what it was called for.
    Succeeded,
    /// A business rule rejected the operation; the data is right, and no alert is needed.
    Rejected,
    /// The operation failed because of a defect or an infrastructure error.
    Failed,
    /// The caller dropped the request before the response was ready.
    Cancelled,
    /// The code panicked.
    Panicked,
}

impl Outcome {
    /// Every outcome, in the catalog's order.
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Rejected, Self::Failed, Self::Cancelled, Self::Panicked];

    /// Returns the label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
        }
    }

    /// Whether the outcome is a fault: a defect or an infrastructure error, in contrast to a rejection or a
    /// cancellation.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Failed | Self::Panicked)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_match_catalog() {
        assert_eq!(Outcome::ALL.map(Outcome::as_str), txnscope_catalog::OUTCOMES);
    }
}
