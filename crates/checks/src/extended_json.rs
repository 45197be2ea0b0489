//! Values as Extended JSON for terminals and logs.

use mongodb::bson::Bson;
use txnscope_catalog::escape_line;

/// Formats a value as Extended JSON on one line. Plain JSON has neither NaN nor infinity and would show null. Control
/// characters that could affect a terminal, a log or a page are escaped as JSON escapes them.
#[must_use]
pub fn extended_json(value: &Bson) -> String {
    escape_line(&json(value)).into_owned()
}

fn json(value: &Bson) -> String {
    match value {
        Bson::Document(document) => {
            let fields = document.iter().map(|(key, value)| format!("{}:{}", plain(key), json(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Bson::Array(elements) => {
            format!("[{}]", elements.iter().map(json).collect::<Vec<_>>().join(","))
        }
        Bson::Double(number) if number.is_nan() => r#"{"$numberDouble":"NaN"}"#.to_owned(),
        Bson::Double(number) if number.is_infinite() => {
            let sign = if *number < 0.0 { "-" } else { "" };
            format!(r#"{{"$numberDouble":"{sign}Infinity"}}"#)
        }
        other => serde_json::to_string(other)
            .unwrap_or_else(|_| "\"(a value that JSON cannot represent)\"".to_owned()),
    }
}

fn plain(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let value = doc! {"a\u{202e}": "b\u{9b}\u{2028}\u{1b}\u{7f}\n\u{e0041}c\\"};
        let shown = extended_json(&value.clone().into());
        assert_eq!(shown, r#"{"a\u202e":"b\u009b\u2028\u001b\u007f\n\udb40\udc41c\\"}"#);
        assert_eq!(serde_json::from_str::<Bson>(&shown).unwrap(), value.into());
    }

    #[test]
    fn nan_and_infinity_use_extended_json() {
        let value = doc! {"a\n": [f64::NAN, f64::NEG_INFINITY, 1.5, 2_i64], "b": {"c": "x"}, "n": Bson::Null};
        let shown =
            r#"{"a\n":[{"$numberDouble":"NaN"},{"$numberDouble":"-Infinity"},1.5,2],"b":{"c":"x"},"n":null}"#;
        assert_eq!(extended_json(&value.clone().into()), shown);
        let back = serde_json::from_str::<Bson>(shown).unwrap();
        assert_eq!(
            back.to_string(),
            Bson::from(doc! {"a\n": [f64::NAN, f64::NEG_INFINITY, 1.5, 2], "b": {"c": "x"}, "n": Bson::Null})
                .to_string()
        );
    }
}
