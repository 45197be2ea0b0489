//! What a check is, once its file has been read and found well formed.

use std::time::Duration;

use mongodb::bson::{Bson, Document};
use mongodb::options::ReadPreference;

use crate::file::fields::{in_document, javascript};
use crate::pipeline;

/// One question to the data, and how often to ask it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// Its name: the label `check`, so 1 to 64 characters of `a-z0-9_`.
    pub name: String,
    /// What it holds, in a sentence for whoever is paged; may be empty.
    pub about: String,
    /// How bad a violation is.
    pub severity: Severity,
    /// The database that it reads.
    pub database: String,
    /// The collection that it reads first.
    pub collection: String,
    /// How often the sidecar runs it.
    pub interval: Duration,
    /// How long the server may work on it (`maxTimeMS`).
    pub max_time: Duration,
    /// Which members it may be read from.
    pub read_preference: ReadPreference,
    /// Fields of an offending document to show, besides `_id` and those that the rule itself names.
    pub show: Vec<String>,
    /// How its aggregation compares texts, as MongoDB's `collation`; byte by byte unless given.
    pub collation: Option<Document>,
    /// Whether a collection that does not exist is an empty one, and not a mistyped name.
    pub may_be_missing: bool,
    /// Whether it may have the server run JavaScript, itself or through a view: that may outlive `max_time`.
    pub allow_javascript: bool,
    /// What it holds.
    pub rule: Rule,
}

impl Check {
    /// Every collection of its database that it reads: whoever runs it needs `find` on each.
    #[must_use]
    pub fn collections(&self) -> Vec<String> {
        pipeline::sources(self)
    }
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// A filter that must match nothing.
    Forbid(Document),
    /// An aggregation that must return nothing.
    Pipeline(Vec<Document>),
    /// A field that must be what an expression makes of the rest. The one rule that can be repaired.
    Derived(Box<Derived>),
    /// Two sums that must be equal, by group.
    Balance(Box<Balance>),
}

impl Rule {
    /// The key that it has in the file.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Forbid(_) => "forbid",
            Self::Pipeline(_) => "pipeline",
            Self::Derived(_) => "derived",
            Self::Balance(_) => "balance",
        }
    }

    /// The operator by which it has the server run JavaScript, if it does.
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

/// A field and how to recompute it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Derived {
    /// The field, as a path with dots.
    pub field: String,
    /// MongoDB's expression for what it must be.
    pub expression: Bson,
    /// Which documents have it; all if there is no filter.
    pub filter: Option<Document>,
    /// Stages that bring in what the expression needs, `$lookup` above all.
    pub stages: Vec<Document>,
    /// The paths that it is computed from: what a repair shows, and compares before it writes.
    pub inputs: Vec<String>,
    /// How far off it may be.
    pub tolerance: Option<f64>,
    /// The type of number that a repair gives to a field that has none. A field that is a number keeps its type.
    pub number: Option<NumberType>,
}

/// A type of number of MongoDB's.
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

    /// MongoDB's word, as in `$type`.
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

/// Two sums, of one collection or of two in one database.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Balance {
    /// One side.
    pub left: Side,
    /// The other.
    pub right: Side,
    /// How far apart they may be.
    pub tolerance: Option<f64>,
}

/// One side of a balance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Side {
    /// Its collection.
    pub collection: String,
    /// Which documents count; all if there is no filter.
    pub filter: Option<Document>,
    /// MongoDB's expression for what is summed.
    pub sum: Bson,
    /// MongoDB's expression for the group; without one there is a single sum.
    pub by: Option<Bson>,
}

/// How bad a violation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody is paged.
    Critical,
    /// Somebody looks in the morning.
    Warning,
    /// Worth a line on a dashboard.
    Info,
}

impl Severity {
    pub(crate) const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Info];

    /// The catalogue's word.
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
