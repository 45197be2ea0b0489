//! Defines which numbers can be summed.

use mongodb::bson::{Bson, doc};

/// The sum of a million amounts below this keeps the cents, within the 34 digits of a decimal.
const LARGEST: f64 = 1e25;

/// The decimal places of an amount that a repair sums.
const PLACES: i32 = 12;

/// Which values count as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// A finite number that is small enough not to absorb the cents of others; used by an audit.
    Finite,
    /// A number that a very large sum represents to the last digit within the 34 digits of a decimal. A double may
    /// differ from the decimal that it was written as. Used by a repair with a tolerance.
    Near,
    /// As the tolerant variant, but a double must be a whole number or a decimal of 15 digits; used by a repair without a
    /// tolerance.
    Exact,
}

impl Limits {
    /// The limits of a repair with that tolerance.
    pub(crate) fn of_repair(tolerance: Option<f64>) -> Self {
        if tolerance.is_some() { Self::Near } else { Self::Exact }
    }
}

/// Whether a value is a finite number. In MongoDB's order all other types sort before or after all numbers.
pub(crate) fn is_number(value: &Bson, limits: Limits) -> Bson {
    match limits {
        Limits::Finite => doc! {"$and": [{"$gt": [value, -LARGEST]}, {"$lt": [value, LARGEST]}]}.into(),
        Limits::Near | Limits::Exact => {
            // 19 digits before the decimal point and 12 after it leave three digits for a thousand of the largest
            // numbers.
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

/// The reason why a value is not a number.
pub(crate) fn why(value: &Bson, limits: Limits, otherwise: &str) -> Bson {
    if limits == Limits::Finite {
        return otherwise.into();
    }
    let digits = "has more digits than a sum keeps; set a tolerance in the check";
    doc! {"$cond": [is_number(value, Limits::Finite), digits, otherwise]}.into()
}
