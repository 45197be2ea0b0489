//! What a sum is, in integers of 10⁻¹⁸, by the bytes of the documents alone: nothing here asks MongoDB or is shared
//! with what is tested.

use mongodb::bson::{Bson, Document};

/// Units in one.
pub(crate) const ONE: i128 = 1_000_000_000_000_000_000;
/// The units of the least amount that a repair does not sum.
const LARGEST: i128 = 10 * ONE * ONE;
/// An amount that is not a multiple of one part in so many is not summed.
const PLACES: i128 = 1_000_000_000_000;
/// The tolerance of checks that have one, and how near to it a sum of doubles may be either side.
const TOLERANCE: i128 = ONE / 200;
const NEAR: i128 = ONE / 1_000_000;

/// One amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// So many units, to the last digit.
    Exact(i128),
    /// A double that stands for so many units as a decimal with a fraction.
    Fraction(i128),
    /// About so many units: no decimal of 15 digits is meant by it.
    About(i128),
    /// No finite number, or out of all bounds.
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

/// The units of a decimal number, and its digits; nothing if they are no whole units, or too many.
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
    /// Doubles with a fraction are among its parts.
    pub(crate) fractions: bool,
    /// Some of them are no decimals.
    pub(crate) about: bool,
    /// It has no part.
    pub(crate) empty: bool,
    /// Of a part, a double does not hold every neighbor: MongoDB may add doubles to something else.
    pub(crate) large: bool,
}

impl Sum {
    pub(crate) const EMPTY: Self =
        Self { units: 0, fractions: false, about: false, empty: true, large: false };

    /// Nothing, if a part is no number.
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

/// The sum of the amounts of a list of entries; nothing, if it is none.
pub(crate) fn of_list(list: Option<&Bson>) -> Option<Sum> {
    let entries = list?.as_array()?;
    entries.iter().try_fold(Sum::EMPTY, |sum, entry| sum.plus(entry.as_document()?.get("amount")))
}

/// The sum of the amounts of documents.
pub(crate) fn of_lines<'a>(lines: impl IntoIterator<Item = &'a Document>) -> Option<Sum> {
    lines.into_iter().try_fold(Sum::EMPTY, |sum, line| sum.plus(line.get("amount")))
}

/// What an audit may say of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    Clean,
    Wrong,
    /// It depends on how doubles are rounded.
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

/// What a repair may do to a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum May {
    /// Set it to a value of this type that is this many units, or about as many.
    Set {
        units: i128,
        like: Bson,
        about: bool,
        must: bool,
    },
    Nothing,
}

/// `like` is a value of the type that the field must have.
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

/// Whether a value that was written is what may be.
pub(crate) fn is_proven(written: &Bson, units: i128, like: &Bson, about: bool) -> bool {
    let same_type = written.element_type() == like.element_type();
    let value = match (Amount::of(written), written) {
        (Amount::Exact(value) | Amount::Fraction(value) | Amount::About(value), _) => Some(value),
        // A sum may be larger than an amount may be.
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
