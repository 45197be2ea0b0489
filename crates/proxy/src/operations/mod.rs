//! The operations: read from a file, checked, compiled, and declared from the start.

mod file;
mod reason_name;
mod router;
mod rule;

use std::collections::BTreeSet;
use std::path::Path;

use http::{HeaderName, Method, StatusCode};
use toml::Spanned;
use txnscope::{OperationName, Outcome, Reason};
pub use txnscope_catalog::FileError;

pub(crate) use self::reason_name::as_reason;
use self::router::Router;
pub(crate) use self::rule::{Head, Rule, classify, needs_headers, wants_body};
use self::rule::{Place, Text};

/// The most operations of a file: as many as the library counts.
const MAX_OPERATIONS: usize = txnscope_catalog::MAX_OPERATIONS - 2;

/// The most rules of an operation.
const MAX_RULES: usize = 64;

/// The upstream took no connection: nothing listens, no route, no name, a TLS handshake that failed.
pub const UPSTREAM_UNREACHABLE: Reason = Reason::declare("upstream_unreachable");
/// The upstream did not answer, or did not go on with its answer, within the time limit.
pub const UPSTREAM_TIMEOUT: Reason = Reason::declare("upstream_timeout");
/// The upstream broke off before or in the middle of its answer, or answered with what is not HTTP.
pub const UPSTREAM_RESET: Reason = Reason::declare("upstream_reset");

/// The operations that a proxy counts, and how it tells their outcomes.
///
/// What becomes a label lives as long as the process: a process that reads many files keeps the names of each.
#[derive(Debug, Clone, Copy)]
pub struct Operations {
    file: &'static Inner,
    unmatched: bool,
}

#[derive(Debug, Default)]
struct Inner {
    router: Router,
    operations: Vec<Operation>,
    for_all: Vec<Rule>,
}

#[derive(Debug)]
struct Operation {
    name: &'static str,
    rules: Vec<Rule>,
}

/// A request's operation, with its rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matched {
    label: &'static str,
    own: &'static [Rule],
    for_all: &'static [Rule],
}

impl Matched {
    pub(crate) fn name(self) -> OperationName<'static> {
        OperationName::named(self.label)
    }

    /// The name as one text.
    pub(crate) fn label(self) -> &'static str {
        self.label
    }

    /// In the order in which they are asked.
    pub(crate) fn rules(self) -> impl Iterator<Item = &'static Rule> {
        self.own.iter().chain(self.for_all)
    }
}

impl Operations {
    /// No operations: everything passes uncounted.
    #[must_use]
    pub fn none() -> Self {
        Self { file: Box::leak(Box::default()), unmatched: false }
    }

    /// The operations of a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or something in it is wrong. The error says what, where, and how to write it.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(path, &file::read(path)?)
    }

    /// The operations of a file's text; `path` is its name in errors.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let file = file::parse(path, text)?;
        let at = |(offset, what): (usize, String)| FileError::at(path, text, offset, what);
        if file.operations.len() > MAX_OPERATIONS {
            let found = file.operations.len();
            let what = format!("there are {found} operations; {MAX_OPERATIONS} can be counted");
            return Err(FileError::new(path, what));
        }
        let for_all = rules(file.rejected, file.failed).map_err(at)?;
        let mut router = Router::default();
        let mut operations = Vec::new();
        for operation in file.operations {
            let (start, name) = (operation.name.span().start, operation.name.into_inner());
            router.add(&name, operations.len()).map_err(|what| at((start, what)))?;
            let rules = rules(operation.rejected, operation.failed).map_err(at)?;
            operations.push(Operation { name: name.leak(), rules });
        }
        let inner = Inner { router, operations, for_all };
        Ok(Self { file: Box::leak(Box::new(inner)), unmatched: file.unmatched })
    }

    /// Counts requests that match no operation as `unmatched`, if `counted`. Else they pass uncounted.
    #[must_use]
    pub fn count_unmatched(self, counted: bool) -> Self {
        Self { unmatched: counted, ..self }
    }

    /// Whether requests that match no operation are counted.
    #[must_use]
    pub fn counts_unmatched(&self) -> bool {
        self.unmatched
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.file.operations.len()
    }

    /// Whether there is no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.file.operations.is_empty()
    }

    /// The operation of a request; `None` if it passes uncounted.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<Matched> {
        let for_all = self.file.for_all.as_slice();
        match self.file.router.find(method, path) {
            Some(index) => {
                let operation = &self.file.operations[index];
                Some(Matched { label: operation.name, own: &operation.rules, for_all })
            }
            None => {
                self.unmatched.then_some(Matched { label: txnscope_catalog::UNMATCHED, own: &[], for_all })
            }
        }
    }

    /// The operations with all their reasons, for a registry: their series are there as zero before the first request.
    pub(crate) fn declarations(&self) -> Vec<txnscope::Operation> {
        let none: &[Rule] = &[];
        let unmatched = self.unmatched.then_some((txnscope_catalog::UNMATCHED, none));
        let own = self.file.operations.iter().map(|operation| (operation.name, operation.rules.as_slice()));
        let declared = own.chain(unmatched).map(|(name, rules)| {
            let all = || rules.iter().chain(&self.file.for_all);
            let of = |outcome| all().filter(move |rule| rule.outcome() == outcome).map(Rule::reason);
            let rejected = distinct(REJECTED.into_iter().chain(of(Outcome::Rejected)));
            let failed = distinct(FAILED.into_iter().chain(of(Outcome::Failed)));
            txnscope::Operation::new(name).rejection_reasons(rejected).failure_reasons(failed)
        });
        declared.collect()
    }
}

