//! Selects the value and numeric type to write: a value that the field's type represents exactly, or none.

use std::fmt;

use mongodb::bson::{Bson, Decimal128};

use crate::check::NumberType;

/// The number of digits of a decimal: a value that uses all of them may have been rounded.
const DIGITS: usize = 34;
/// The maximum number of decimal places of a summable part. A sum with more of them results from a double that is not
/// a decimal, or from a division.
const PLACES: i32 = 18;

/// A decimal number: `coefficient` × 10^`exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    coefficient: i128,
    exponent: i32,
}

impl Number {
    pub(crate) const ZERO: Self = Self { coefficient: 0, exponent: 0 };

    /// Parses a decimal as in `-12.50` or `1.25E+3`; `None` if it is not finite.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let coefficient = format!("{whole}{fraction}").parse().ok()?;
        let exponent = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        Some(Self { coefficient, exponent }.stripped())
    }

    /// Converts a number of any type. A double is a whole number, or the shortest decimal that represents it.
    pub(crate) fn from_bson(value: &Bson) -> Option<Self> {
        match value {
            Bson::Int32(number) => Some(Self::from(i64::from(*number))),
            Bson::Int64(number) => Some(Self::from(*number)),
            #[allow(clippy::cast_possible_truncation, reason = "whole, and less than the largest")]
            Bson::Double(number) if number.fract() == 0.0 && number.abs() < 9.2e18 => {
                Some(Self::from(*number as i64))
            }
            Bson::Double(number) if number.is_finite() => Self::parse(&format!("{number:e}")),
            Bson::Decimal128(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    fn from(whole: i64) -> Self {
        Self { coefficient: i128::from(whole), exponent: 0 }.stripped()
    }

    fn stripped(mut self) -> Self {
        if self.coefficient == 0 {
            return Self { coefficient: 0, exponent: 0 };
        }
        while self.coefficient % 10 == 0 {
            self.coefficient /= 10;
            self.exponent += 1;
        }
        self
    }

    fn digits(self) -> usize {
        self.coefficient.unsigned_abs().to_string().len()
    }

    fn whole(self) -> Option<i64> {
        let power = 10_i128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        i64::try_from(self.coefficient.checked_mul(power)?).ok()
    }

    /// The nearest double.
    fn double(self) -> f64 {
        format!("{}e{}", self.coefficient, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// The same value with at least as many decimal places as another one.
    fn decimal(self, like: Option<&Decimal128>) -> Option<Decimal128> {
        let places = like.and_then(|like| {
            let text = like.to_string();
            let (_, fraction) = text.split_once('.').unwrap_or_default();
            (!text.contains('E')).then_some(i32::try_from(fraction.len()).unwrap_or(0))
        });
        let mut padded = self;
        while padded.exponent > -places.unwrap_or(0) && padded.digits() < DIGITS {
            padded = Self { coefficient: padded.coefficient.checked_mul(10)?, exponent: padded.exponent - 1 };
        }
        format!("{}E{}", padded.coefficient, padded.exponent).parse().ok()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decimal(None) {
            Some(decimal) => write!(f, "{decimal}"),
            None => write!(f, "{}e{}", self.coefficient, self.exponent),
        }
    }
}

/// Whether a decimal uses all of its digits, so that it may have been rounded.
fn is_full(value: &Bson) -> bool {
    let Bson::Decimal128(decimal) = value else { return false };
    let text = decimal.to_string();
    let (mantissa, _) = text.split_once('E').unwrap_or((&text, ""));
    mantissa.chars().filter(char::is_ascii_digit).skip_while(|digit| *digit == '0').count() >= DIGITS
}

/// The type of a number; `None` for other values.
pub(crate) fn type_of(value: &Bson) -> Option<NumberType> {
    match value {
        Bson::Int32(_) => Some(NumberType::Int),
        Bson::Int64(_) => Some(NumberType::Long),
        Bson::Double(_) => Some(NumberType::Double),
        Bson::Decimal128(_) => Some(NumberType::Decimal),
        _ => None,
    }
}

/// The values that decide what is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum<'a> {
    /// The actual value of the field.
    pub(crate) actual: Option<&'a Bson>,
    /// The expected value, as MongoDB computes it.
    pub(crate) expected: &'a Bson,
    /// The expected value in decimal.
    pub(crate) exact: Option<&'a Bson>,
    /// The type of a field that is not a number.
    pub(crate) number: Option<NumberType>,
    /// The tolerated difference.
    pub(crate) tolerance: Option<f64>,
}

impl Sum<'_> {
    /// The value in the type of the field, or the reason why there is none.
    pub(crate) fn fitted(self) -> Result<Bson, String> {
        let not_finite = || "the sum is not a finite number".to_owned();
        if Number::from_bson(self.expected).is_none() {
            let is_number = type_of(self.expected).is_some();
            return if is_number { Err(not_finite()) } else { self.same_type() };
        }
        let exact = self.exact.and_then(Number::from_bson).ok_or_else(not_finite)?;
        if let Some(Bson::MinKey | Bson::MaxKey | Bson::DbPointer(_)) = self.actual {
            // The driver writes these types as documents.
            return Err("an undo could not restore the present value of the field".to_owned());
        }
        let own = self.actual.and_then(type_of);
        let number = own.or(self.number).ok_or_else(|| {
            let is = self.actual.map_or("is missing", |_| "is not a number");
            format!(
                "the field {is}, so its numeric type is unknown: {exact} would be right; set type = \
                 \"long\", or int, double or decimal, in the check"
            )
        })?;
        let is_fraction = matches!(number, NumberType::Double | NumberType::Decimal);
        if self.exact.is_some_and(is_full) && !(is_fraction && self.tolerance.is_some()) {
            return Err(format!("{exact} has more digits than a decimal represents exactly"));
        }
        let fitted = match number {
            NumberType::Int => exact.whole().and_then(|whole| i32::try_from(whole).ok()).map(Bson::Int32),
            NumberType::Long => exact.whole().map(Bson::Int64),
            NumberType::Double => return self.double(exact),
            NumberType::Decimal if exact.digits() >= DIGITS || exact.exponent < -PLACES => None,
            NumberType::Decimal => {
                let like = self.actual.and_then(|actual| match actual {
                    Bson::Decimal128(actual) => Some(actual),
                    _ => None,
                });
                exact.decimal(like).map(Bson::Decimal128)
            }
        };
        fitted.ok_or_else(|| format!("{exact} does not fit into the field's type, {}", number.as_str()))
    }

    /// A value that is not a number (a date, a string) may only replace a value of the same type.
    fn same_type(self) -> Result<Bson, String> {
        let like = |one: &Bson, other: &Bson| one.element_type() == other.element_type();
        match self.actual {
            Some(actual) if like(actual, self.expected) => Ok(self.expected.clone()),
            Some(actual) => Err(format!(
                "the field's type would change, from {:?} to {:?}",
                actual.element_type(),
                self.expected.element_type()
            )),
            None => Err("the field is missing, so its type is unknown".to_owned()),
        }
    }

    fn double(self, exact: Number) -> Result<Bson, String> {
        let double = exact.double();
        let off = double.abs() * f64::EPSILON;
        let same = Number::from_bson(&double.into()) == Some(exact);
        let read_back = same && (exact.digits() <= f64::DIGITS as usize || exact.exponent >= 0);
        if !read_back && self.tolerance.is_none_or(|tolerance| off > tolerance) {
            return Err(format!(
                "{exact} cannot be represented as a double: the nearest is {double}. Set a tolerance in the check"
            ));
        }
        // If MongoDB's sum of doubles differs from the decimal sum, an audit would still report a violation.
        match self.expected {
            Bson::Double(sum) if *sum != double && self.tolerance.is_none() => Err(format!(
                "fractions as doubles do not add up: the exact sum is {exact}, and MongoDB computes {sum}. Set a tolerance \
                 in the check"
            )),
            _ => Ok(double.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    fn fitted(
        actual: Option<Bson>,
        expected: Bson,
        exact: &str,
        tolerance: Option<f64>,
    ) -> Result<Bson, String> {
        let exact = decimal(exact);
        let sum = Sum {
            actual: actual.as_ref(),
            expected: &expected,
            exact: Some(&exact),
            number: None,
            tolerance,
        };
        sum.fitted()
    }

    #[test]
    #[allow(clippy::cast_precision_loss, reason = "a power of two")]
    fn sum_that_fits_keeps_field_type() {
        for (actual, expected, exact, set) in [
            (Bson::Int64(5), Bson::Int32(0), "0", Bson::Int64(0)),
            (Bson::Int64(5), Bson::Double(1_000_250.0), "1000250.000", Bson::Int64(1_000_250)),
            (Bson::Int64(5), decimal("7.00"), "7.00", Bson::Int64(7)),
            (Bson::Int32(5), Bson::Int64(1 << 30), "1073741824", Bson::Int32(1 << 30)),
            (Bson::Double(0.5), Bson::Int32(7), "7", Bson::Double(7.0)),
            (
                Bson::Double(0.5),
                Bson::Int64(1 << 60),
                "1152921504606846976",
                Bson::Double((1_i64 << 60) as f64),
            ),
            (Bson::Double(0.5), decimal("7.25"), "7.25", Bson::Double(7.25)),
            (decimal("1.50"), Bson::Int32(-7), "-7", decimal("-7.00")),
            (decimal("1.50"), Bson::Double(0.1), "0.100000000000000", decimal("0.10")),
            (decimal("1.50"), decimal("0.12345"), "0.12345", decimal("0.12345")),
        ] {
            assert_eq!(fitted(Some(actual.clone()), expected, exact, None), Ok(set), "{actual:?} {exact}");
        }
    }

    #[test]
    fn sum_that_does_not_fit_field_type_is_rejected() {
        for (actual, expected, exact, why) in [
            (Bson::Int64(5), Bson::Double(0.5), "0.5", "does not fit"),
            (Bson::Int32(5), Bson::Int64(1 << 40), "1099511627776", "does not fit"),
            (Bson::Int64(5), Bson::Double(9.223_372_036_854_776E18), "9223372036854775808", "does not fit"),
            (
                Bson::Double(0.5),
                Bson::Int64((1 << 53) + 1),
                "9007199254740993",
                "cannot be represented as a double",
            ),
            (Bson::Double(5.0), Bson::Double(0.1 + 0.2), "0.300000000000000", "do not add up"),
            (
                decimal("1"),
                decimal("3.333333333333333333333333333333333"),
                "3.333333333333333333333333333333333",
                "more digits",
            ),
            (Bson::Int64(5), Bson::Double(f64::NAN), "NaN", "not a finite number"),
            (Bson::Int64(5), decimal("Infinity"), "Infinity", "not a finite number"),
            (Bson::Int64(5), "5".into(), "5", "type would change"),
            (Bson::Int64(5), Bson::Boolean(true), "5", "type would change"),
            ("5".into(), Bson::Int32(5), "5", "is not a number, so its numeric type"),
            (Bson::Null, Bson::Int32(5), "5", "is not a number, so its numeric type"),
        ] {
            let refused = fitted(Some(actual.clone()), expected, exact, None).unwrap_err();
            assert!(refused.contains(why), "{actual:?} {exact}: {refused}");
        }
        assert!(fitted(None, Bson::Int32(5), "5", None).unwrap_err().contains("is missing"));
    }

    #[test]
    fn doubles_are_summed_as_decimals_within_tolerance() {
        let sum = fitted(Some(Bson::Double(5.0)), Bson::Double(0.1 + 0.2), "0.300000000000000", Some(0.005));
        assert_eq!(sum, Ok(Bson::Double(0.3)));
        let noise = fitted(Some(Bson::Double(5.0)), Bson::Double(1.1), "1.1000000000000000888", Some(0.005));
        assert_eq!(noise, Ok(Bson::Double(1.1)));
        let int = fitted(Some(Bson::Int32(5)), Bson::Double(0.3), "0.3", Some(0.005));
        assert!(int.unwrap_err().contains("does not fit"));
    }
}
