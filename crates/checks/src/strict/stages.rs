//! Makes the sums of the stages before an expression strict, and determines whether the stages keep each document.

use mongodb::bson::{Bson, Document, doc};

use crate::strict::{Limits, decimal_of, exact, findings, findings_of_part, is_empty, operator};

/// The field in which a group reports a non-numeric part of its sums.
pub(crate) const NON_NUMERIC: &str = "notANumber";
/// The field in which a document records which of its lookups found something.
pub(crate) const JOINED: &str = "txnscopeJoined";

/// The same stages with strict sums: a sum with a non-numeric part is NaN, and a sum of doubles is that of the
/// decimals that they were written as.
pub(crate) fn strict(stages: &[Document], limits: Limits) -> Vec<Document> {
    stages.iter().flat_map(|stage| of_stage(stage, limits)).collect()
}

/// [`strict`] stages that also record in [`JOINED`] which lookups found something.
pub(crate) fn watched(stages: &[Document], limits: Limits) -> Vec<Document> {
    let mut watched = Vec::new();
    for stage in stages {
        watched.extend(of_stage(stage, limits));
        if let Some(joined) = joins(stage) {
            let joined = format!("${joined}");
            let size = doc! {"$size": {"$cond": [{"$isArray": [&joined]}, &joined, []]}};
            let before = doc! {"$ifNull": [format!("${JOINED}"), []]};
            watched.push(doc! {"$set": {JOINED: {"$concatArrays": [before, [{"$gt": [size, 0]}]]}}});
        }
    }
    watched
}

/// The field that a stage fills from another collection.
pub(crate) fn joins(stage: &Document) -> Option<&str> {
    let of = stage.get_document("$lookup").or_else(|_| stage.get_document("$graphLookup"));
    of.ok()?.get_str("as").ok()
}

/// The top-level names of the fields that stages compute.
pub(crate) fn made(stages: &[Document]) -> Vec<String> {
    let first = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
    let mut names = Vec::new();
    for stage in stages {
        names.extend(joins(stage).map(first));
        for key in ["$set", "$addFields", "$group"] {
            names
                .extend(stage.get_document(key).into_iter().flat_map(Document::keys).map(|path| first(path)));
        }
        let projected = stage.get_document("$project").into_iter().flatten();
        names.extend(projected.filter(|(_, value)| !is_flag(value)).map(|(path, _)| first(path)));
    }
    names
}

/// Whether a value of `$project` only includes or excludes a field.
fn is_flag(value: &Bson) -> bool {
    matches!(value, Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Boolean(_))
}

/// Whether stages are certain to return exactly one document for each input document, with its `_id`.
pub(crate) fn keep_each(stages: &[Document]) -> bool {
    let keeps_id = |fields: &Document| !fields.keys().any(|path| path == "_id" || path.starts_with("_id."));
    stages.iter().all(|stage| {
        stage.iter().all(|(name, argument)| match (name.as_str(), argument) {
            ("$lookup" | "$graphLookup", Bson::Document(of)) => {
                of.get_str("as").is_ok_and(|name| name != "_id")
            }
            ("$set" | "$addFields", Bson::Document(fields)) => keeps_id(fields),
            ("$project", Bson::Document(fields)) => {
                keeps_id(fields)
                    || fields.get("_id").is_some_and(|id| *id == Bson::Int32(1) || *id == Bson::Boolean(true))
            }
            ("$unset", Bson::String(path)) => path != "_id",
            ("$unset", Bson::Array(paths)) => !paths.iter().any(|path| path.as_str() == Some("_id")),
            ("$sort" | "$comment", _) => true,
            _ => false,
        })
    })
}

fn of_stage(stage: &Document, limits: Limits) -> Vec<Document> {
    let Some((name, argument)) = stage.iter().next() else { return vec![stage.clone()] };
    match (name.as_str(), argument) {
        ("$group", Bson::Document(group)) => of_group(group, limits),
        ("$set" | "$addFields" | "$project" | "$replaceRoot" | "$replaceWith", argument) => {
            vec![Document::from_iter([(name.clone(), value(argument, limits))])]
        }
        ("$lookup" | "$unionWith", Bson::Document(of)) => {
            let mut of = of.clone();
            if let Some(inner) = of.get("pipeline").map(|stages| pipeline(stages, limits)) {
                of.insert("pipeline", inner);
            }
            vec![Document::from_iter([(name.clone(), of.into())])]
        }
        ("$facet", Bson::Document(facets)) => {
            let facets = facets.iter().map(|(name, stages)| (name.clone(), pipeline(stages, limits)));
            vec![doc! {"$facet": Document::from_iter(facets)}]
        }
        ("$bucket" | "$bucketAuto" | "$setWindowFields", Bson::Document(of)) => {
            let mut of = of.clone();
            if let Some(Bson::Document(output)) = of.get("output").cloned() {
                let output =
                    output.into_iter().map(|(name, accumulator)| (name, poisoned(&accumulator, limits)));
                of.insert("output", Document::from_iter(output));
            }
            vec![Document::from_iter([(name.clone(), of.into())])]
        }
        _ => vec![stage.clone()],
    }
}

fn pipeline(stages: &Bson, limits: Limits) -> Bson {
    let Bson::Array(list) = stages else { return stages.clone() };
    let stages: Option<Vec<_>> = list.iter().map(|stage| stage.as_document().cloned()).collect();
    stages.map_or_else(|| Bson::from(list.clone()), |stages| strict(&stages, limits).into())
}

