//! An operation: its name, and the ways in which it can fail.

use txnscope_catalog::{NOT_READY, UNMATCHED};

use crate::Reason;

/// An operation that the application knows before the first request.
///
/// Its series are exported as zero from the start, failures included, because `increase()` and `rate()` never see
/// the first failure of a series that is born at 1.
///
/// ```
/// use txnscope::{Operation, Reason};
///
/// const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
/// const CONSUME: Operation = Operation::new("POST /api/retainers/{id}/consume")
///     .rejection_reasons(&[INSUFFICIENT_BALANCE])
///     .failure_reasons(&[Reason::WRITE_CONFLICT, Reason::NOT_PRIMARY]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub(crate) name: &'static str,
    pub(crate) rejection_reasons: &'static [Reason],
    pub(crate) failure_reasons: &'static [Reason],
}

impl Operation {
    /// An operation of that name. For a route it is the method, a space and the template as axum prints it.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, rejection_reasons: &[], failure_reasons: &[] }
    }

    /// The reasons for which it can be rejected.
    #[must_use]
    pub const fn rejection_reasons(mut self, reasons: &'static [Reason]) -> Self {
        self.rejection_reasons = reasons;
        self
    }

    /// The reasons for which it can fail. `other` and `panic` are always declared, and so is `cancelled`.
    #[must_use]
    pub const fn failure_reasons(mut self, reasons: &'static [Reason]) -> Self {
        self.failure_reasons = reasons;
        self
    }

    /// The label value.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// What names an operation, without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationName<'a> {
    pub(crate) method: &'a str,
    pub(crate) rest: &'a str,
}

impl<'a> OperationName<'a> {
    /// Requests that no route matched.
    pub const UNMATCHED: OperationName<'static> = OperationName::named(UNMATCHED);
    /// A service that failed before it took a request.
    pub const NOT_READY: OperationName<'static> = OperationName::named(NOT_READY);

    /// A name given by the application. It must come from a bounded set: never a path, an id or a user's input.
    #[must_use]
    pub const fn named(name: &'a str) -> Self {
        Self { method: "", rest: name }
    }

    /// A method and a route template; the label is the two with a space between.
    #[must_use]
    pub const fn route(method: &'static str, template: &'a str) -> Self {
        Self { method, rest: template }
    }

    /// Whether its caller has a say in it: the method of a route is the caller's to choose.
    pub(crate) fn is_caller_controlled(self) -> bool {
        !self.method.is_empty()
    }

    /// `POST /x` as a name is the route `POST` `/x`.
    pub(crate) fn canonical(self) -> Self {
        if !self.method.is_empty() {
            return self;
        }
        match self.rest.split_once(' ') {
            Some((method, rest)) if !method.is_empty() => Self { method, rest },
            _ => self,
        }
    }

    pub(crate) fn label(self) -> String {
        if self.method.is_empty() { self.rest.to_owned() } else { format!("{} {}", self.method, self.rest) }
    }
}
