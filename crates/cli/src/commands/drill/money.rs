//! Amounts in the JSON of the backend: numbers with at most two decimals.

use serde_json::Value;

/// The exact amount in cents, or why the value is no amount.
pub(crate) fn cents(value: &Value) -> Result<i64, String> {
    let Value::Number(number) = value else { return Err(format!("not a number: {value}")) };
    let text = number.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    // `0.10` equals `0.1`; `0.1000001` is a rounding error of a float.
    let decimals = decimals.trim_end_matches('0');
    let digits: Option<i64> = match decimals.len() {
        0..=2 => format!("{whole}{decimals:0<2}").parse().ok(),
        _ => None,
    };
    digits.ok_or_else(|| format!("not an amount of whole cents: {text}"))
}

/// Formats an amount in cents: 123450 is `1234.50`.
pub(crate) fn format_cents(cents: i64) -> String {
    let (sign, cents) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
    match cents % 100 {
        0 => format!("{sign}{}", cents / 100),
        part => format!("{sign}{}.{part:02}", cents / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<i64, String> {
        cents(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn amounts_are_parsed_exactly() {
        for (text, expected) in [
            ("200", 20_000),
            ("0.1", 10),
            ("0.05", 5),
            ("-0.05", -5),
            ("-7000", -700_000),
            ("12.50", 1_250),
            ("9999999999999.99", 999_999_999_999_999),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for text in ["\"200\"", "null", "0.30000000000000004", "1e300"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_formatted() {
        for (cents, text) in [(0, "0"), (20_000, "200"), (725, "7.25"), (-5, "-0.05"), (-700_000, "-7000")] {
            assert_eq!(format_cents(cents), text);
        }
    }
}
