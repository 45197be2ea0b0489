//! Money: whole cents in an `i64`, read from the digits of a JSON number and never through a float.

use std::fmt;

use mongodb::bson::Bson;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::AppError;

/// An amount in hundredths of its currency's unit.
///
/// In MongoDB it is an int64, in JSON a plain number: `200`, `12.34`, `0.5`.
///
/// ```
/// let amount = ledger::Money::parse("12.50").unwrap();
/// assert_eq!(amount.cents(), 1250);
/// assert_eq!(amount.to_string(), "12.5");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The maximum of amounts and balances: fifteen digits, which a reader that parses JSON numbers as doubles
    /// restores exactly.
    pub const MAX: Self = Self(999_999_999_999_999);

    /// An amount in hundredths.
    #[must_use]
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    /// The number of hundredths.
    #[must_use]
    pub const fn cents(self) -> i64 {
        self.0
    }

    /// The largest balance to which this amount can be added.
    #[must_use]
    pub const fn largest_balance_before(self) -> Self {
        Self(Self::MAX.0 - self.0)
    }

    /// Parses the text of a JSON value exactly.
    ///
    /// # Errors
    ///
    /// If it is not a plain number from 0 to [`Money::MAX`] with at most two decimals.
    pub fn parse(literal: &str) -> Result<Self, MoneyError> {
        let digits = match literal.as_bytes().first() {
            Some(b'0'..=b'9') => literal,
            Some(b'-') => return Err(MoneyError::Negative),
            _ => return Err(MoneyError::NotANumber),
        };
        if digits.contains(['e', 'E']) {
            return Err(MoneyError::Exponent);
        }
        let (units, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > 2 {
            return Err(MoneyError::TooPrecise);
        }
        // MAX has thirteen integer digits and two decimals, so nothing below can overflow.
        if units.len() > 13 {
            return Err(MoneyError::TooLarge);
        }
        let cents = format!("{units}{decimals:0<2}").parse().map_err(|_| MoneyError::NotANumber)?;
        Ok(Self(cents))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, cents) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        match (cents / 10, cents % 10) {
            (0, 0) => write!(f, "{sign}{units}"),
            (tenths, 0) => write!(f, "{sign}{units}.{tenths}"),
            (tenths, hundredths) => write!(f, "{sign}{units}.{tenths}{hundredths}"),
        }
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    /// Deserializes the value in MongoDB: an int64, as the ledger writes it, or the same whole number of another
    /// type, as an import or a manual correction may leave it. Requests are parsed from literals instead.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Bson::deserialize(deserializer)?;
        whole_cents(&value).map(Self).ok_or_else(|| match value {
            Bson::Double(number) => {
                D::Error::custom(format!("the double {number} is not a whole number of cents"))
            }
            Bson::Decimal128(number) => {
                D::Error::custom(format!("the decimal {number} is not a whole number of cents"))
            }
            Bson::String(_) => D::Error::custom("a string is not a whole number of cents"),
            other => D::Error::custom(format!("{:?} is not a whole number of cents", other.element_type())),
        })
    }
}

/// A whole number of any numeric type. Up to 2⁵³ every whole number is a double, and none beyond is accepted.
fn whole_cents(value: &Bson) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Bson::Int32(cents) => Some(i64::from(*cents)),
        Bson::Int64(cents) => Some(*cents),
        #[allow(clippy::cast_possible_truncation, reason = "it is whole and within what an i64 holds")]
        Bson::Double(cents) if cents.abs() <= EXACT && cents.fract() == 0.0 => Some(*cents as i64),
        Bson::Decimal128(cents) => {
            let text = cents.to_string();
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            let is_whole = decimals.bytes().all(|digit| digit == b'0');
            whole.parse().ok().filter(|_| is_whole)
        }
        _ => None,
    }
}

/// The error of an invalid amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// Not a number: a string, null, an object or similar.
    #[error("must be a plain JSON number such as 200 or 12.34, without quotes")]
    NotANumber,
    /// `1e2`
    #[error("must be written out, without an exponent: 100 instead of 1e2")]
    Exponent,
    /// `1.005`
    #[error("must have at most two decimals")]
    TooPrecise,
    /// `-1`
    #[error("must not be negative")]
    Negative,
    /// Above [`Money::MAX`]
    #[error("must not be larger than {max}", max = Money::MAX)]
    TooLarge,
}

/// The text of a JSON value for an amount, as the client wrote it.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Literal(Box<RawValue>);

impl Literal {
    /// An amount that is moved, which must be positive.
    pub(crate) fn positive(&self, field: &str) -> Result<Money, AppError> {
        match self.not_negative(field) {
            Ok(Money::ZERO) => Err(AppError::invalid(format!("{field} must be more than 0"))),
            other => other,
        }
    }

