//! Finds the values that MongoDB silently leaves out of a sum: `$sum` skips values that are not numbers, and a path
//! through a list skips the entries that lack the rest of the path. A sum is only valid if every part exists and is a
//! number.
//!
//! [`findings`] translates an expression into another one that returns the non-numeric parts as documents `{path,
//! why, part}`. If the list is empty, the expression can be evaluated without a server error and without omitted
//! parts. `exact` translates the expression into decimal arithmetic.

mod arithmetic;
mod exact;
mod limits;
mod path;
pub(crate) mod stages;

use mongodb::bson::{Bson, Document, doc};

pub(crate) use exact::{decimal_of, exact};
pub(crate) use limits::Limits;
use limits::{is_number, why};

pub(crate) use crate::strict::path::Path;

/// The maximum number of findings of one sum, enough for a person to start with.
const MOST: i32 = 3;

/// The context of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    limits: Limits,
    /// Whether the result goes into a sum, so that no part may be skipped.
    summed: bool,
}

impl Place {
    fn plain(self) -> Self {
        Self { summed: false, ..self }
    }

    fn summed(self) -> Self {
        Self { summed: true, ..self }
    }
}

/// An expression that returns the non-numeric parts of an expression.
pub(crate) fn findings(expression: &Bson, limits: Limits) -> Bson {
    all(analyze(expression, Place { limits, summed: false }))
}

/// The findings of an expression that must itself be a number: the operand of an accumulator `$sum`.
pub(crate) fn findings_of_part(expression: &Bson, limits: Limits) -> Bson {
    let place = Place { limits, summed: true };
    arithmetic::operand(expression, place, false).unwrap_or_else(none)
}

/// Whether a list of findings is empty.
pub(crate) fn is_empty(findings: &Bson) -> Bson {
    doc! {"$eq": [findings, []]}.into()
}

// ===== Lists of findings =====

fn none() -> Bson {
    Bson::Array(Vec::new())
}

fn all(mut lists: Vec<Bson>) -> Bson {
    match lists.len() {
        0 => none(),
        1 => lists.remove(0),
        _ => doc! {"$concatArrays": lists}.into(),
    }
}

fn finding(path: &str, why: impl Into<Bson>, part: &Bson) -> Bson {
    doc! {"path": {"$literal": path}, "why": why.into(), "part": part}.into()
}

/// The second list is only computed if the first is empty: it evaluates what the first has verified.
fn then(first: Vec<Bson>, second: Option<Bson>) -> Vec<Bson> {
    let Some(second) = second else { return first };
    if first.is_empty() {
        return vec![second];
    }
    let next = doc! {"$cond": [is_empty(&"$$txnscopeO".into()), second, "$$txnscopeO"]};
    vec![doc! {"$let": {"vars": {"txnscopeO": all(first)}, "in": next}}.into()]
}

/// The findings of an expression for each element of a list.
fn each(input: &Bson, name: &str, lists: Vec<Bson>) -> Option<Bson> {
    if lists.is_empty() {
        return None;
    }
    let input = doc! {"$cond": [{"$isArray": [input]}, input, []]};
    let found = doc! {"$map": {"input": input, "as": name, "in": all(lists)}};
    let some = doc! {"$filter": {"input": found, "as": "txnscopeE", "cond": {"$ne": ["$$txnscopeE", []]}}};
    let few = doc! {"$slice": [some, MOST]};
    let joined = doc! {"$concatArrays": ["$$value", "$$this"]};
    Some(doc! {"$reduce": {"input": few, "initialValue": [], "in": joined}}.into())
}

// ===== Numbers =====

fn not(condition: Bson) -> Bson {
    doc! {"$not": [condition]}.into()
}

/// The findings for the elements of a list. `element` is the summed part of each `$$txnscopeE`.
fn among(list: &Bson, element: &str, path: &str, limits: Limits) -> Bson {
    let invalid = not(is_number(&element.into(), limits));
    let invalid = doc! {"$filter": {"input": list, "as": "txnscopeE", "cond": invalid}};
    let few = doc! {"$slice": [invalid, MOST]};
    let found = finding(
        path,
        why(&element.into(), limits, "is not a number that can be summed"),
        &"$$txnscopeE".into(),
    );
    doc! {"$map": {"input": few, "as": "txnscopeE", "in": found}}.into()
}

