//! Responses of Prometheus's HTTP API, decoded field by field, since a proxy may respond in its place.

use std::collections::BTreeMap;

use serde_json::Value;
use txnscope_catalog::Line;

/// The maximum length of a foreign text that is repeated, in bytes.
const MAX_TEXT_LENGTH: usize = 300;

/// Labels and their values.
pub(crate) type Labels = BTreeMap<String, String>;

/// One series of the result of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// One series of the result of a range query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// Times in seconds since 1970, each with the value.
    pub(crate) values: Vec<(f64, f64)>,
}

/// The message of an error response, cut and escaped for a terminal.
pub(crate) fn error(body: &[u8]) -> Option<String> {
    let response: Value = serde_json::from_slice(body).ok()?;
    let message = response.get("error").or_else(|| response.get("message"))?.as_str()?;
    Some(plain(message))
}

/// A foreign text, cut and escaped for a terminal.
pub(crate) fn plain(text: &str) -> String {
    Line::new(text, MAX_TEXT_LENGTH).to_string()
}

/// The field `data` of a successful response.
pub(crate) fn data(response: &Value) -> Result<&Value, String> {
    if response.get("status").and_then(Value::as_str) != Some("success") {
        return Err("it has no `status: success`; is this Prometheus?".to_owned());
    }
    response.get("data").ok_or_else(|| "it has no `data`".to_owned())
}

/// The samples of an instant query.
pub(crate) fn vector(response: &Value) -> Result<Vec<Sample>, String> {
    let one = |series: &Value| {
        let (_, value) = point(series.get("value").ok_or("a series has no value")?)?;
        Ok(Sample { labels: labels(series)?, value })
    };
    result(response, "vector")?.iter().map(one).collect()
}

/// The series of a range query.
pub(crate) fn matrix(response: &Value) -> Result<Vec<Series>, String> {
    let one = |series: &Value| {
        let values = series.get("values").and_then(Value::as_array).ok_or("a series has no values")?;
        let values = values.iter().map(point).collect::<Result<_, String>>()?;
        Ok(Series { labels: labels(series)?, values })
    };
    result(response, "matrix")?.iter().map(one).collect()
}

fn result<'a>(response: &'a Value, kind: &str) -> Result<&'a Vec<Value>, String> {
    let data = data(response)?;
    if data.get("resultType").and_then(Value::as_str) != Some(kind) {
        return Err(format!("it is not a {kind}"));
    }
    data.get("result").and_then(Value::as_array).ok_or_else(|| "it has no list `result`".to_owned())
}

fn labels(series: &Value) -> Result<Labels, String> {
    let metric = series.get("metric").and_then(Value::as_object).ok_or("a series has no labels")?;
    let one = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| "a label is not a string".to_owned())?;
        Ok((name.clone(), value.to_owned()))
    };
    metric.iter().map(one).collect()
}

/// `[1700000000.123, "1.5"]`; the value may be `NaN` or `+Inf`.
fn point(point: &Value) -> Result<(f64, f64), String> {
    let Some([time, value]) = point.as_array().map(Vec::as_slice) else {
        return Err("a value is not a pair".to_owned());
    };
    let time = time.as_f64().ok_or("a time is not a number")?;
    let text = value.as_str().ok_or("a value is not a string")?;
    let value = text.parse().map_err(|_| "a value is not a number".to_owned())?;
    Ok((time, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn vector_and_matrix_are_decoded() {
        let response = json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"job": "ledger"}, "value": [1.5, "2.5"]}, {"metric": {}, "value": [1.5, "+Inf"]},
        ]}});
        let samples = vector(&response).unwrap();
        assert_eq!(samples[0].labels["job"], "ledger");
        assert_eq!([samples[0].value, samples[1].value], [2.5, f64::INFINITY]);
        let response = json!({"status": "success", "data": {"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1, "2"], [3, "NaN"]]},
        ]}});
        assert_eq!(matrix(&response).unwrap()[0].values[0], (1.0, 2.0));
        assert!(matrix(&response).unwrap()[0].values[1].1.is_nan());
    }

    #[test]
    fn error_message_is_escaped_and_cut() {
        let body = format!("{{\"error\": \"\\u001b[2J{}\"}}", "x".repeat(1000));
        let said = error(body.as_bytes()).unwrap();
        assert!(said.starts_with("\\u001b[2Jxxx") && said.len() == MAX_TEXT_LENGTH + "…".len(), "{said:?}");
        assert_eq!(error(b"<html>"), None);
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("success".to_owned()),
            Just("vector".to_owned()),
            Just("matrix".to_owned()),
            ".{0,4}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("status"),
            Just("data"),
            Just("resultType"),
            Just("result"),
            Just("metric"),
            Just("value"),
            Just("values"),
            Just("error"),
        ];
        leaf.prop_recursive(5, 64, 5, move |inner| {
            let key = key.clone().prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_response_does_not_panic(response in arbitrary_json()) {
            let _ = (vector(&response), matrix(&response), data(&response));
            let inside = json!({"status": "success", "data": {"resultType": "vector", "result": [response]}});
            prop_assert!(vector(&inside).is_ok_and(|samples| samples.len() == 1) || vector(&inside).is_err());
        }

        #[test]
        fn arbitrary_body_does_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = error(&body);
        }
    }
}
