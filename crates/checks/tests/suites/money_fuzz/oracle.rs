//! Computes sums in integers of 10⁻¹⁸ from the bytes of the documents alone, without MongoDB and without any of the
//! tested code.

use mongodb::bson::{Bson, Document};

/// The units in one.
pub(crate) const ONE: i128 = 1_000_000_000_000_000_000;
/// The smallest amount, in units, that a repair does not sum.
const LARGEST: i128 = 10 * ONE * ONE;
/// An amount is only summed if it is a multiple of this many units.
const PLACES: i128 = 1_000_000_000_000;
/// The tolerance of checks that have one, and the margin in which a sum of doubles may fall on either side.
const TOLERANCE: i128 = ONE / 200;
const NEAR: i128 = ONE / 1_000_000;

/// One amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// An exact number of units.
    Exact(i128),
    /// A double that represents an exact number of units as a decimal with a fraction.
    Fraction(i128),
    /// An approximate number of units: a double that represents no decimal of 15 digits.
    About(i128),
    /// Not a finite number, or out of range.
    None,
}

impl Amount {
    pub(crate) fn of(value: &Bson) -> Self {
        match value {
            Bson::Int32(number) => Self::Exact(i128::from(*number) * ONE),
            Bson::Int64(number) => Self::Exact(i128::from(*number) * ONE),
            Bson::Double(number) => Self::of_double(*number),
            Bson::Decimal128(number) => match units(&number.to_string()) {
                Some((units, _)) if units % (ONE / PLACES) != 0 => Self::About(units),
                Some((units, _)) if units.abs() < LARGEST => Self::Exact(units),
                _ => Self::None,
            },
            _ => Self::None,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "whole and within bounds")]
    fn of_double(number: f64) -> Self {
        const BOUND: f64 = 9e18;
        if !number.is_finite() || number.abs() > BOUND {
            return Self::None;
        }
        if number.fract() == 0.0 {
            return Self::Exact(number as i128 * ONE);
        }
        match units(&format!("{number:e}")) {
            Some((units, digits)) if digits <= 15 && units % (ONE / PLACES) == 0 => Self::Fraction(units),
            Some((units, _)) => Self::About(units),
            None => Self::About((number * 1e18) as i128),
        }
    }
}

/// The units of a decimal number, and its digits; `None` if they are not whole units, or too many.
fn units(text: &str) -> Option<(i128, usize)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{before}{after}").parse().ok()?;
    let significant = digits.to_string().trim_start_matches('-').trim_end_matches('0').len();
    let shift = exponent.parse::<i32>().ok()? - i32::try_from(after.len()).ok()? + 18;
    let units = if shift >= 0 {
        digits.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        let power = 10_i128.checked_pow(shift.unsigned_abs()).filter(|power| digits % power == 0)?;
        digits / power
    };
    Some((units, significant))
}

/// A sum of amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) units: i128,
    /// Whether doubles with a fraction are among its parts.
    pub(crate) fractions: bool,
    /// Whether some of them represent no decimal.
    pub(crate) about: bool,
    /// Whether it has no part.
    pub(crate) empty: bool,
    /// Whether a part is so large that doubles near it are further apart than a unit: MongoDB may compute another
    /// sum.
    pub(crate) large: bool,
}

impl Sum {
    pub(crate) const EMPTY: Self =
        Self { units: 0, fractions: false, about: false, empty: true, large: false };

    /// The sum; `None` if a part is not a number.
    pub(crate) fn plus(mut self, part: Option<&Bson>) -> Option<Self> {
        let units = match Amount::of(part?) {
            Amount::Exact(units) => units,
            Amount::Fraction(units) => {
                self.fractions = true;
                units
            }
            Amount::About(units) => {
                (self.fractions, self.about) = (true, true);
                units
            }
            Amount::None => return None,
        };
        let large = self.large || units.abs() >= ONE << 50;
        Some(Self { units: self.units + units, empty: false, large, ..self })
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            units: self.units - other.units,
            fractions: self.fractions || other.fractions,
            about: self.about || other.about,
            empty: self.empty && other.empty,
            large: self.large || other.large,
        }
    }
}

