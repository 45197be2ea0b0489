//! Findings of sums and other operators that need numbers.

use mongodb::bson::{Bson, doc};

use crate::strict::path::Path;
use crate::strict::{
    Place, all, among, analyze, bound, cond, finding, is_number, named, not, operands, operator, switch,
    switched, then, why,
};

/// Operators that compute a number from numbers, besides `$add` and `$subtract`, which also accept dates.
pub(crate) const OPERATORS: [&str; 14] = [
    "$multiply",
    "$divide",
    "$mod",
    "$abs",
    "$ceil",
    "$floor",
    "$round",
    "$trunc",
    "$pow",
    "$sqrt",
    "$exp",
    "$ln",
    "$log",
    "$log10",
];

/// Whether an expression returns a number whenever there is no finding in it.
pub(crate) fn is_numeric(expression: &Bson) -> bool {
    match expression {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Decimal128(_) => true,
        Bson::Double(number) => number.is_finite(),
        // The accumulated value of a fold is a number if it started as one.
        Bson::String(text) => text == "$$value",
        _ => operator(expression).is_some_and(|(operator, argument)| match operator {
            "$sum" | "$size" => true,
            "$literal" => argument.as_document().is_none() && is_numeric(argument),
            _ => false,
        }),
    }
}

/// The findings of `$sum` and similar operators.
pub(crate) fn sum(argument: &Bson, place: Place) -> Vec<Bson> {
    let place = place.summed();
    match operands(argument).as_slice() {
        [one] => summands(one, place),
        several => several.iter().filter_map(|part| operand(part, place, false)).collect(),
    }
}

/// The findings of the only operand of a sum, which is a list of numbers.
fn summands(list: &Bson, place: Place) -> Vec<Bson> {
    if let Some(path) = Path::parse(list) {
        return vec![path.numbers(place.limits, None)];
    }
    let Some((name, argument)) = operator(list) else { return summed_values(list, place) };
    match name {
        "$ifNull" => match operands(argument).as_slice() {
            [first, default] => if_null(first, default, place),
            _ => summed_values(list, place),
        },
        "$concatArrays" => {
            operands(argument).into_iter().flat_map(|operand| summands(operand, place)).collect()
        }
        "$cond" => {
            let Some([condition, yes, no]) = cond(argument) else { return Vec::new() };
            let [yes, no] = [yes, no].map(|branch| all(default_or_summands(branch, place)));
            then(analyze(condition, place.plain()), Some(doc! {"$cond": [condition, yes, no]}.into()))
        }
        "$switch" => {
            let Some((branches, default)) = switch(argument) else { return Vec::new() };
            let cases = branches.iter().flat_map(|(case, _)| analyze(case, place.plain())).collect();
            let found = branches
                .iter()
                .map(|(case, then)| ((*case).clone(), all(default_or_summands(then, place))))
                .collect();
            let default = default.map(|default| all(default_or_summands(default, place)));
            then(cases, Some(switched(found, default)))
        }
        "$let" => {
            let Some((vars, inner)) = bound(argument) else { return Vec::new() };
            let first = vars.values().flat_map(|value| analyze(value, place.plain())).collect();
            let inner = all(summands(inner, place));
            then(first, Some(doc! {"$let": {"vars": vars, "in": inner}}.into()))
        }
        _ => summed_values(list, place),
    }
}

/// The findings of the fallback for a missing list: a number or an empty list in the check.
fn default_or_summands(branch: &Bson, place: Place) -> Vec<Bson> {
    if is_numeric(branch) { analyze(branch, place) } else { summands(branch, place) }
}

/// The findings of a list that may be missing, because the expression provides a fallback.
fn if_null(first: &Bson, default: &Bson, place: Place) -> Vec<Bson> {
    let default = all(default_or_summands(default, place));
    if let Some(path) = Path::parse(first) {
        return vec![path.numbers(place.limits, Some(default))];
    }
    let is_null = doc! {"$eq": [{"$ifNull": [first, Bson::Null]}, Bson::Null]};
    let values = all(summed_values(first, place));
    then(analyze(first, place), Some(doc! {"$cond": [is_null, default, values]}.into()))
}

