//! What a preflight found: one finding for each thing that was looked at.

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be.
    Pass,
    /// It could not be looked at, because of what failed before.
    Skip,
    /// It works, and may not for long or not well; or nobody may look.
    Warn,
    /// Transactions, or watching them, will not work.
    Fail,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One row of the checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at, in a few words that stay the same: a pipeline may look for them.
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was seen.
    pub(crate) evidence: String,
    /// What to do, unless all is well.
    pub(crate) cure: Option<String>,
}

impl Finding {
    pub(crate) fn pass(check: &'static str, evidence: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Pass, evidence: evidence.into(), cure: None }
    }

    pub(crate) fn skip(check: &'static str, evidence: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skip, evidence: evidence.into(), cure: None }
    }

    pub(crate) fn warn(check: &'static str, evidence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, evidence: evidence.into(), cure: Some(cure.into()) }
    }

    pub(crate) fn fail(check: &'static str, evidence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, evidence: evidence.into(), cure: Some(cure.into()) }
    }
}