/// The reasons of every operation, whatever its rules are.
const REJECTED: [Reason; 3] = [Reason::APPLICATION, Reason::INVALID_REQUEST, Reason::UNAUTHORIZED];
const FAILED: [Reason; 4] = [Reason::TIMEOUT, UPSTREAM_RESET, UPSTREAM_TIMEOUT, UPSTREAM_UNREACHABLE];

/// Lives as long as the process, as every label does.
fn distinct(reasons: impl Iterator<Item = Reason>) -> &'static [Reason] {
    let reasons: BTreeSet<_> = reasons.collect();
    Vec::leak(reasons.into_iter().collect())
}

/// The rules of an operation in the order of the file, whichever outcome they are for.
fn rules(
    rejected: Vec<Spanned<file::Rule>>,
    failed: Vec<Spanned<file::Rule>>,
) -> Result<Vec<Rule>, (usize, String)> {
    let of = |outcome| move |rule: Spanned<file::Rule>| (rule.span().start, outcome, rule.into_inner());
    let rejected = rejected.into_iter().map(of(Outcome::Rejected));
    let mut all: Vec<_> = rejected.chain(failed.into_iter().map(of(Outcome::Failed))).collect();
    all.sort_by_key(|(start, ..)| *start);
    if let Some((start, ..)) = all.get(MAX_RULES) {
        return Err((*start, format!("an operation has {MAX_RULES} rules at most")));
    }
    all.into_iter().map(|(start, outcome, rule)| compile(start, outcome, rule)).collect()
}

fn compile(start: usize, outcome: Outcome, rule: file::Rule) -> Result<Rule, (usize, String)> {
    let status = match rule.status {
        None => None,
        Some(status) => Some(
            StatusCode::from_u16(*status.get_ref())
                .ok()
                .filter(|status| (200..600).contains(&status.as_u16()))
                .ok_or((
                    status.span().start,
                    format!("{} is no status of a response: 200 to 599", status.get_ref()),
                ))?,
        ),
    };
    let place = match (rule.header, rule.json) {
        (None, None) => Place::Nowhere,
        (Some(name), None) => {
            let start = name.span().start;
            let name = HeaderName::try_from(name.into_inner())
                .map_err(|_| (start, "this is no name of a header, as in \"x-error-code\"".to_owned()))?;
            Place::Header(name)
        }
        (None, Some(pointer)) => {
            if !pointer.get_ref().is_empty() && !pointer.get_ref().starts_with('/') {
                let what = format!(
                    "`{0}` is no JSON pointer: write \"/{0}\" for the field of that name",
                    pointer.get_ref()
                );
                return Err((pointer.span().start, what));
            }
            Place::Json(pointer.into_inner())
        }
        (Some(_), Some(json)) => {
            let what = "a rule looks at `header` or at `json`; write two rules for both".to_owned();
            return Err((json.span().start, what));
        }
    };
    let text = match (rule.equals, rule.prefix) {
        (None, None) => Text::Any,
        (Some(text), None) => Text::Equals(text.into_inner()),
        (None, Some(text)) => Text::Prefix(text.into_inner()),
        (Some(_), Some(prefix)) => {
            return Err((prefix.span().start, "a rule has `equals` or `prefix`, not both".to_owned()));
        }
    };
    match (&place, &text) {
        (Place::Nowhere, Text::Equals(_) | Text::Prefix(_)) => {
            let what = "`equals` and `prefix` compare what `json` or `header` names: give one of the two";
            return Err((start, what.to_owned()));
        }
        (Place::Nowhere, Text::Any) if status.is_none() => {
            let what = "a rule without a condition matches every response: give `status`, `json` or `header`";
            return Err((start, what.to_owned()));
        }
        _ => {}
    }
    let reason = reason(outcome, rule.reason)?;
    Ok(Rule { status, place, text, outcome, reason })
}

fn reason(outcome: Outcome, reason: Spanned<String>) -> Result<Reason, (usize, String)> {
    let (start, reason) = (reason.span().start, reason.into_inner());
    if !reason_name::is_reason(&reason) {
        let meant = as_reason(&reason).map_or_else(String::new, |meant| format!(", as in \"{meant}\""));
        return Err((start, format!("a reason is in snake case, at most 64 bytes long{meant}")));
    }
    let known = Reason::ALL.iter().copied().find(|known| known.as_str() == reason);
    let reason = known.unwrap_or_else(|| Reason::declare(reason.leak()));
    if outcome == Outcome::Rejected && reason.is_driver_reason() {
        let what = format!(
            "`{reason}` is a failure of the database and never a rejection: write the rule under `failed`, or give a \
             reason of your own"
        );
        return Err((start, what));
    }
    Ok(reason)
}

#[cfg(test)]
mod tests;
