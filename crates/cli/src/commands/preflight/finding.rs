//! The findings of a preflight.

/// The status of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// No problem was found.
    Pass,
    /// The check could not be run, because an earlier one failed or an argument is missing.
    Skip,
    /// Transactions work, with a risk; or the status is unknown.
    Warn,
    /// Transactions or their monitoring do not work.
    Fail,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The name of the check. It is stable, since pipelines may match it.
    pub(crate) check: &'static str,
    pub(crate) status: Status,
    /// The facts that the status is based on.
    pub(crate) evidence: String,
    /// The step that solves the problem, if there is one.
    pub(crate) remediation: Option<String>,
}

impl Finding {
    pub(crate) fn pass(check: &'static str, evidence: impl Into<String>) -> Self {
        Self { check, status: Status::Pass, evidence: evidence.into(), remediation: None }
    }

    pub(crate) fn skip(check: &'static str, evidence: impl Into<String>) -> Self {
        Self { check, status: Status::Skip, evidence: evidence.into(), remediation: None }
    }

    pub(crate) fn warn(
        check: &'static str,
        evidence: impl Into<String>,
        remediation: impl Into<String>,
    ) -> Self {
        Self { check, status: Status::Warn, evidence: evidence.into(), remediation: Some(remediation.into()) }
    }

    pub(crate) fn fail(
        check: &'static str,
        evidence: impl Into<String>,
        remediation: impl Into<String>,
    ) -> Self {
        Self { check, status: Status::Fail, evidence: evidence.into(), remediation: Some(remediation.into()) }
    }
}