/// The name of an expression in messages.
fn named(expression: &Bson) -> String {
    if let Some(path) = Path::parse(expression) {
        return path.name();
    }
    let text = serde_json::to_string(expression).unwrap_or_default();
    if text.chars().count() > 80 { text.chars().take(79).chain(['…']).collect() } else { text }
}

// ===== Traversal =====

/// The operator and its argument, if the expression is one.
pub(crate) fn operator(expression: &Bson) -> Option<(&str, &Bson)> {
    let document = expression.as_document().filter(|document| document.len() == 1)?;
    let (key, argument) = document.iter().next()?;
    key.starts_with('$').then_some((key.as_str(), argument))
}

/// The operands: an argument that is not a list is the only operand.
pub(crate) fn operands(argument: &Bson) -> Vec<&Bson> {
    match argument {
        Bson::Array(operands) => operands.iter().collect(),
        one => vec![one],
    }
}

/// The three parts of a `$cond`, in either form.
pub(crate) fn cond(argument: &Bson) -> Option<[&Bson; 3]> {
    match argument {
        Bson::Array(parts) => <[&Bson; 3]>::try_from(parts.iter().collect::<Vec<_>>()).ok(),
        Bson::Document(parts) => Some([parts.get("if")?, parts.get("then")?, parts.get("else")?]),
        _ => None,
    }
}

/// The branches of a `$switch`, each with its case and result, and its default.
pub(crate) type Switch<'a> = (Vec<(&'a Bson, &'a Bson)>, Option<&'a Bson>);

/// The parts of a `$switch`.
pub(crate) fn switch(argument: &Bson) -> Option<Switch<'_>> {
    let argument = argument.as_document()?;
    let branches = argument.get_array("branches").ok()?.iter().map(|branch| {
        let branch = branch.as_document()?;
        Some((branch.get("case")?, branch.get("then")?))
    });
    Some((branches.collect::<Option<_>>()?, argument.get("default")))
}

/// The same `$switch` with other branches.
pub(crate) fn switched(branches: Vec<(Bson, Bson)>, default: Option<Bson>) -> Bson {
    let branches: Vec<_> =
        branches.into_iter().map(|(case, then)| doc! {"case": case, "then": then}).collect();
    let mut switch = doc! {"branches": branches};
    switch.extend(default.map(|default| ("default".to_owned(), default)));
    doc! {"$switch": switch}.into()
}

