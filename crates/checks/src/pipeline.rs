//! From a check to the aggregation that finds its violations. All arithmetic is the server's: int, long, double and
//! decimal are compared by their value, as MongoDB compares them. What it would leave out of a sum without a word is
//! looked for by [`strict`], and is a violation.

use mongodb::bson::{Bson, Document, doc};

use crate::check::{Balance, Check, Derived, Rule, Side};
use crate::file::fields;
use crate::strict::stages::{JOINED, ODD, strict, watched};
use crate::strict::{Limits, decimal_of, exact, findings, findings_of_part, is_empty, operator};

/// Of a document that is shown: what of its sum is no number.
const NO_NUMBERS: &str = "notNumbers";
/// What a sum of doubles may be off from that of the decimals that they stand for.
const NOISE: f64 = 1e-6;

/// Stages that return one document for each violation, whole.
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

/// Stages that leave of a violation what is worth showing: ids and the fields that matter, or everything.
pub(crate) fn shown(check: &Check, full: bool) -> Vec<Document> {
    match &check.rule {
        Rule::Derived(derived) => {
            let mut shown = if full {
                doc! {"document": "$$ROOT"}
            } else {
                // Three names are ours: a field that has one of them is not shown.
                let ours = ["actual", "expected", NO_NUMBERS];
                let is_ours =
                    |path: &&String| path.split('.').next().is_some_and(|name| ours.contains(&name));
                let paths: Vec<_> = check.show.iter().filter(|path| !is_ours(path)).cloned().collect();
                projection(&paths)
            };
            let odd = findings(&derived.expression, Limits::Finite);
            shown.insert("actual", actual(derived));
            shown.insert("expected", expected(derived, Limits::Finite));
            shown.insert(NO_NUMBERS, doc! {"$cond": [is_empty(&odd), "$$REMOVE", odd]});
            vec![doc! {"$project": shown}]
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

/// The documents that have the field.
pub(crate) fn selected(derived: &Derived) -> Vec<Document> {
    derived.filter.iter().map(|filter| doc! {"$match": filter}).collect()
}

/// What is joined to the documents that have the field.
pub(crate) fn inputs(derived: &Derived) -> Vec<Document> {
    watched(&derived.stages, Limits::of_repair(derived.tolerance))
}

/// The documents, with their inputs, of which the field is not what it should be.
pub(crate) fn violating(derived: &Derived) -> Document {
    doc! {"$match": {"$expr": violates(derived)}}
}

/// One document for each that comes in: what the field is, what it should be, what of that is no number, and what it
/// was computed from.
///
/// The history is a list of paths and values, because a path may have dots and a field's name here may not.
pub(crate) fn evidence(derived: &Derived) -> Document {
    let traces =
        derived.inputs.iter().map(|path| doc! {"path": {"$literal": path}, "value": format!("${path}")});
    let limits = Limits::of_repair(derived.tolerance);
    let odd = findings(&derived.expression, limits);
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
        "exact": {"$cond": [is_empty(&odd), exactly, "$$REMOVE"]},
        "odd": odd,
        "holders": holders.collect::<Vec<_>>(),
        "joined": format!("${JOINED}"),
        ODD: format!("${ODD}"),
        "violates": violates(derived),
        "inputs": traces.collect::<Vec<_>>(),
    }}
}

/// A stage that returns what the field is, and no more.
pub(crate) fn field(path: &str) -> Document {
    doc! {"$project": {"actual": format!("${path}")}}
}

fn actual(derived: &Derived) -> Bson {
    Bson::String(format!("${}", derived.field))
}

/// What the field should be; nothing where it cannot be said.
fn expected(derived: &Derived, limits: Limits) -> Bson {
    let odd = findings(&derived.expression, limits);
    doc! {"$cond": [is_empty(&odd), &derived.expression, "$$REMOVE"]}.into()
}

/// Whether the field is not what it should be, or that cannot be said.
fn violates(derived: &Derived) -> Bson {
    let odd = findings(&derived.expression, Limits::Finite);
    let (actual, expected) = (actual(derived), Bson::from("$$txnscopeE"));
    let plainly = differs(&actual, &expected, derived.tolerance);
    let (decimal, exact) = (decimal_of(&actual), exact(&derived.expression));
    let exactly = differs(&decimal, &exact, derived.tolerance);
    let of_type = |value: &Bson, names: &[&str]| doc! {"$in": [{"$type": value}, names]};
    let mut branches = vec![
        // Of what stages sum, the part that is no number shows in this alone; and NaN is an equal of itself.
        doc! {"case": {"$eq": [&expected, f64::NAN]}, "then": true},
        doc! {"case": {"$not": [of_type(&expected, &["int", "long", "double", "decimal"])]}, "then": &plainly},
    ];
    if !converts(&derived.expression) {
        // Whole numbers that are not made of doubles have all of their digits.
        branches.push(doc! {"case": of_type(&expected, &["int", "long"]), "then": &plainly});
    }
    if derived.tolerance.is_none() {
        // Doubles are what MongoDB makes of them, as long as that has to do with what they stand for: the sum of
        // integers that overflows is a double as well, and so is one of integers and a double.
        let doubles = doc! {"$and": [of_type(&expected, &["double"]), of_type(&actual, &["double"])]};
        let far = differs(&decimal, &exact, Some(NOISE));
        branches.push(doc! {"case": doubles, "then": {"$or": [plainly, far]}});
    }
    let compared = doc! {"$switch": {"branches": branches, "default": exactly}};
    let looked = doc! {"$let": {"vars": {"txnscopeE": &derived.expression}, "in": compared}};
    doc! {"$cond": [is_empty(&odd), looked, true]}.into()
}

/// Whether an expression makes integers of what may be doubles.
fn converts(expression: &Bson) -> bool {
    match expression {
        Bson::Document(document) => document
            .iter()
            .any(|(key, value)| matches!(key.as_str(), "$toInt" | "$toLong" | "$convert") || converts(value)),
        Bson::Array(elements) => elements.iter().any(converts),
        _ => false,
    }
}

/// Whether two values are not the same, or too far apart. What is no number is never within a tolerance.
///
/// NaN needs a word of its own: MongoDB holds it to be equal to itself and less than any number, so a distance of
/// NaN would count as small.
fn differs(actual: &Bson, expected: &Bson, tolerance: Option<f64>) -> Document {
    let Some(tolerance) = tolerance else { return doc! {"$ne": [actual, expected]} };
    doc! {"$let": {
        "vars": {"actual": actual, "expected": expected},
        "in": {"$cond": [
            {"$and": [{"$isNumber": "$$actual"}, {"$isNumber": "$$expected"}]},
            {"$or": [
                // No $abs: the least long has none, and the server would refuse all documents for one.
                {"$gt": [{"$subtract": ["$$actual", "$$expected"]}, tolerance]},
                {"$lt": [{"$subtract": ["$$actual", "$$expected"]}, -tolerance]},
                {"$ne": [{"$eq": ["$$actual", f64::NAN]}, {"$eq": ["$$expected", f64::NAN]}]},
            ]},
            {"$ne": ["$$actual", "$$expected"]},
        ]},
    }}
}

// ===== Balance =====

/// What a side sums, group by group, and what of it is no number. The sums are in decimal, so that none overflows, and
/// shown in MongoDB's own type.
fn side(side: &Side, name: &str) -> Vec<Document> {
    let by = side.by.clone().unwrap_or(Bson::Null);
    let mut odd = vec![findings_of_part(&side.sum, Limits::Finite)];
    odd.extend(side.by.as_ref().map(no_group));
    let is_good = is_empty(&"$txnscopeOdd".into());
    let sum = |of: Bson| doc! {"$sum": {"$cond": [&is_good, of, 0]}};
    let part = doc! {"_id": "$_id", "part": {"$arrayElemAt": ["$txnscopeOdd", 0]}};
    let mut stages: Vec<_> = side.filter.iter().map(|filter| doc! {"$match": filter}).collect();
    stages.push(doc! {"$set": {"txnscopeOdd": {"$concatArrays": odd}}});
    stages.push(doc! {"$group": {
        "_id": by,
        name: sum(side.sum.clone()),
        format!("{name}Exact"): sum(decimal_of(&exact(&side.sum))),
        format!("{name}Odd"): {"$sum": {"$cond": [&is_good, 0, 1]}},
        "part": {"$max": {"$cond": [&is_good, "$$REMOVE", part]}},
    }});
    stages
}

/// What a document is grouped by and does not have: its amount would be in no group, or in that of all who lack it.
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
    // A group that one side lacks has nothing there, and nothing is 0 to $sum.
    let mut both = doc! {"_id": "$_id"};
    for name in ["left", "right"]
        .into_iter()
        .flat_map(|side| [side.to_owned(), format!("{side}Exact"), format!("{side}Odd")])
    {
        both.insert(&name, doc! {"$sum": format!("${name}")});
    }
    both.insert("part", doc! {"$max": "$part"});
    stages.push(doc! {"$group": both});
    let differs = differs(&"$leftExact".into(), &"$rightExact".into(), *tolerance);
    let odd = doc! {"$gt": [{"$add": ["$leftOdd", "$rightOdd"]}, 0]};
    stages.push(doc! {"$match": {"$expr": {"$or": [odd, differs]}}});
    let odd = doc! {"$add": ["$leftOdd", "$rightOdd"]};
    let some = doc! {"count": &odd, "one": "$part"};
    stages.push(doc! {"$project": {
        "left": 1,
        "right": 1,
        "difference": {"$subtract": ["$left", "$right"]},
        NO_NUMBERS: {"$cond": [{"$gt": [odd, 0]}, some, "$$REMOVE"]},
    }});
    stages
}

// ===== What is shown =====

/// A projection of these paths. Of two that overlap, MongoDB takes the wider one only.
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
