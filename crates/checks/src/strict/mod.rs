//! What MongoDB leaves out of a sum without a word, found: `$sum` skips what is no number, and a path through a list
//! skips the entries that lack the rest of it. A sum is a value only if every part of it was there and was a number.
//!
//! [`findings`] makes of an expression another one, which returns the parts that are no numbers, as documents
//! `{path, why, part}`; an empty list says that the expression may be evaluated, without an error of the server and
//! without a part that is left out. `exact` makes of it a third one, which adds in decimal.

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

/// At most so many findings of one sum: what a person has to look at, not all of it.
const MOST: i32 = 3;

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    limits: Limits,
    /// What it returns goes into a sum, so that nothing of it may be skipped.
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

/// An expression that returns what in an expression is no number, and should be one.
pub(crate) fn findings(expression: &Bson, limits: Limits) -> Bson {
    all(of(expression, Place { limits, summed: false }))
}

/// The same of an expression that must be a number itself: what an accumulator `$sum` is given.
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

/// The second list is only computed if the first is empty: it evaluates what the first has looked at.
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

/// The elements of a list that are no numbers, as findings. `element` is what of each `$$txnscopeE` is summed.
fn among(list: &Bson, element: &str, path: &str, limits: Limits) -> Bson {
    let odd = not(is_number(&element.into(), limits));
    let odd = doc! {"$filter": {"input": list, "as": "txnscopeE", "cond": odd}};
    let few = doc! {"$slice": [odd, MOST]};
    let found =
        finding(path, why(&element.into(), limits, "is no number that can be summed"), &"$$txnscopeE".into());
    doc! {"$map": {"input": few, "as": "txnscopeE", "in": found}}.into()
}

/// How an expression is named to people.
fn named(expression: &Bson) -> String {
    if let Some(path) = Path::of(expression) {
        return path.name();
    }
    let text = serde_json::to_string(expression).unwrap_or_default();
    if text.chars().count() > 80 { text.chars().take(79).chain(['…']).collect() } else { text }
}

// ===== The walk =====

/// The operator and its argument, if the expression is one.
pub(crate) fn operator(expression: &Bson) -> Option<(&str, &Bson)> {
    let document = expression.as_document().filter(|document| document.len() == 1)?;
    let (key, argument) = document.iter().next()?;
    key.starts_with('$').then_some((key.as_str(), argument))
}

/// The operands: an argument that is no list is the only one.
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

/// The branches of a `$switch`, each a case and what is then, and its default.
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

fn of(expression: &Bson, place: Place) -> Vec<Bson> {
    if let Some((operator, argument)) = operator(expression) {
        return of_operator(operator, argument, place);
    }
    match expression {
        Bson::Document(document) => document.values().flat_map(|value| of(value, place.plain())).collect(),
        Bson::Array(elements) => elements.iter().flat_map(|element| of(element, place)).collect(),
        _ if place.summed => Path::of(expression).and_then(|path| path.skipped()).into_iter().collect(),
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
        "$concatArrays" | "$slice" | "$reverseArray" => of(argument, place),
        _ => of_any(argument, place),
    }
}

/// Of an operator that is not known here: what stands in it.
fn of_any(argument: &Bson, place: Place) -> Vec<Bson> {
    match argument {
        Bson::Document(document) if operator(argument).is_none() => {
            document.values().flat_map(|value| of(value, place.plain())).collect()
        }
        other => of(other, place.plain()),
    }
}

fn of_cond(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some([condition, yes, no]) = cond(argument) else { return Vec::new() };
    let branches = [of(yes, place), of(no, place)];
    let second = branches.iter().any(|branch| !branch.is_empty()).then(|| {
        let [yes, no] = branches.map(all);
        doc! {"$cond": [condition, yes, no]}.into()
    });
    then(of(condition, place.plain()), second)
}

fn of_switch(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some((branches, default)) = switch(argument) else { return Vec::new() };
    let cases: Vec<_> = branches.iter().flat_map(|(case, _)| of(case, place.plain())).collect();
    let found: Vec<_> = branches.iter().map(|(case, then)| ((*case).clone(), of(then, place))).collect();
    let default = default.map(|default| of(default, place)).unwrap_or_default();
    if found.iter().all(|(_, list)| list.is_empty()) && default.is_empty() {
        return cases;
    }
    let found = found.into_iter().map(|(case, list)| (case, all(list))).collect();
    then(cases, Some(switched(found, Some(all(default)))))
}

fn of_if_null(argument: &Bson, place: Place) -> Vec<Bson> {
    let operands = operands(argument);
    let Some((first, rest)) = operands.split_first() else { return Vec::new() };
    let others: Vec<_> = rest.iter().flat_map(|other| of(other, place)).collect();
    let others = (!others.is_empty()).then(|| {
        let is_null = doc! {"$eq": [{"$ifNull": [*first, Bson::Null]}, Bson::Null]};
        doc! {"$cond": [is_null, all(others), []]}.into()
    });
    then(of(first, place), others)
}

fn of_let(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some((vars, inner)) = bound(argument) else { return Vec::new() };
    let inner = of(inner, place);
    let second = (!inner.is_empty()).then(|| doc! {"$let": {"vars": vars, "in": all(inner)}}.into());
    then(vars.values().flat_map(|value| of(value, place.plain())).collect(), second)
}

/// What a `$let` binds, and where.
pub(crate) fn bound(argument: &Bson) -> Option<(&Document, &Bson)> {
    let argument = argument.as_document()?;
    Some((argument.get_document("vars").ok()?, argument.get("in")?))
}

/// `$map` and `$filter`: their input must be a list, and then `key` is looked at for each element.
fn of_each(argument: &Bson, key: &str, input_place: Place, place: Place) -> Vec<Bson> {
    let Some(argument) = argument.as_document() else { return Vec::new() };
    let (Some(input), Some(inner)) = (argument.get("input"), argument.get(key)) else { return Vec::new() };
    let name = argument.get_str("as").unwrap_or("this");
    let mut found = then(of(input, input_place), Some(arithmetic::list(input)));
    if let Some(inner) = each(input, name, of(inner, place)) {
        found = then(found, Some(inner));
    }
    found
}

fn of_reduce(argument: &Bson, place: Place) -> Vec<Bson> {
    let Some(argument) = argument.as_document() else { return Vec::new() };
    let (Some(input), Some(inner)) = (argument.get("input"), argument.get("in")) else { return Vec::new() };
    // A fold over a path is a sum in other words: what the path skips would be left out of it.
    let mut found = of(input, place.summed());
    found.extend(argument.get("initialValue").map(|value| of(value, place.plain())).unwrap_or_default());
    found = then(found, Some(arithmetic::list(input)));
    // What is found by means of the value so far cannot be asked for outside of the fold; what is null or NaN there
    // stays so to its end.
    let inner = of(inner, place).into_iter().filter(|list| !mentions(list, "$$value")).collect();
    match each(input, "this", inner) {
        Some(inner) => then(found, Some(inner)),
        None => found,
    }
}

fn mentions(expression: &Bson, variable: &str) -> bool {
    match expression {
        // Folds of ours have a value of their own.
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