fn analyze(expression: &Bson, place: Place) -> Vec<Bson> {
    if let Some((operator, argument)) = operator(expression) {
        return of_operator(operator, argument, place);
    }
    match expression {
        Bson::Document(document) => {
            document.values().flat_map(|value| analyze(value, place.plain())).collect()
        }
        Bson::Array(elements) => elements.iter().flat_map(|element| analyze(element, place)).collect(),
        _ if place.summed => Path::parse(expression).and_then(|path| path.skipped()).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn of_operator(operator: &str, argument: &Bson, place: Place) -> Vec<Bson> {
    match operator {
        "$literal" => Vec::new(),
        "$sum" | "$avg" | "$stdDevPop" | "$stdDevSamp" => arithmetic::sum(argument, place),
        "$add" | "$subtract" => arithmetic::operation(argument, place, true),
        _ if arithmetic::OPERATORS.contains(&operator) => arithmetic::operation(argument, place, false),
        "$toInt" | "$toLong" | "$toDouble" | "$toDecimal" => {
            arithmetic::conversion(operator, argument, place)
        }
        "$max" | "$min" | "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte" | "$cmp" => {
            arithmetic::comparison(argument, place)
        }
        "$cond" => of_cond(argument, place),
        "$switch" => of_switch(argument, place),
        "$ifNull" => of_if_null(argument, place),
        "$let" => of_let(argument, place),
        "$map" => of_each(argument, "in", place, place),
        "$filter" => of_each(argument, "cond", place, place.plain()),
        "$reduce" => of_reduce(argument, place),
        "$concatArrays" | "$slice" | "$reverseArray" => analyze(argument, place),
        _ => of_any(argument, place),
    }
}

/// The findings of an unknown operator: those of its operands.
fn of_any(argument: &Bson, place: Place) -> Vec<Bson> {
    match argument {
        Bson::Document(document) if operator(argument).is_none() => {
            document.values().flat_map(|value| analyze(value, place.plain())).collect()
        }
        other => analyze(other, place.plain()),
    }
}

fn of_cond(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some([condition, yes, no]) = cond(argument) else { return Vec::new() };
    let branches = [analyze(yes, place), analyze(no, place)];
    let second = branches.iter().any(|branch| !branch.is_empty()).then(|| {
        let [yes, no] = branches.map(all);
        doc! {"$cond": [condition, yes, no]}.into()
    });
    then(analyze(condition, place.plain()), second)
}

fn of_switch(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some((branches, default)) = switch(argument) else { return Vec::new() };
    let cases: Vec<_> = branches.iter().flat_map(|(case, _)| analyze(case, place.plain())).collect();
    let found: Vec<_> = branches.iter().map(|(case, then)| ((*case).clone(), analyze(then, place))).collect();
    let default = default.map(|default| analyze(default, place)).unwrap_or_default();
    if found.iter().all(|(_, list)| list.is_empty()) && default.is_empty() {
        return cases;
    }
    let found = found.into_iter().map(|(case, list)| (case, all(list))).collect();
    then(cases, Some(switched(found, Some(all(default)))))
}

fn of_if_null(argument: &Bson, place: Place) -> Vec<Bson> {
    let operands = operands(argument);
    let Some((first, rest)) = operands.split_first() else { return Vec::new() };
    let others: Vec<_> = rest.iter().flat_map(|other| analyze(other, place)).collect();
    let others = (!others.is_empty()).then(|| {
        let is_null = doc! {"$eq": [{"$ifNull": [*first, Bson::Null]}, Bson::Null]};
        doc! {"$cond": [is_null, all(others), []]}.into()
    });
    then(analyze(first, place), others)
}

fn of_let(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some((vars, inner)) = bound(argument) else { return Vec::new() };
    let inner = analyze(inner, place);
    let second = (!inner.is_empty()).then(|| doc! {"$let": {"vars": vars, "in": all(inner)}}.into());
    then(vars.values().flat_map(|value| analyze(value, place.plain())).collect(), second)
}

/// The variables of a `$let`, and its inner expression.
pub(crate) fn bound(argument: &Bson) -> Option<(&Document, &Bson)> {
    let argument = argument.as_document()?;
    Some((argument.get_document("vars").ok()?, argument.get("in")?))
}

/// The findings of `$map` and `$filter`: their input must be a list, and `key` is analyzed for each element.
fn of_each(argument: &Bson, key: &str, input_place: Place, place: Place) -> Vec<Bson> {
    let Some(argument) = argument.as_document() else { return Vec::new() };
    let (Some(input), Some(inner)) = (argument.get("input"), argument.get(key)) else { return Vec::new() };
    let name = argument.get_str("as").unwrap_or("this");
    let mut found = then(analyze(input, input_place), Some(arithmetic::list(input)));
    if let Some(inner) = each(input, name, analyze(inner, place)) {
        found = then(found, Some(inner));
    }
    found
}

fn of_reduce(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some(argument) = argument.as_document() else { return Vec::new() };
    let (Some(input), Some(inner)) = (argument.get("input"), argument.get("in")) else { return Vec::new() };
    // A fold over a path is a sum in another form: values that the path skips would be left out.
    let mut found = analyze(input, place.summed());
    found.extend(argument.get("initialValue").map(|value| analyze(value, place.plain())).unwrap_or_default());
    found = then(found, Some(arithmetic::list(input)));
    // Findings that depend on the accumulated value cannot be computed outside of the fold; null or NaN there lasts
    // until its end.
    let inner = analyze(inner, place).into_iter().filter(|list| !mentions(list, "$$value")).collect();
    match each(input, "this", inner) {
        Some(inner) => then(found, Some(inner)),
        None => found,
    }
}

fn mentions(expression: &Bson, variable: &str) -> bool {
    match expression {
        // Folds that this module generates have a value variable of their own.
        Bson::Document(document) if document.contains_key("$reduce") => {
            document.get_document("$reduce").is_ok_and(|fold| {
                let outer = [fold.get("input"), fold.get("initialValue")];
                outer.into_iter().flatten().any(|value| mentions(value, variable))
            })
        }
        Bson::Document(document) => document.values().any(|value| mentions(value, variable)),
        Bson::Array(elements) => elements.iter().any(|element| mentions(element, variable)),
        Bson::String(text) => {
            text.strip_prefix(variable).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
