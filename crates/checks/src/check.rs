//! The definition of a check, as parsed and validated from a check file.

use std::time::Duration;

use mongodb::bson::{Bson, Document};
use mongodb::options::ReadPreference;

use crate::file::fields::{in_document, javascript};
use crate::pipeline;

/// One rule about the data, and how often it is evaluated.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// The name, which is the value of the label `check`: 1 to 64 characters of `a-z0-9_`.
    pub name: String,
    /// A sentence that describes the rule, shown to the person who is paged; may be empty.
    pub about: String,
    /// The severity of a violation.
    pub severity: Severity,
    /// The database that the check reads.
    pub database: String,
    /// The collection that the check reads first.
    pub collection: String,
    /// How often the sidecar runs the check.
    pub interval: Duration,
    /// The maximum time that the server may spend on the check (`maxTimeMS`).
    pub max_time: Duration,
    /// The members that the check may read from.
    pub read_preference: ReadPreference,
    /// Fields of a violating document to show in addition to `_id` and the fields that the rule names.
    pub show: Vec<String>,
    /// The `collation` with which the aggregation compares strings; byte by byte if there is none.
    pub collation: Option<Document>,
    /// Whether a missing collection counts as empty. Otherwise its name is assumed to be misspelled.
    pub may_be_missing: bool,
    /// Whether the check may run JavaScript on the server, by itself or through a view. JavaScript may outlive
    /// `max_time`.
    pub allow_javascript: bool,
    /// The rule.
    pub rule: Rule,
}

impl Check {
    /// All collections of the database that the check reads. The user who runs the check needs `find` on each.
    #[must_use]
    pub fn collections(&self) -> Vec<String> {
        pipeline::sources(self)
    }
}

/// The rule of a check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// A filter that must match no document.
    Forbid(Document),
    /// An aggregation that must return no document.
    Pipeline(Vec<Document>),
    /// A field that must equal an expression over the rest of the document. Only this rule can be repaired.
    Derived(Box<Derived>),
    /// Two sums that must be equal in each group.
    Balance(Box<Balance>),
}

impl Rule {
    /// The key of this kind of rule in the check file.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Forbid(_) => "forbid",
            Self::Pipeline(_) => "pipeline",
            Self::Derived(_) => "derived",
            Self::Balance(_) => "balance",
        }
    }

    /// The operator with which the rule runs JavaScript on the server, if it does.
    pub(crate) fn javascript(&self) -> Option<&str> {
        match self {
            Self::Forbid(filter) => in_document(filter),
            Self::Pipeline(stages) => stages.iter().find_map(in_document),
            Self::Derived(derived) => javascript(&derived.expression)
                .or_else(|| derived.filter.iter().chain(&derived.stages).find_map(in_document)),
            Self::Balance(balance) => [&balance.left, &balance.right].into_iter().find_map(|side| {
                let by = || side.by.as_ref().and_then(javascript);
                javascript(&side.sum).or_else(by).or_else(|| side.filter.as_ref().and_then(in_document))
            }),
        }
    }
}

/// A derived field and how to recompute it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Derived {
    /// The path of the field, with dots.
    pub field: String,
    /// The MongoDB expression for the expected value of the field.
    pub expression: Bson,
    /// The filter for the documents that have the field; all documents if there is none.
    pub filter: Option<Document>,
    /// Stages that fetch what the expression needs, above all `$lookup`.
    pub stages: Vec<Document>,
    /// The paths of the inputs that the field is computed from. A repair shows them, and compares them before it
    /// writes.
    pub inputs: Vec<String>,
    /// The tolerated difference.
    pub tolerance: Option<f64>,
    /// The numeric type that a repair gives to a field that is not a number. A field that is a number keeps its type.
    pub number: Option<NumberType>,
}

/// A numeric type of MongoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberType {
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// A binary floating-point number.
    Double,
    /// A decimal floating-point number.
    Decimal,
}

impl NumberType {
    pub(crate) const ALL: [Self; 4] = [Self::Int, Self::Long, Self::Double, Self::Decimal];

    /// MongoDB's name of the type, as in `$type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::Decimal => "decimal",
        }
    }
}

/// Two sums over one collection, or over two collections of one database.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Balance {
    /// The left side.
    pub left: Side,
    /// The right side.
    pub right: Side,
    /// The tolerated difference between the sides.
    pub tolerance: Option<f64>,
}

/// One side of a balance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Side {
    /// The collection that is summed.
    pub collection: String,
    /// The filter for the documents that count; all documents if there is none.
    pub filter: Option<Document>,
    /// The MongoDB expression that is summed.
    pub sum: Bson,
    /// The MongoDB expression for the group; without it there is one sum over all documents.
    pub by: Option<Bson>,
}

/// The severity of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The on-call engineer is paged.
    Critical,
    /// A ticket, to be handled during working hours.
    Warning,
    /// Informational; shown on a dashboard.
    Info,
}

impl Severity {
    pub(crate) const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Info];

    /// The catalog's word for the severity.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_match_catalog() {
        assert_eq!(Severity::ALL.map(Severity::as_str).as_slice(), txnscope_catalog::SEVERITIES);
    }
}
