//! The declaration of an operation: its name, and the reasons for which it can fail.

use txnscope_catalog::{NOT_READY, UNMATCHED};

use crate::Reason;

/// An operation that the application declares before the first request.
///
/// The operation's series are exported as zero from the start, including failures, because `increase()` and `rate()`
/// do not see the first failure of a series that starts at 1.
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
    /// Declares an operation. For a route the name is the method, a space and the template as axum prints it.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, rejection_reasons: &[], failure_reasons: &[] }
    }

    /// Sets the reasons for which the operation can be rejected.
    #[must_use]
    pub const fn rejection_reasons(mut self, reasons: &'static [Reason]) -> Self {
        self.rejection_reasons = reasons;
        self
    }

    /// Sets the reasons for which the operation can fail. `other`, `panic` and `cancelled` are always declared.
    #[must_use]
    pub const fn failure_reasons(mut self, reasons: &'static [Reason]) -> Self {
        self.failure_reasons = reasons;
        self
    }

    /// Returns the label value.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// The name of an operation, borrowed so that a lookup does not allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationName<'a> {
    pub(crate) method: &'a str,
    pub(crate) rest: &'a str,
}

impl<'a> OperationName<'a> {
    /// The operation of requests that no route matched.
    pub const UNMATCHED: OperationName<'static> = OperationName::named(UNMATCHED);
    /// The operation of a service whose `poll_ready` failed.
    pub const NOT_READY: OperationName<'static> = OperationName::named(NOT_READY);

    /// A name given by the application. The name must come from a bounded set: never a path, an id or a user's input.
    #[must_use]
    pub const fn named(name: &'a str) -> Self {
        Self { method: "", rest: name }
    }

    /// A method and a route template, joined by a space in the label.
    #[must_use]
    pub const fn route(method: &'static str, template: &'a str) -> Self {
        Self { method, rest: template }
    }

    /// Whether the caller controls a part of the name: a caller chooses the method of its request.
    pub(crate) fn is_caller_controlled(self) -> bool {
        !self.method.is_empty()
    }

    /// Splits a name such as `POST /x` into the method `POST` and the template `/x`.
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
