//! Field paths, and the values that MongoDB skips on a path.

use mongodb::bson::{Bson, doc};

use crate::strict::{Limits, among, finding};

const ABSENT: [&str; 3] = ["missing", "null", "undefined"];

/// `"$deposits.amount"` or `"$$line.amount"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// The root of the path: `$deposits`, `$$line`.
    root: String,
    rest: Vec<String>,
}

impl Path {
    /// Parses an expression that is a path.
    pub(crate) fn parse(expression: &Bson) -> Option<Self> {
        let text = expression.as_str()?;
        let text = ["$$ROOT.", "$$CURRENT."]
            .iter()
            .find_map(|root| text.strip_prefix(root))
            .map_or_else(|| text.to_owned(), |path| format!("${path}"));
        let mut parts = text.split('.').map(str::to_owned);
        let root = parts.next().filter(|root| root.starts_with('$') && root.len() > 1)?;
        let is_ours = ["$$ROOT", "$$CURRENT", "$$NOW", "$$REMOVE", "$$CLUSTER_TIME"].contains(&root.as_str());
        (!is_ours).then(|| Self { root, rest: parts.collect() })
    }

    /// The path without the dollar signs.
    pub(crate) fn name(&self) -> String {
        let root = self.root.trim_start_matches('$');
        [&[root.to_owned()], self.rest.as_slice()].concat().join(".")
    }

    /// The field of the document at the root of the path, unless the root is a variable.
    pub(crate) fn field(&self) -> Option<&str> {
        self.root.strip_prefix('$').filter(|root| !root.starts_with('$'))
    }

    /// The first `length` steps after the root, as an expression.
    fn prefix(&self, length: usize) -> Bson {
        let rest = &self.rest[..length];
        [std::slice::from_ref(&self.root), rest].concat().join(".").into()
    }

    /// The rest of the path for an element of a list that is reached after `length` steps.
    fn element(&self, length: usize) -> String {
        let rest = &self.rest[length..];
        [&["$$txnscopeE".to_owned()], rest].concat().join(".")
    }

    /// The findings that keep the values at the end of the path from being a list of numbers, through exactly one
    /// list. `absent` are the findings where the path ends early with a missing value; without it, this is a finding
    /// itself.
    pub(crate) fn numbers(&self, limits: Limits, absent: Option<Bson>) -> Bson {
        let name = self.name();
        let mut branches = Vec::new();
        for length in 0..=self.rest.len() {
            let prefix = self.prefix(length);
            let numbers = among(&prefix, &self.element(length), &name, limits);
            branches.push(doc! {"case": {"$isArray": [&prefix]}, "then": numbers});
            if let Some(absent) = &absent {
                let is_absent = doc! {"$in": [{"$type": &prefix}, ABSENT.as_slice()]};
                branches.push(doc! {"case": is_absent, "then": absent});
                if length < self.rest.len() {
                    let is_scalar = doc! {"$ne": [{"$type": &prefix}, "object"]};
                    branches
                        .push(doc! {"case": is_scalar, "then": [finding(&name, "is not a list", &prefix)]});
                }
            }
        }
        let no_list = finding(&name, "is not a list", &self.prefix(0));
        doc! {"$switch": {"branches": branches, "default": [no_list]}}.into()
    }

    /// The entries of a list on the path that lack the rest of the path, which MongoDB would skip, and values that
    /// are neither a list nor a document.
    pub(crate) fn skipped(&self) -> Option<Bson> {
        if self.rest.is_empty() {
            return None;
        }
        let name = self.name();
        let mut branches = Vec::new();
        for length in 0..self.rest.len() {
            let prefix = self.prefix(length);
            // A nested list has no fields of its own, but a path would find those of its elements.
            let lacks = doc! {"$or": [
                {"$ne": [{"$type": "$$txnscopeE"}, "object"]},
                {"$eq": [{"$type": self.element(length)}, "missing"]},
            ]};
            let lacking = doc! {"$filter": {"input": &prefix, "as": "txnscopeE", "cond": lacks}};
            let few = doc! {"$slice": [lacking, super::MOST]};
            let found = doc! {"$map": {"input": few, "as": "txnscopeE", "in": finding(&name, "is missing", &"$$txnscopeE".into())}};
            branches.push(doc! {"case": {"$isArray": [&prefix]}, "then": found});
            branches.push(doc! {"case": {"$in": [{"$type": &prefix}, ABSENT.as_slice()]}, "then": []});
            let is_scalar = doc! {"$ne": [{"$type": &prefix}, "object"]};
            branches.push(doc! {"case": is_scalar, "then": [finding(&name, "has no fields", &prefix)]});
        }
        Some(doc! {"$switch": {"branches": branches, "default": []}}.into())
    }
}
