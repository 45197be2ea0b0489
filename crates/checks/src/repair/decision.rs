//! Decides what a repair does with one document: the value to set, or the reason why a person has to decide.

use mongodb::bson::{Bson, Document};

use crate::check::Derived;
use crate::extended_json::extended_json;
use crate::file::fields;
use crate::repair::number::Sum;
use crate::repair::{InputValue, Repair};
use crate::strict::stages;

pub(crate) fn repair(derived: &Derived, evidence: &Document, inputs: &[InputValue]) -> Repair {
    let parts = evidence.get_array("invalid").map(Vec::as_slice).unwrap_or_default();
    let mut problems: Vec<_> = parts.iter().filter_map(Bson::as_document).map(part).collect();
    inputs.iter().filter_map(|input| input.value.as_ref()).for_each(|value| grouped(value, &mut problems));
    problems.extend(evidence.get_document(stages::NON_NUMERIC).ok().map(of_group));
    if !problems.is_empty() {
        return Repair::Impossible(problems.join("; "));
    }
    let holders = evidence.get_array("holders").map(Vec::as_slice).unwrap_or_default();
    if let Some(holder) =
        holders.iter().filter_map(Bson::as_str).find(|holder| !["object", "missing"].contains(holder))
    {
        let field = &derived.field;
        return Repair::Impossible(format!("{field} would be set within a value of the type {holder}"));
    }
    let Some(expected) =
        evidence.get("expected").filter(|expected| !matches!(expected, Bson::Null | Bson::Undefined))
    else {
        return Repair::Impossible("the expression has no value: an input is missing".to_owned());
    };
    let actual = evidence.get("actual");
    let sum = Sum {
        actual,
        expected,
        exact: evidence.get("exact"),
        number: derived.number,
        tolerance: derived.tolerance,
    };
    match sum.fitted() {
        Ok(value) if actual == Some(&value) => Repair::Impossible(
            "the field has the expected value, as far as its type can represent it: set a tolerance in the check"
                .to_owned(),
        ),
        Ok(value) => Repair::Set(value),
        Err(why) => Repair::Impossible(why),
    }
}

/// The maximum length of a value in a message.
const WIDEST: usize = 200;

fn short(value: Option<&Bson>) -> String {
    let text = value.map_or_else(|| "(missing)".to_owned(), extended_json);
    if text.chars().count() > WIDEST { text.chars().take(WIDEST).chain([' ', '…']).collect() } else { text }
}

/// Describes one finding of [`crate::strict`].
fn part(found: &Document) -> String {
    let word = |key| found.get_str(key).unwrap_or_default();
    format!("{}: {} {}", word("path"), short(found.get("part")), word("why"))
}

/// Describes a non-numeric part of a group's sums.
fn of_group(invalid: &Document) -> String {
    let found = invalid.get_document("part").map(part).unwrap_or_default();
    format!("in the document {}: {found}", short(invalid.get("_id")))
}

/// Collects the non-numeric parts that the groups of lookups report.
fn grouped(value: &Bson, problems: &mut Vec<String>) {
    match value {
        Bson::Array(elements) => elements.iter().for_each(|element| grouped(element, problems)),
        Bson::Document(document) => {
            problems.extend(document.get_document(stages::NON_NUMERIC).ok().map(of_group));
            document.values().for_each(|value| grouped(value, problems));
        }
        _ => {}
    }
}

/// Whether all inputs of a field are empty. Values that stages compute do not count, except whether a lookup found a
/// document.
pub(crate) fn is_empty(derived: &Derived, evidence: &Document, inputs: &[InputValue]) -> bool {
    let joined = evidence.get_array("joined").map(Vec::as_slice).unwrap_or_default();
    if joined.iter().any(|joined| *joined == Bson::Boolean(true)) {
        return false;
    }
    let looks_up = derived.stages.iter().any(|stage| stages::joins(stage).is_some());
    if looks_up && joined.is_empty() {
        // The stages have removed the marker.
        return false;
    }
    let own = own_inputs(derived);
    let value =
        |path: &String| inputs.iter().find(|input| input.path == *path).map(|input| input.value.as_ref());
    let values: Vec<_> = own.iter().filter_map(value).collect();
    let is_nothing = |value: &Option<&Bson>| match value {
        None | Some(Bson::Null | Bson::Undefined) => true,
        Some(Bson::Array(elements)) => elements.is_empty(),
        Some(Bson::Document(document)) => document.is_empty(),
        Some(_) => false,
    };
    (looks_up || !values.is_empty()) && values.iter().all(is_nothing)
}

/// The fields of the document itself that an expression reads.
pub(crate) fn own_inputs(derived: &Derived) -> Vec<String> {
    let made = stages::made(&derived.stages);
    let mut own = fields::of_expression(&derived.expression);
    own.retain(|path| !made.contains(path) && path.split('.').next() != derived.field.split('.').next());
    own
}
