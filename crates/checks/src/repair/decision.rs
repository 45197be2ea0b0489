//! What a repair makes of one document: the value, or what a person has to look at.

use mongodb::bson::{Bson, Document};

use crate::check::Derived;
use crate::extended_json::extended_json;
use crate::file::fields;
use crate::repair::number::Sum;
use crate::repair::{InputValue, Repair};
use crate::strict::stages;

pub(crate) fn repair(derived: &Derived, evidence: &Document, inputs: &[InputValue]) -> Repair {
    let parts = evidence.get_array("odd").map(Vec::as_slice).unwrap_or_default();
    let mut told: Vec<_> = parts.iter().filter_map(Bson::as_document).map(part).collect();
    inputs.iter().filter_map(|trace| trace.value.as_ref()).for_each(|value| grouped(value, &mut told));
    told.extend(evidence.get_document(stages::ODD).ok().map(of_group));
    if !told.is_empty() {
        return Repair::Impossible(told.join("; "));
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
        return Repair::Impossible("it does not add up to a value: a part is missing".to_owned());
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
            "the field is what it should be, as far as its type can hold that: a tolerance in the check says so"
                .to_owned(),
        ),
        Ok(value) => Repair::Set(value),
        Err(why) => Repair::Impossible(why),
    }
}

/// The longest part that is told.
const WIDEST: usize = 200;

fn short(value: Option<&Bson>) -> String {
    let text = value.map_or_else(|| "(missing)".to_owned(), extended_json);
    if text.chars().count() > WIDEST { text.chars().take(WIDEST).chain([' ', '…']).collect() } else { text }
}

/// One finding of [`crate::strict`], in words.
fn part(found: &Document) -> String {
    let word = |key| found.get_str(key).unwrap_or_default();
    format!("{}: {} {}", word("path"), short(found.get("part")), word("why"))
}

/// What a group says of its sums.
fn of_group(odd: &Document) -> String {
    let found = odd.get_document("part").map(part).unwrap_or_default();
    format!("of the document {}: {found}", short(odd.get("_id")))
}

/// What the groups of lookups say of their sums.
fn grouped(value: &Bson, told: &mut Vec<String>) {
    match value {
        Bson::Array(elements) => elements.iter().for_each(|element| grouped(element, told)),
        Bson::Document(document) => {
            told.extend(document.get_document(stages::ODD).ok().map(of_group));
            document.values().for_each(|value| grouped(value, told));
        }
        _ => {}
    }
}

/// Whether all that a field is computed from is empty. What stages have made is not looked at, but for whether they
/// have looked up something.
pub(crate) fn is_empty(derived: &Derived, evidence: &Document, inputs: &[InputValue]) -> bool {
    let joined = evidence.get_array("joined").map(Vec::as_slice).unwrap_or_default();
    if joined.iter().any(|joined| *joined == Bson::Boolean(true)) {
        return false;
    }
    let looks_up = derived.stages.iter().any(|stage| stages::joins(stage).is_some());
    if looks_up && joined.is_empty() {
        // Stages have dropped it.
        return false;
    }
    let own = own_inputs(derived);
    let value =
        |path: &String| inputs.iter().find(|trace| trace.path == *path).map(|trace| trace.value.as_ref());
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