/// The sum of the amounts of a list of entries; `None` if it is not a list.
pub(crate) fn of_list(list: Option<&Bson>) -> Option<Sum> {
    let entries = list?.as_array()?;
    entries.iter().try_fold(Sum::EMPTY, |sum, entry| sum.plus(entry.as_document()?.get("amount")))
}

/// The sum of the amounts of documents.
pub(crate) fn of_lines<'a>(lines: impl IntoIterator<Item = &'a Document>) -> Option<Sum> {
    lines.into_iter().try_fold(Sum::EMPTY, |sum, line| sum.plus(line.get("amount")))
}

/// The results that an audit may report for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    Clean,
    Wrong,
    /// The result depends on how doubles are rounded.
    Either,
}

pub(crate) fn audit(field: Option<&Bson>, sum: Option<Sum>, tolerant: bool) -> Say {
    let (Some(sum), Some(field)) = (sum, field) else { return Say::Wrong };
    let (units, exact) = match Amount::of(field) {
        Amount::Exact(units) => (units, !sum.fractions),
        Amount::Fraction(units) | Amount::About(units) => (units, false),
        Amount::None => return Say::Wrong,
    };
    let off = (units - sum.units).abs();
    let allowed = if tolerant { TOLERANCE } else { 0 };
    if !exact && (off - allowed).abs() <= NEAR {
        return Say::Either;
    }
    match off <= allowed {
        true if sum.large && matches!(field, Bson::Double(_)) => Say::Either,
        true => Say::Clean,
        false => Say::Wrong,
    }
}

/// The repairs of a field that are allowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum May {
    /// Setting the field to a value of this type with exactly or approximately this many units.
    Set {
        units: i128,
        like: Bson,
        about: bool,
        must: bool,
    },
    Nothing,
}

/// The allowed repair; `like` is a value of the type that the field must have.
pub(crate) fn repair(
    sum: Option<Sum>,
    like: Option<&Bson>,
    tolerant: bool,
    empty_inputs: bool,
    is_nothing: bool,
) -> May {
    let (Some(sum), Some(like)) = (sum, like) else { return May::Nothing };
    if sum.empty && !empty_inputs && !is_nothing {
        return May::Nothing;
    }
    let (fits, about) = match like {
        Bson::Int32(_) => (whole(sum, tolerant).is_some_and(|whole| i32::try_from(whole).is_ok()), sum.about),
        Bson::Int64(_) => (whole(sum, tolerant).is_some_and(|whole| i64::try_from(whole).is_ok()), sum.about),
        Bson::Decimal128(_) => (tolerant || !sum.about, sum.about),
        Bson::Double(_) => {
            let nearest: f64 = format!("{}e-18", sum.units).parse().unwrap_or(f64::NAN);
            let same = match Amount::of(&nearest.into()) {
                Amount::Exact(units) | Amount::Fraction(units) => units == sum.units,
                Amount::About(_) | Amount::None => false,
            };
            (tolerant || same && !sum.about, tolerant && (sum.about || !same))
        }
        _ => (false, false),
    };
    if !fits {
        return May::Nothing;
    }
    let must = sum.units.abs() < LARGEST
        && !(sum.fractions || about || (sum.large && matches!(like, Bson::Double(_))));
    May::Set { units: sum.units, like: like.clone(), about, must }
}

fn whole(sum: Sum, tolerant: bool) -> Option<i128> {
    let nearest = (sum.units + sum.units.signum() * ONE / 2) / ONE;
    let off = (sum.units - nearest * ONE).abs();
    (off == 0 && !sum.about || off <= NEAR && sum.about && tolerant).then_some(nearest)
}

/// Whether a written value is allowed.
pub(crate) fn is_proven(written: &Bson, units: i128, like: &Bson, about: bool) -> bool {
    let same_type = written.element_type() == like.element_type();
    let value = match (Amount::of(written), written) {
        (Amount::Exact(value) | Amount::Fraction(value) | Amount::About(value), _) => Some(value),
        // A sum may be larger than a single amount.
        (Amount::None, Bson::Decimal128(number)) => self::units(&number.to_string()).map(|(units, _)| units),
        (Amount::None, _) => None,
    };
    let Some(value) = value else { return false };
    same_type
        && if about {
            (value - units).abs() <= NEAR.max(units.abs() / 1_000_000_000_000_000)
        } else {
            value == units
        }
}
