//! Sums, and what else must be given numbers.

use mongodb::bson::{Bson, doc};

use crate::strict::path::Path;
use crate::strict::{
    Place, all, among, bound, cond, finding, is_number, named, not, of, operands, operator, switch, switched,
    then, why,
};

/// Operators that make a number of numbers, besides `$add` and `$subtract`, which also take dates.
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

/// Whether an expression returns a number whenever nothing is found in it.
pub(crate) fn is_numeric(expression: &Bson) -> bool {
    match expression {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Decimal128(_) => true,
        Bson::Double(number) => number.is_finite(),
        // What a fold has so far: a number, if it began with one.
        Bson::String(text) => text == "$$value",
        _ => operator(expression).is_some_and(|(operator, argument)| match operator {
            "$sum" | "$size" => true,
            "$literal" => argument.as_document().is_none() && is_numeric(argument),
            _ => false,
        }),
    }
}

/// Of `$sum` and its like.
pub(crate) fn sum(argument: &Bson, place: Place) -> Vec<Bson> {
    let place = place.summed();
    match operands(argument).as_slice() {
        [one] => summands(one, place),
        several => several.iter().filter_map(|part| operand(part, place, false)).collect(),
    }
}

/// Of the one operand of a sum: a list of numbers.
fn summands(list: &Bson, place: Place) -> Vec<Bson> {
    if let Some(path) = Path::of(list) {
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
            then(of(condition, place.plain()), Some(doc! {"$cond": [condition, yes, no]}.into()))
        }
        "$switch" => {
            let Some((branches, default)) = switch(argument) else { return Vec::new() };
            let cases = branches.iter().flat_map(|(case, _)| of(case, place.plain())).collect();
            let found = branches
                .iter()
                .map(|(case, then)| ((*case).clone(), all(default_or_summands(then, place))))
                .collect();
            let default = default.map(|default| all(default_or_summands(default, place)));
            then(cases, Some(switched(found, default)))
        }
        "$let" => {
            let Some((vars, inner)) = bound(argument) else { return Vec::new() };
            let first = vars.values().flat_map(|value| of(value, place.plain())).collect();
            let inner = all(summands(inner, place));
            then(first, Some(doc! {"$let": {"vars": vars, "in": inner}}.into()))
        }
        _ => summed_values(list, place),
    }
}

/// What a branch stands for where there is no list: a number or an empty list that the author has written.
fn default_or_summands(branch: &Bson, place: Place) -> Vec<Bson> {
    if is_numeric(branch) { of(branch, place) } else { summands(branch, place) }
}

/// A list that may be absent, since the expression says what stands for it then.
fn if_null(first: &Bson, default: &Bson, place: Place) -> Vec<Bson> {
    let default = all(default_or_summands(default, place));
    if let Some(path) = Path::of(first) {
        return vec![path.numbers(place.limits, Some(default))];
    }
    let is_null = doc! {"$eq": [{"$ifNull": [first, Bson::Null]}, Bson::Null]};
    let values = all(summed_values(first, place));
    then(of(first, place), Some(doc! {"$cond": [is_null, default, values]}.into()))
}

/// Of any other operand: what it returns is looked at.
fn summed_values(list: &Bson, place: Place) -> Vec<Bson> {
    let name = named(list);
    let value = Bson::from("$$txnscopeV");
    let no_list = doc! {"$cond": [
        // One number is a sum of itself.
        is_number(&value, place.limits), [], [finding(&name, "is no list", &value)],
    ]};
    let looked = doc! {"$cond": [
        {"$isArray": [&value]}, among(&value, "$$txnscopeE", &name, place.limits), no_list,
    ]};
    then(of(list, place), Some(doc! {"$let": {"vars": {"txnscopeV": list}, "in": looked}}.into()))
}

/// Of an operand that must be a number, or where dates are added, a date. Nothing, if it can be nothing else.
pub(crate) fn operand(part: &Bson, place: Place, dates: bool) -> Option<Bson> {
    let first = of(part, place);
    let second = (!is_numeric(part)).then(|| {
        let value = Bson::from("$$txnscopeV");
        let mut good = is_number(&value, place.limits);
        if dates {
            good = doc! {"$or": [good, {"$eq": [{"$type": &value}, "date"]}]}.into();
        }
        let odd = finding(&named(part), why(&value, place.limits, "is no number"), &value);
        let looked = doc! {"$cond": [good, [], [odd]]};
        doc! {"$let": {"vars": {"txnscopeV": part}, "in": looked}}.into()
    });
    let found = then(first, second);
    (!found.is_empty()).then(|| all(found))
}

/// Of an operator that is given numbers.
pub(crate) fn operation(argument: &Bson, place: Place, dates: bool) -> Vec<Bson> {
    operands(argument).into_iter().filter_map(|part| operand(part, place.summed(), dates)).collect()
}

/// Of a conversion, which the server refuses with an error for all documents if it cannot be made for one.
pub(crate) fn conversion(operator: &str, argument: &Bson, place: Place) -> Vec<Bson> {
    let operands = operands(argument);
    let [input] = operands.as_slice() else { return Vec::new() };
    let to = operator.trim_start_matches("$to").to_lowercase();
    let converted =
        doc! {"$convert": {"input": "$$txnscopeV", "to": to, "onError": Bson::Null, "onNull": Bson::Null}};
    let odd = finding(&named(input), "cannot be converted", &"$$txnscopeV".into());
    let looked = doc! {"$cond": [{"$eq": [converted, Bson::Null]}, [odd], []]};
    then(of(input, place), Some(doc! {"$let": {"vars": {"txnscopeV": *input}, "in": looked}}.into()))
}

/// Of a comparison: NaN is less than every number, so that a branch would be taken for what is no number.
pub(crate) fn comparison(argument: &Bson, place: Place) -> Vec<Bson> {
    let mut found = Vec::new();
    for part in operands(argument) {
        let first = of(part, place.plain());
        let is_constant = operator(part).is_none() && Path::of(part).is_none();
        let second = (!is_constant).then(|| {
            let odd = finding(&named(part), "is no number", &"$$txnscopeV".into());
            let looked = doc! {"$cond": [{"$eq": ["$$txnscopeV", f64::NAN]}, [odd], []]};
            doc! {"$let": {"vars": {"txnscopeV": part}, "in": looked}}.into()
        });
        found.extend(then(first, second));
    }
    found
}

/// What is to be a list, or nothing at all, and is something else: the server would refuse it with an error for all
/// documents.
pub(crate) fn list(input: &Bson) -> Bson {
    let value = Bson::from("$$txnscopeV");
    let is_list =
        doc! {"$or": [{"$isArray": [&value]}, {"$eq": [{"$ifNull": [&value, Bson::Null]}, Bson::Null]}]};
    let looked = doc! {"$cond": [not(is_list.into()), [finding(&named(input), "is no list", &value)], []]};
    doc! {"$let": {"vars": {"txnscopeV": input}, "in": looked}}.into()
}