    /// An opening amount, which may be zero.
    pub(crate) fn not_negative(&self, field: &str) -> Result<Money, AppError> {
        Money::parse(self.0.get()).map_err(|error| AppError::invalid(format!("{field} {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_parsed_to_the_cent() {
        for (literal, cents) in [
            ("0", 0),
            ("0.0", 0),
            ("0.00", 0),
            ("0.1", 10),
            ("0.10", 10),
            ("0.01", 1),
            ("0.29", 29), // 28.999… as a float times 100
            ("0.57", 57),
            ("1.1", 110),
            ("1.15", 115),
            ("4.35", 435),
            ("19.99", 1999),
            ("1.000000000000000000000", 100),
            ("200", 20_000),
            ("200.00", 20_000),
            ("1000.5", 100_050),
            ("90071992547.40", 9_007_199_254_740),
            ("9999999999999.99", 999_999_999_999_999),
        ] {
            assert_eq!(Money::parse(literal), Ok(Money(cents)), "{literal}");
        }
    }

    #[test]
    fn invalid_amount_is_rejected_with_reason() {
        use MoneyError::*;
        for (literal, error) in [
            ("1.005", TooPrecise),
            ("0.001", TooPrecise),
            ("0.299999999999999999", TooPrecise),
            ("1e2", Exponent),
            ("1E2", Exponent),
            ("1e-2", Exponent),
            ("1.5e1", Exponent),
            ("-1", Negative),
            ("-0.01", Negative),
            ("-0", Negative),
            ("9007199254740993", TooLarge),
            ("10000000000000", TooLarge),
            ("10000000000000.00", TooLarge),
            ("99999999999999999999999999999999999999", TooLarge),
            ("\"200\"", NotANumber),
            ("\"\"", NotANumber),
            ("null", NotANumber),
            ("true", NotANumber),
            ("[200]", NotANumber),
            ("{\"$numberLong\":\"1\"}", NotANumber),
            ("", NotANumber),
            ("+1", NotANumber),
            (".5", NotANumber),
            ("NaN", NotANumber),
            ("1,5", NotANumber),
            ("0x10", NotANumber),
        ] {
            assert_eq!(Money::parse(literal), Err(error), "{literal}");
        }
    }

    #[test]
    fn only_whole_numbers_are_deserialized() {
        let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
        for (value, cents) in [
            (Bson::Int32(100), Some(100)),
            (Bson::Int64(i64::MAX), Some(i64::MAX)),
            (Bson::Double(1_000_250.0), Some(1_000_250)),
            (Bson::Double(-3.0), Some(-3)),
            (Bson::Double(-0.0), Some(0)),
            (Bson::Double(9_007_199_254_740_992.0), Some(9_007_199_254_740_992)),
            (Bson::Double(9_007_199_254_740_994.0), None),
            (Bson::Double(0.300_000_000_000_000_04), None),
            (Bson::Double(f64::NAN), None),
            (Bson::Double(f64::INFINITY), None),
            (decimal("3"), Some(3)),
            (decimal("3.00"), Some(3)),
            (decimal("3.01"), None),
            (decimal("1E+3"), None),
            (decimal("NaN"), None),
            (Bson::from("100"), None),
            (Bson::Null, None),
            (Bson::Boolean(true), None),
            (Bson::Array(vec![1.into()]), None),
        ] {
            let read: Result<Money, _> = mongodb::bson::deserialize_from_bson(value.clone());
            assert_eq!(read.ok().map(Money::cents), cents, "{value:?}");
        }
    }

    #[test]
    fn amounts_are_formatted_without_trailing_zeros() {
        for (cents, text) in [
            (0, "0"),
            (1, "0.01"),
            (10, "0.1"),
            (50, "0.5"),
            (99, "0.99"),
            (100, "1"),
            (20_000, "200"),
            (1234, "12.34"),
            (1205, "12.05"),
            (-1, "-0.01"),
            (-250, "-2.5"),
            (999_999_999_999_999, "9999999999999.99"),
        ] {
            assert_eq!(Money(cents).to_string(), text);
            assert_eq!(serde_json::to_string(&Money(cents)).unwrap(), text);
        }
    }

    #[test]
    fn amounts_roundtrip_through_json_and_bson() {
        let mut state: u64 = 1;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // All magnitudes: the number of digits varies too.
            let cents = i64::try_from(state >> 14).unwrap() % 10_i64.pow(u32::try_from(state >> 60).unwrap());
            let text = Money(cents).to_string();
            assert_eq!(Money::parse(&text), Ok(Money(cents)), "{text}");
            // A client that parses doubles receives the same amount.
            let double: f64 = text.parse().unwrap();
            assert_eq!(Money::parse(&double.to_string()), Ok(Money(cents)), "{text}");
        }
    }

    #[test]
    fn literal_keeps_client_spelling() {
        #[derive(serde::Deserialize)]
        struct Body {
            amount: Literal,
        }
        let read = |text: &str| serde_json::from_str::<Body>(text).unwrap().amount.positive("amount");
        assert_eq!(read(r#"{"amount": 0.29 }"#).unwrap(), Money(29));
        for (text, message) in [
            (r#"{"amount":0}"#, "amount must be more than 0"),
            (r#"{"amount":1.005}"#, "amount must have at most two decimals"),
            (r#"{"amount":1e2}"#, "amount must be written out, without an exponent: 100 instead of 1e2"),
            (
                r#"{"amount":"200"}"#,
                "amount must be a plain JSON number such as 200 or 12.34, without quotes",
            ),
            (r#"{"amount":10000000000000}"#, "amount must not be larger than 9999999999999.99"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
