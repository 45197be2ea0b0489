//! Translates a check into the aggregation that finds its violations. All arithmetic is the server's: int, long,
//! double and decimal are compared by value, as MongoDB compares them. Values that MongoDB silently leaves out of a
//! sum are found by [`strict`] and are violations.

use mongodb::bson::{Bson, Document, doc};

use crate::check::{Balance, Check, Derived, Rule, Side};
use crate::file::fields;
use crate::strict::stages::{JOINED, NON_NUMERIC, strict, watched};
use crate::strict::{Limits, decimal_of, exact, findings, findings_of_part, is_empty, operator};

/// The field of a sample document that lists the non-numeric parts of its sum.
const NO_NUMBERS: &str = "notNumbers";
/// The tolerated difference between a sum of doubles and the sum of the decimals that they represent.
const NOISE: f64 = 1e-6;

/// Stages that return one whole document for each violation.
pub(crate) fn violations(check: &Check) -> Vec<Document> {
    match &check.rule {
        Rule::Forbid(filter) => vec![doc! {"$match": filter}],
        Rule::Pipeline(stages) => stages.clone(),
        Rule::Derived(derived) => {
            let mut stages = selected(derived);
            stages.extend(strict(&derived.stages, Limits::Finite));
            stages.push(violating(derived));
            stages
        }
        Rule::Balance(balance) => unbalanced(balance),
    }
}

/// Stages that reduce a violation to what is shown: `_id` and the fields that matter, or the whole document.
pub(crate) fn sample_projection(check: &Check, full: bool) -> Vec<Document> {
    match &check.rule {
        Rule::Derived(derived) => {
            let mut fields = if full {
                doc! {"document": "$$ROOT"}
            } else {
                // Three names are reserved: a field with one of them is not shown.
                let ours = ["actual", "expected", NO_NUMBERS];
                let is_ours =
                    |path: &&String| path.split('.').next().is_some_and(|name| ours.contains(&name));
                let paths: Vec<_> = check.show.iter().filter(|path| !is_ours(path)).cloned().collect();
                projection(&paths)
            };
            let invalid = findings(&derived.expression, Limits::Finite);
            fields.insert("actual", actual(derived));
            fields.insert("expected", expected(derived, Limits::Finite));
            fields.insert(NO_NUMBERS, doc! {"$cond": [is_empty(&invalid), "$$REMOVE", invalid]});
            vec![doc! {"$project": fields}]
        }
        Rule::Balance(_) => Vec::new(),
        _ if full => Vec::new(),
        Rule::Forbid(filter) => {
            let paths: Vec<_> = check.show.iter().cloned().chain(fields::of_filter(filter)).collect();
            vec![doc! {"$project": projection(&paths)}]
        }
        Rule::Pipeline(_) => vec![doc! {"$project": projection(&check.show)}],
    }
}

/// The collection whose documents the aggregation reads first.
pub(crate) fn source(check: &Check) -> &str {
    match &check.rule {
        Rule::Balance(balance) => &balance.left.collection,
        Rule::Forbid(_) | Rule::Pipeline(_) | Rule::Derived(_) => &check.collection,
    }
}

/// Every collection that the aggregation reads.
pub(crate) fn sources(check: &Check) -> Vec<String> {
    let mut names = vec![source(check).to_owned()];
    names.extend(match &check.rule {
        Rule::Forbid(_) => Vec::new(),
        Rule::Pipeline(stages) => fields::collections(stages),
        Rule::Derived(derived) => fields::collections(&derived.stages),
        Rule::Balance(balance) => vec![balance.right.collection.clone()],
    });
    names.sort_unstable();
    names.dedup();
    names
}

// ===== Derived =====

/// A stage that selects the documents that have the field.
pub(crate) fn selected(derived: &Derived) -> Vec<Document> {
    derived.filter.iter().map(|filter| doc! {"$match": filter}).collect()
}

/// Stages that join the inputs to the documents that have the field.
pub(crate) fn inputs(derived: &Derived) -> Vec<Document> {
    watched(&derived.stages, Limits::of_repair(derived.tolerance))
}

/// A stage that selects the documents, with their inputs, whose field differs from the expected value.
pub(crate) fn violating(derived: &Derived) -> Document {
    doc! {"$match": {"$expr": violates(derived)}}
}

