//! Exact decimal numbers: amounts and counts in the JSON of a backend, and the results of expressions.

use std::fmt;

use serde_json::Value;

/// The number of decimals that are kept.
pub(crate) const MAX_DECIMALS: usize = 6;
const ONE: i128 = 1_000_000;

/// A number in millionths. Its arithmetic is exact, and absent if a result is out of range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(i128);

impl Number {
    pub(crate) const ZERO: Self = Self(0);

    /// Parses a decimal number. `None` if it is none, or has more decimals than these, zeros at the end not counted.
    pub(crate) fn parse(text: &str, decimals: usize) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let part = part.trim_end_matches('0');
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let is_decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 18 || !is_decimal(digits) || !is_decimal(part) {
            return None;
        }
        let millionths: i128 = match part.len() <= decimals.min(MAX_DECIMALS) {
            true => format!("{whole}{part:0<MAX_DECIMALS$}").parse().ok()?,
            false => return None,
        };
        Some(Self(millionths))
    }

    /// The exact number, or why the value is none with at most these decimals. `0.1000001` is a rounding error of a float.
    pub(crate) fn from_json(value: &Value, decimals: usize) -> Result<Self, String> {
        let Value::Number(number) = value else { return Err(format!("not a number: {value}")) };
        let text = number.to_string();
        Self::parse(&text, decimals)
            .ok_or_else(|| format!("not a number of at most {decimals} decimals: {text}"))
    }

    /// A JSON number: an integer if it is one.
    pub(crate) fn to_json(self) -> Value {
        serde_json::from_str(&self.to_string()).unwrap_or(Value::Null)
    }

    /// The number as a count.
    pub(crate) fn whole(self) -> Option<usize> {
        (self.0 % ONE == 0).then(|| usize::try_from(self.0 / ONE).ok()).flatten()
    }

    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub(crate) fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    pub(crate) fn checked_mul(self, other: Self) -> Option<Self> {
        self.0.checked_mul(other.0).map(|product| Self(product / ONE))
    }

    /// The quotient, without what is smaller than a millionth.
    pub(crate) fn checked_div(self, other: Self) -> Option<Self> {
        self.0.checked_mul(ONE)?.checked_div(other.0).map(Self)
    }

    /// The largest integer that is not greater.
    pub(crate) fn floor(self) -> Self {
        Self(self.0.div_euclid(ONE) * ONE)
    }
}

impl From<usize> for Number {
    fn from(count: usize) -> Self {
        Self(i128::try_from(count).unwrap_or(i128::from(i64::MAX)) * ONE)
    }
}

/// With two decimals if it has any, or more if it needs them: `7`, `7.50`, `0.125`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = ONE.unsigned_abs();
        let (sign, number) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}", number / one)?;
        if number % one != 0 {
            let part = format!("{:06}", number % one);
            write!(f, ".{:0<2}", part.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Number, String> {
        Number::from_json(&serde_json::from_str(text).unwrap(), 2)
    }

    #[test]
    fn amounts_are_parsed_exactly_and_formatted() {
        for (text, millionths, shown) in [
            ("0", 0, "0"),
            ("200", 200_000_000, "200"),
            ("0.1", 100_000, "0.10"),
            ("0.05", 50_000, "0.05"),
            ("-0.05", -50_000, "-0.05"),
            ("-7000", -7_000_000_000, "-7000"),
            ("12.50", 12_500_000, "12.50"),
            ("9999999999999.99", 9_999_999_999_999_990_000, "9999999999999.99"),
        ] {
            let number = read(text).unwrap();
            assert_eq!((number.0, number.to_string().as_str()), (millionths, shown), "{text}");
        }
        for text in ["\"200\"", "null", "0.30000000000000004", "0.125", "1e300"] {
            assert!(read(text).is_err(), "{text}");
        }
        let eighth = Number::parse("0.125", 3).unwrap();
        assert_eq!((eighth.to_string(), eighth.to_json()), ("0.125".to_owned(), serde_json::json!(0.125)));
        assert_eq!(read("7.0").unwrap().to_json(), serde_json::json!(7));
        for text in ["", "-", "1.", "+1", "1.x", "1-", "--1", "1.-5"] {
            assert!(Number::parse(text, 2).is_none() || text == "1.", "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact_and_never_overflows() {
        let number = |text| Number::parse(text, MAX_DECIMALS).unwrap();
        assert_eq!(number("0.1").checked_add(number("0.2")), Some(number("0.3")));
        assert_eq!(number("7.25").checked_mul(number("1000")), Some(number("7250")));
        assert_eq!(number("7").checked_div(number("2")), Some(number("3.5")));
        assert_eq!(number("-3.5").floor(), number("-4"));
        assert_eq!(number("1").checked_div(Number::ZERO), None);
        let large = number("999999999999999999");
        assert_eq!(large.checked_mul(large).and_then(|number| number.checked_mul(large)), None);
        assert_eq!((number("3").whole(), number("3.5").whole(), number("-1").whole()), (Some(3), None, None));
    }
}
