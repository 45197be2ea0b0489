//! The same sums in decimal, so that neither binary fractions nor integer overflow change a digit.

use mongodb::bson::{Bson, Document, doc};

use crate::strict::arithmetic::{OPERATORS, is_numeric};
use crate::strict::{bound, cond, operands, operator, switch, switched};

/// A number as a decimal. A double is read as the decimal of at most 15 digits that it was written as, plus the rest
/// if there is no such decimal. Values that are not numbers are returned unchanged.
pub(crate) fn decimal_of(value: &Bson) -> Bson {
    let (v, d) = ("$$txnscopeN", "$$txnscopeD");
    let rest = doc! {"$toDecimal": {"$subtract": [v, {"$toDouble": d}]}};
    // Near the largest double, the conversion back would fail.
    let rest = doc! {"$cond": [{"$lt": [{"$abs": v}, 1e300]}, rest, 0]};
    let double = doc! {"$let": {"vars": {"txnscopeD": {"$toDecimal": v}}, "in": {"$add": [d, rest]}}};
    let whole = doc! {"$in": [{"$type": v}, ["int", "long", "decimal"]]};
    let is_finite = doc! {"$and": [{"$gt": [v, f64::NEG_INFINITY]}, {"$lt": [v, f64::INFINITY]}]};
    let is_double = doc! {"$and": [{"$eq": [{"$type": v}, "double"]}, is_finite]};
    doc! {"$let": {"vars": {"txnscopeN": value}, "in": {"$switch": {
        "branches": [
            {"case": whole, "then": {"$toDecimal": v}},
            {"case": is_double, "then": double},
        ],
        "default": v,
    }}}}
    .into()
}

/// The expression in decimal, as far as its operators are known; the results of others are converted by
/// [`decimal_of`].
///
/// The expression may only be evaluated on values without findings; it may fail for others.
pub(crate) fn exact(expression: &Bson) -> Bson {
    let Some((name, argument)) = operator(expression) else { return decimal_of(expression) };
    match name {
        "$sum" => match operands(argument).as_slice() {
            [one] => sum_of(one),
            several => doc! {"$sum": several.iter().map(|part| exact(part)).collect::<Vec<_>>()}.into(),
        },
        "$round" | "$trunc" => {
            let mut parts: Vec<_> = operands(argument).into_iter().cloned().collect();
            if let Some(first) = parts.first_mut() {
                *first = exact(first);
            }
            operation(name, parts)
        }
        "$add" | "$subtract" | "$max" | "$min" => {
            operation(name, operands(argument).into_iter().map(exact).collect())
        }
        _ if OPERATORS.contains(&name) => {
            operation(name, operands(argument).into_iter().map(exact).collect())
        }
        "$cond" => match cond(argument) {
            Some([condition, yes, no]) => doc! {"$cond": [condition, exact(yes), exact(no)]}.into(),
            None => decimal_of(expression),
        },
        "$switch" => match switch(argument) {
            Some((branches, default)) => {
                let branches = branches.into_iter().map(|(case, then)| (case.clone(), exact(then))).collect();
                switched(branches, default.map(exact))
            }
            None => decimal_of(expression),
        },
        // If MongoDB computes the sum in doubles, the decimal is truncated instead.
        "$toInt" | "$toLong" => match operands(argument).as_slice() {
            [part] if is_arithmetic(part) => doc! {"$trunc": [exact(part), 0]}.into(),
            _ => decimal_of(expression),
        },
        "$ifNull" => operation(name, operands(argument).into_iter().map(exact).collect()),
        "$let" => match bound(argument) {
            Some((vars, inner)) => doc! {"$let": {"vars": variables(vars), "in": exact(inner)}}.into(),
            None => decimal_of(expression),
        },
        "$reduce" => fold(argument).unwrap_or_else(|| decimal_of(expression)),
        _ => decimal_of(expression),
    }
}

fn is_arithmetic(expression: &Bson) -> bool {
    operator(expression).is_some_and(|(name, _)| {
        name == "$sum" || name == "$add" || name == "$subtract" || OPERATORS.contains(&name)
    })
}

fn operation(name: &str, parts: Vec<Bson>) -> Bson {
    Bson::Document(Document::from_iter([(name.to_owned(), Bson::Array(parts))]))
}

/// Variables that are certainly numbers are decimal as well; lists and conditions stay unchanged.
fn variables(vars: &Document) -> Document {
    let one = |value: &Bson| {
        if is_arithmetic(value) || is_numeric(value) { exact(value) } else { value.clone() }
    };
    vars.iter().map(|(name, value)| (name.clone(), one(value))).collect()
}

fn fold(argument: &Bson) -> Option<Bson> {
    let argument = argument.as_document()?;
    let (input, initial, inner) =
        (argument.get("input")?, argument.get("initialValue")?, argument.get("in")?);
    Some(doc! {"$reduce": {"input": input, "initialValue": exact(initial), "in": exact(inner)}}.into())
}

/// The sum of a list, or of a single number in place of a list.
fn sum_of(list: &Bson) -> Bson {
    let each =
        doc! {"$map": {"input": "$$txnscopeL", "as": "txnscopeP", "in": decimal_of(&"$$txnscopeP".into())}};
    let sum = doc! {"$cond": [
        {"$isArray": ["$$txnscopeL"]}, {"$sum": [each]}, {"$sum": [decimal_of(&"$$txnscopeL".into())]},
    ]};
    doc! {"$let": {"vars": {"txnscopeL": decimals(list)}, "in": sum}}.into()
}

/// A list whose element arithmetic is in decimal.
fn decimals(list: &Bson) -> Bson {
    let Some((name, argument)) = operator(list) else { return list.clone() };
    match name {
        "$map" => match argument.as_document() {
            Some(map) => {
                let mut map = map.clone();
                if let Some(inner) = map.get("in").map(exact) {
                    map.insert("in", inner);
                }
                doc! {"$map": map}.into()
            }
            None => list.clone(),
        },
        "$concatArrays" | "$ifNull" => {
            operation(name, operands(argument).into_iter().map(decimals).collect())
        }
        "$cond" => match cond(argument) {
            Some([condition, yes, no]) => doc! {"$cond": [condition, decimals(yes), decimals(no)]}.into(),
            None => list.clone(),
        },
        "$let" => match bound(argument) {
            Some((vars, inner)) => doc! {"$let": {"vars": vars, "in": decimals(inner)}}.into(),
            None => list.clone(),
        },
        _ => list.clone(),
    }
}