/// A stage that returns one document for each input document: the actual and the expected value of the field, the
/// non-numeric parts of the expected value, and its inputs.
///
/// The inputs are a list of paths and values, because a path may contain dots and a field name here may not.
pub(crate) fn evidence(derived: &Derived) -> Document {
    let traces =
        derived.inputs.iter().map(|path| doc! {"path": {"$literal": path}, "value": format!("${path}")});
    let limits = Limits::of_repair(derived.tolerance);
    let invalid = findings(&derived.expression, limits);
    let is_number = doc! {"$in": [{"$type": "$$txnscopeE"}, ["int", "long", "double", "decimal"]]};
    let exactly = doc! {"$let": {
        "vars": {"txnscopeE": &derived.expression},
        "in": {"$cond": [is_number, exact(&derived.expression), "$$REMOVE"]},
    }};
    let parts: Vec<_> = derived.field.split('.').collect();
    let holders = (1..parts.len()).map(|length| doc! {"$type": format!("${}", parts[..length].join("."))});
    doc! {"$project": {
        "actual": actual(derived),
        "expected": expected(derived, limits),
        "exact": {"$cond": [is_empty(&invalid), exactly, "$$REMOVE"]},
        "invalid": invalid,
        "holders": holders.collect::<Vec<_>>(),
        "joined": format!("${JOINED}"),
        NON_NUMERIC: format!("${NON_NUMERIC}"),
        "violates": violates(derived),
        "inputs": traces.collect::<Vec<_>>(),
    }}
}

/// A stage that returns only the value of the field.
pub(crate) fn field(path: &str) -> Document {
    doc! {"$project": {"actual": format!("${path}")}}
}

fn actual(derived: &Derived) -> Bson {
    Bson::String(format!("${}", derived.field))
}

/// The expected value of the field; absent if it cannot be computed.
fn expected(derived: &Derived, limits: Limits) -> Bson {
    let invalid = findings(&derived.expression, limits);
    doc! {"$cond": [is_empty(&invalid), &derived.expression, "$$REMOVE"]}.into()
}

/// Whether the field differs from the expected value, or the expected value cannot be computed.
fn violates(derived: &Derived) -> Bson {
    let invalid = findings(&derived.expression, Limits::Finite);
    let (actual, expected) = (actual(derived), Bson::from("$$txnscopeE"));
    let plainly = differs(&actual, &expected, derived.tolerance);
    let (decimal, exact) = (decimal_of(&actual), exact(&derived.expression));
    let exactly = differs(&decimal, &exact, derived.tolerance);
    let of_type = |value: &Bson, names: &[&str]| doc! {"$in": [{"$type": value}, names]};
    let mut branches = vec![
        // A non-numeric part of a sum within stages shows only as NaN; and NaN equals itself in MongoDB.
        doc! {"case": {"$eq": [&expected, f64::NAN]}, "then": true},
        doc! {"case": {"$not": [of_type(&expected, &["int", "long", "double", "decimal"])]}, "then": &plainly},
    ];
    if !converts(&derived.expression) {
        // Integers that are not computed from doubles are exact.
        branches.push(doc! {"case": of_type(&expected, &["int", "long"]), "then": &plainly});
    }
    if derived.tolerance.is_none() {
        // Doubles are compared as MongoDB computes them, if this is close to the decimals that they represent: the
        // sum of integers that overflows is a double as well, and so is the sum of integers and a double.
        let doubles = doc! {"$and": [of_type(&expected, &["double"]), of_type(&actual, &["double"])]};
        let far = differs(&decimal, &exact, Some(NOISE));
        branches.push(doc! {"case": doubles, "then": {"$or": [plainly, far]}});
    }
    let compared = doc! {"$switch": {"branches": branches, "default": exactly}};
    let evaluated = doc! {"$let": {"vars": {"txnscopeE": &derived.expression}, "in": compared}};
    doc! {"$cond": [is_empty(&invalid), evaluated, true]}.into()
}

/// Whether an expression converts possible doubles to integers.
fn converts(expression: &Bson) -> bool {
    match expression {
        Bson::Document(document) => document
            .iter()
            .any(|(key, value)| matches!(key.as_str(), "$toInt" | "$toLong" | "$convert") || converts(value)),
        Bson::Array(elements) => elements.iter().any(converts),
        _ => false,
    }
}

/// Whether two values differ, or differ by more than the tolerance. A value that is not a number is never within a
/// tolerance.
///
/// NaN is a special case: MongoDB treats it as equal to itself and less than any number, so a distance of NaN would
/// count as small.
fn differs(actual: &Bson, expected: &Bson, tolerance: Option<f64>) -> Document {
    let Some(tolerance) = tolerance else { return doc! {"$ne": [actual, expected]} };
    doc! {"$let": {
        "vars": {"actual": actual, "expected": expected},
        "in": {"$cond": [
            {"$and": [{"$isNumber": "$$actual"}, {"$isNumber": "$$expected"}]},
            {"$or": [
                // $abs is avoided: the smallest long has no absolute value, and the server would reject the whole
                // query because of one document.
                {"$gt": [{"$subtract": ["$$actual", "$$expected"]}, tolerance]},
                {"$lt": [{"$subtract": ["$$actual", "$$expected"]}, -tolerance]},
                {"$ne": [{"$eq": ["$$actual", f64::NAN]}, {"$eq": ["$$expected", f64::NAN]}]},
            ]},
            {"$ne": ["$$actual", "$$expected"]},
        ]},
    }}
}

