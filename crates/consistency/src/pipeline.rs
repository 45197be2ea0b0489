//! From a check to the aggregation that finds its violations. All arithmetic is the server's: int, long, double and
//! decimal are compared by their value, as MongoDB compares them.

use mongodb::bson::{Bson, Document, doc};

use crate::check::{Balance, Check, Derived, Rule};
use crate::file::fields;

/// Stages that return one document for each violation, whole.
pub(crate) fn violations(check: &Check) -> Vec<Document> {
    match &check.rule {
        Rule::Forbid(filter) => vec![doc! {"$match": filter}],
        Rule::Pipeline(stages) => stages.clone(),
        Rule::Derived(derived) => {
            let mut stages = inputs(derived);
            let differs = differs(&actual(derived), &derived.expression, derived.tolerance);
            stages.push(doc! {"$match": {"$expr": differs}});
            stages
        }
        Rule::Balance(balance) => unbalanced(balance),
    }
}

/// Stages that leave of a violation what is worth showing: ids and the fields that matter, or everything.
pub(crate) fn shown(check: &Check, full: bool) -> Vec<Document> {
    match &check.rule {
        Rule::Derived(derived) if full => {
            vec![
                doc! {"$project": {"actual": actual(derived), "expected": &derived.expression, "document": "$$ROOT"}},
            ]
        }
        Rule::Balance(_) => Vec::new(),
        _ if full => Vec::new(),
        Rule::Derived(derived) => {
            // Two names are ours: a field that has one of them is not shown.
            let is_ours = |path: &&String| matches!(path.split('.').next(), Some("actual" | "expected"));
            let paths: Vec<_> = check.show.iter().filter(|path| !is_ours(path)).cloned().collect();
            let mut shown = projection(&paths);
            shown.insert("actual", actual(derived));
            shown.insert("expected", derived.expression.clone());
            vec![doc! {"$project": shown}]
        }
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

/// What stands before the expression: the documents that have the field, and what is joined to them.
pub(crate) fn inputs(derived: &Derived) -> Vec<Document> {
    let filter = derived.filter.iter().map(|filter| doc! {"$match": filter});
    filter.chain(derived.stages.iter().cloned()).collect()
}

fn actual(derived: &Derived) -> Bson {
    Bson::String(format!("${}", derived.field))
}

/// One document for each that comes in: what the field is, what it should be, and what that was computed from.
///
/// The history is a list of paths and values, because a path may have dots and a field's name here may not.
pub(crate) fn evidence(derived: &Derived) -> Document {
    let history: Vec<_> = derived
        .history
        .iter()
        .map(|path| doc! {"path": {"$literal": path}, "value": format!("${path}")})
        .collect();
    doc! {"$project": {"actual": actual(derived), "expected": &derived.expression, "history": history}}
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
                {"$gt": [{"$abs": {"$subtract": ["$$actual", "$$expected"]}}, tolerance]},
                {"$ne": [{"$eq": ["$$actual", f64::NAN]}, {"$eq": ["$$expected", f64::NAN]}]},
            ]},
            {"$ne": ["$$actual", "$$expected"]},
        ]},
    }}
}

// ===== Balance =====

fn unbalanced(balance: &Balance) -> Vec<Document> {
    let Balance { left, right, tolerance } = balance;
    let group = |side: &crate::check::Side, name: &str| {
        let by = side.by.clone().unwrap_or(Bson::Null);
        let filter = side.filter.iter().map(|filter| doc! {"$match": filter});
        filter.chain([doc! {"$group": {"_id": by, name: {"$sum": &side.sum}}}]).collect::<Vec<_>>()
    };
    let mut stages = group(left, "left");
    stages.push(doc! {"$unionWith": {"coll": &right.collection, "pipeline": group(right, "right")}});
    // A group that one side lacks has nothing there, and nothing is 0 to $sum.
    stages.push(doc! {"$group": {"_id": "$_id", "left": {"$sum": "$left"}, "right": {"$sum": "$right"}}});
    stages.push(doc! {"$match": {"$expr": differs(&"$left".into(), &"$right".into(), *tolerance)}});
    stages.push(doc! {"$set": {"difference": {"$subtract": ["$left", "$right"]}}});
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
    fn of_overlapping_paths_the_wider_is_projected() {
        let paths = ["a.b", "a", "c", "_id", "ab.c"].map(str::to_owned);
        assert_eq!(projection(&paths), doc! {"_id": 1, "a": 1, "c": 1, "ab.c": 1});
    }
}