/// An expression in which each sum with a non-numeric part is NaN.
fn value(expression: &Bson, limits: Limits) -> Bson {
    if let Some(("$sum", argument)) = operator(expression) {
        let sum = Bson::from(doc! {"$sum": argument});
        let invalid = findings(&sum, limits);
        let good = as_double(&sum, &exact(&sum));
        return doc! {"$cond": [is_empty(&invalid), good, f64::NAN]}.into();
    }
    match expression {
        Bson::Document(document) if document.contains_key("$literal") => expression.clone(),
        Bson::Document(document) => {
            let fields = document.iter().map(|(key, inner)| (key.clone(), value(inner, limits)));
            Document::from_iter(fields).into()
        }
        Bson::Array(elements) => Bson::Array(elements.iter().map(|element| value(element, limits)).collect()),
        other => other.clone(),
    }
}

/// A sum in the type in which MongoDB returns it. A double is the nearest double of the exact sum, or the exact sum
/// if no double represents it: the sum of integers that overflows is a double as well. A decimal is the exact sum,
/// because doubles may be among its parts.
fn as_double(sum: &Bson, exact: &Bson) -> Bson {
    let vars = doc! {"txnscopeS": sum, "txnscopeX": exact};
    let to_double = doc! {"$toDouble": "$$txnscopeX"};
    let reads_back = doc! {"$eq": [decimal_of(&to_double.clone().into()), "$$txnscopeX"]};
    let double = doc! {"$cond": [reads_back, to_double, "$$txnscopeX"]};
    let of_type = |name: &str| doc! {"$eq": [{"$type": "$$txnscopeS"}, name]};
    let other = doc! {"$cond": [of_type("decimal"), "$$txnscopeX", "$$txnscopeS"]};
    doc! {"$let": {"vars": vars, "in": {"$cond": [of_type("double"), double, other]}}}.into()
}

/// An accumulator that receives NaN for values that are not numbers.
fn poisoned(accumulator: &Bson, limits: Limits) -> Bson {
    let Bson::Document(of) = accumulator else { return accumulator.clone() };
    let poisoned = of.iter().map(|(name, part)| match name.as_str() {
        "$sum" | "$avg" if !is_number(part) => {
            let invalid = findings_of_part(part, limits);
            (name.clone(), doc! {"$cond": [is_empty(&invalid), part, f64::NAN]}.into())
        }
        _ => (name.clone(), part.clone()),
    });
    Document::from_iter(poisoned).into()
}

fn is_number(part: &Bson) -> bool {
    matches!(part, Bson::Int32(_) | Bson::Int64(_) | Bson::Decimal128(_))
}

/// A group that computes, in addition to each sum, the decimal sum and one of the non-numeric parts, from which the
/// next stage computes the final sum.
fn of_group(group: &Document, limits: Limits) -> Vec<Document> {
    let (mut before, mut grouped, mut after, mut helpers) =
        (Document::new(), Document::new(), Document::new(), Vec::new());
    let mut invalid_parts = Vec::new();
    for (name, accumulator) in group {
        let sum = accumulator.as_document().filter(|of| of.len() == 1).and_then(|of| of.get("$sum"));
        let Some(part) = sum.filter(|part| name != "_id" && !is_number(part)) else {
            let inner =
                if name == "_id" { value(accumulator, limits) } else { poisoned(accumulator, limits) };
            grouped.insert(name.clone(), inner);
            continue;
        };
        let number = invalid_parts.len();
        let [invalid, exactly, part_of] =
            ["Invalid", "Exact", "Part"].map(|what| format!("txnscope{what}{number}"));
        before.insert(&invalid, findings_of_part(part, limits));
        let is_good = is_empty(&format!("${invalid}").into());
        grouped.insert(name.clone(), doc! {"$sum": {"$cond": [&is_good, part, 0]}});
        grouped.insert(&exactly, doc! {"$sum": {"$cond": [&is_good, decimal_of(&exact(part)), 0]}});
        let shown = doc! {"in": {"$literal": name}, "_id": "$_id", "part": {"$arrayElemAt": [format!("${invalid}"), 0]}};
        grouped.insert(&part_of, doc! {"$max": {"$cond": [&is_good, "$$REMOVE", shown]}});
        let (sum, exactly_path, part_path) =
            (Bson::from(format!("${name}")), Bson::from(format!("${exactly}")), format!("${part_of}"));
        let has_invalid = doc! {"$eq": [{"$type": &part_path}, "object"]};
        after.insert(name.clone(), doc! {"$cond": [has_invalid, f64::NAN, as_double(&sum, &exactly_path)]});
        helpers.extend([exactly, part_of]);
        invalid_parts.push(part_path);
    }
    if invalid_parts.is_empty() {
        return vec![doc! {"$group": grouped}];
    }
    let first = invalid_parts
        .into_iter()
        .rev()
        .fold(Bson::from("$$REMOVE"), |rest, part| doc! {"$ifNull": [part, rest]}.into());
    after.insert(NON_NUMERIC, first);
    vec![doc! {"$set": before}, doc! {"$group": grouped}, doc! {"$set": after}, doc! {"$unset": helpers}]
}
