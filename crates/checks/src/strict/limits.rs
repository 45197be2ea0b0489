//! What counts as a number that can be summed.

use mongodb::bson::{Bson, doc};

/// A sum of a million amounts less than this keeps their cents, in the 34 digits of a decimal.
const LARGEST: f64 = 1e25;

/// The decimal places of an amount that a repair sums.
const PLACES: i32 = 12;

/// What counts as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// A finite number that does not drown the cents of others: what an audit asks for.
    Finite,
    /// One that a sum of very many can keep to the last digit, in the 34 digits of a decimal; a double that is not the
    /// decimal that it was written as will do. What a repair asks for where there is a tolerance.
    Near,
    /// The same, and a double must be a whole number or a decimal of 15 digits: what a repair asks for.
    Exact,
}

impl Limits {
    /// What a repair within that tolerance asks for.
    pub(crate) fn of_repair(tolerance: Option<f64>) -> Self {
        if tolerance.is_some() { Self::Near } else { Self::Exact }
    }
}

/// Whether a value is a finite number. Every other type stands before or after all numbers, in MongoDB's order.
pub(crate) fn is_number(value: &Bson, limits: Limits) -> Bson {
    match limits {
        Limits::Finite => doc! {"$and": [{"$gt": [value, -LARGEST]}, {"$lt": [value, LARGEST]}]}.into(),
        Limits::Near | Limits::Exact => {
            // 19 digits before the point and 12 behind leave three for a thousand of the largest.
            let mut conditions = vec![doc! {"$gt": [value, -1e19]}, doc! {"$lt": [value, 1e19]}];
            let places = |of: Bson| doc! {"$eq": [{"$round": [&of, PLACES]}, of]};
            conditions.push(doc! {"$or": [{"$ne": [{"$type": value}, "decimal"]}, places(value.clone())]});
            if limits == Limits::Exact {
                let decimal = doc! {"$toDecimal": value};
                conditions.push(doc! {"$or": [
                    {"$ne": [{"$type": value}, "double"]},
                    {"$eq": [{"$trunc": [value, 0]}, value]},
                    {"$and": [{"$eq": [{"$toDouble": &decimal}, value]}, places(decimal.into())]},
                ]});
            }
            doc! {"$and": conditions}.into()
        }
    }
}

/// Why a value is no number, in words.
pub(crate) fn why(value: &Bson, limits: Limits, otherwise: &str) -> Bson {
    if limits == Limits::Finite {
        return otherwise.into();
    }
    let digits = "has more digits than a sum keeps; a tolerance in the check says how far off it may be";
    doc! {"$cond": [is_number(value, Limits::Finite), digits, otherwise]}.into()
}