// ===== Balance =====

/// Stages that sum one side by group and find its non-numeric parts. Sums are computed in decimal, so that none
/// overflows, and shown in MongoDB's own type.
fn side(side: &Side, name: &str) -> Vec<Document> {
    let by = side.by.clone().unwrap_or(Bson::Null);
    let mut invalid = vec![findings_of_part(&side.sum, Limits::Finite)];
    invalid.extend(side.by.as_ref().map(no_group));
    let is_good = is_empty(&"$txnscopeInvalid".into());
    let sum = |of: Bson| doc! {"$sum": {"$cond": [&is_good, of, 0]}};
    let part = doc! {"_id": "$_id", "part": {"$arrayElemAt": ["$txnscopeInvalid", 0]}};
    let mut stages: Vec<_> = side.filter.iter().map(|filter| doc! {"$match": filter}).collect();
    stages.push(doc! {"$set": {"txnscopeInvalid": {"$concatArrays": invalid}}});
    stages.push(doc! {"$group": {
        "_id": by,
        name: sum(side.sum.clone()),
        format!("{name}Exact"): sum(decimal_of(&exact(&side.sum))),
        format!("{name}Invalid"): {"$sum": {"$cond": [&is_good, 0, 1]}},
        "part": {"$max": {"$cond": [&is_good, "$$REMOVE", part]}},
    }});
    stages
}

/// The finding for a document whose group key is missing or null: its amount would belong to no group, or to the
/// group of all such documents.
fn no_group(by: &Bson) -> Bson {
    let parts: Vec<&Bson> = match by {
        Bson::Document(document) if operator(by).is_none() => document.values().collect(),
        other => vec![other],
    };
    let absent = parts.into_iter().map(|part| doc! {"$eq": [{"$ifNull": [part, Bson::Null]}, Bson::Null]});
    let found = doc! {"path": "by", "why": "has no group", "part": by};
    doc! {"$cond": [{"$or": absent.collect::<Vec<_>>()}, [found], []]}.into()
}

fn unbalanced(balance: &Balance) -> Vec<Document> {
    let Balance { left, right, tolerance } = balance;
    let mut stages = side(left, "left");
    stages.push(doc! {"$unionWith": {"coll": &right.collection, "pipeline": side(right, "right")}});
    // A group that one side lacks has no value there, which $sum treats as 0.
    let mut both = doc! {"_id": "$_id"};
    for name in ["left", "right"]
        .into_iter()
        .flat_map(|side| [side.to_owned(), format!("{side}Exact"), format!("{side}Invalid")])
    {
        both.insert(&name, doc! {"$sum": format!("${name}")});
    }
    both.insert("part", doc! {"$max": "$part"});
    stages.push(doc! {"$group": both});
    let differs = differs(&"$leftExact".into(), &"$rightExact".into(), *tolerance);
    let invalid = doc! {"$gt": [{"$add": ["$leftInvalid", "$rightInvalid"]}, 0]};
    stages.push(doc! {"$match": {"$expr": {"$or": [invalid, differs]}}});
    let invalid = doc! {"$add": ["$leftInvalid", "$rightInvalid"]};
    let some = doc! {"count": &invalid, "one": "$part"};
    stages.push(doc! {"$project": {
        "left": 1,
        "right": 1,
        "difference": {"$subtract": ["$left", "$right"]},
        NO_NUMBERS: {"$cond": [{"$gt": [invalid, 0]}, some, "$$REMOVE"]},
    }});
    stages
}

// ===== Sample =====

/// A projection of the paths. MongoDB rejects overlapping paths, so only the wider of two is kept.
fn projection(paths: &[String]) -> Document {
    let mut projection = doc! {"_id": 1};
    for path in paths {
        let inside = |other: &String| other != path && path.starts_with(&format!("{other}."));
        if path != "_id" && !path.starts_with("_id.") && !paths.iter().any(inside) {
            projection.insert(path.clone(), 1);
        }
    }
    projection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projection_keeps_the_wider_of_overlapping_paths() {
        let paths = ["a.b", "a", "c", "_id", "ab.c"].map(str::to_owned);
        assert_eq!(projection(&paths), doc! {"_id": 1, "a": 1, "c": 1, "ab.c": 1});
    }
}
