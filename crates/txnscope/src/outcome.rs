//! How an operation ended.

use std::fmt;

/// How an operation ended, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what was asked.
    Succeeded,
    /// A business rule said no; the data is right and nobody is paged.
    Rejected,
    /// We broke.
    Failed,
    /// The caller left before the response was ready.
    Cancelled,
    /// The code panicked.
    Panicked,
}

impl Outcome {
    /// Every outcome, in the order of the catalogue.
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Rejected, Self::Failed, Self::Cancelled, Self::Panicked];

    /// The label value.
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

    /// Whether it is ours to mend.
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