/// The findings of any other operand, from the value that it returns.
fn summed_values(list: &Bson, place: Place) -> Vec<Bson> {
    let name = named(list);
    let value = Bson::from("$$txnscopeV");
    let no_list = doc! {"$cond": [
        // A single number counts as its own sum.
        is_number(&value, place.limits), [], [finding(&name, "is not a list", &value)],
    ]};
    let evaluated = doc! {"$cond": [
        {"$isArray": [&value]}, among(&value, "$$txnscopeE", &name, place.limits), no_list,
    ]};
    then(analyze(list, place), Some(doc! {"$let": {"vars": {"txnscopeV": list}, "in": evaluated}}.into()))
}

/// The findings of an operand that must be a number or, where dates are added, a date. None if it can be nothing
/// else.
pub(crate) fn operand(part: &Bson, place: Place, dates: bool) -> Option<Bson> {
    let first = analyze(part, place);
    let second = (!is_numeric(part)).then(|| {
        let value = Bson::from("$$txnscopeV");
        let mut good = is_number(&value, place.limits);
        if dates {
            good = doc! {"$or": [good, {"$eq": [{"$type": &value}, "date"]}]}.into();
        }
        let invalid = finding(&named(part), why(&value, place.limits, "is not a number"), &value);
        let evaluated = doc! {"$cond": [good, [], [invalid]]};
        doc! {"$let": {"vars": {"txnscopeV": part}, "in": evaluated}}.into()
    });
    let found = then(first, second);
    (!found.is_empty()).then(|| all(found))
}

/// The findings of an operator that needs numbers.
pub(crate) fn operation(argument: &Bson, place: Place, dates: bool) -> Vec<Bson> {
    operands(argument).into_iter().filter_map(|part| operand(part, place.summed(), dates)).collect()
}

/// The findings of a conversion: one value that cannot be converted would fail the query for all documents.
pub(crate) fn conversion(operator: &str, argument: &Bson, place: Place) -> Vec<Bson> {
    let operands = operands(argument);
    let [input] = operands.as_slice() else { return Vec::new() };
    let to = operator.trim_start_matches("$to").to_lowercase();
    let converted =
        doc! {"$convert": {"input": "$$txnscopeV", "to": to, "onError": Bson::Null, "onNull": Bson::Null}};
    let invalid = finding(&named(input), "cannot be converted", &"$$txnscopeV".into());
    let evaluated = doc! {"$cond": [{"$eq": [converted, Bson::Null]}, [invalid], []]};
    then(analyze(input, place), Some(doc! {"$let": {"vars": {"txnscopeV": *input}, "in": evaluated}}.into()))
}

/// The findings of a comparison: NaN is less than every number, so it would select a branch.
pub(crate) fn comparison(argument: &Bson, place: Place) -> Vec<Bson> {
    let mut found = Vec::new();
    for part in operands(argument) {
        let first = analyze(part, place.plain());
        let is_constant = operator(part).is_none() && Path::parse(part).is_none();
        let second = (!is_constant).then(|| {
            let invalid = finding(&named(part), "is not a number", &"$$txnscopeV".into());
            let evaluated = doc! {"$cond": [{"$eq": ["$$txnscopeV", f64::NAN]}, [invalid], []]};
            doc! {"$let": {"vars": {"txnscopeV": part}, "in": evaluated}}.into()
        });
        found.extend(then(first, second));
    }
    found
}

/// The findings of an operand that must be a list or missing: the server would fail the query for all documents.
pub(crate) fn list(input: &Bson) -> Bson {
    let value = Bson::from("$$txnscopeV");
    let is_list =
        doc! {"$or": [{"$isArray": [&value]}, {"$eq": [{"$ifNull": [&value, Bson::Null]}, Bson::Null]}]};
    let evaluated =
        doc! {"$cond": [not(is_list.into()), [finding(&named(input), "is not a list", &value)], []]};
    doc! {"$let": {"vars": {"txnscopeV": input}, "in": evaluated}}.into()
}
