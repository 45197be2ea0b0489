//! What Prometheus's HTTP API answers, read field by field: whatever stands in between may answer in its place.

use std::collections::BTreeMap;

use serde_json::Value;
use txnscope_catalog::Line;

/// The most bytes of a foreign text that are repeated.
const MOST: usize = 300;

/// Labels and their values.
pub(crate) type Labels = BTreeMap<String, String>;

/// One series of an instant query's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// One series of a range query's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// Seconds since 1970, and the value then.
    pub(crate) values: Vec<(f64, f64)>,
}

/// What an answer that says no says. Shortened and escaped: it goes to a terminal.
pub(crate) fn error(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let said = answer.get("error").or_else(|| answer.get("message"))?.as_str()?;
    Some(plain(said))
}

/// A foreign text as it may be shown.
pub(crate) fn plain(text: &str) -> String {
    Line::new(text, MOST).to_string()
}

/// The part `data` of an answer that says success.
pub(crate) fn data(answer: &Value) -> Result<&Value, String> {
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        return Err("it has no `status: success`; is this Prometheus?".to_owned());
    }
    answer.get("data").ok_or_else(|| "it has no `data`".to_owned())
}

/// The samples of an instant query.
pub(crate) fn vector(answer: &Value) -> Result<Vec<Sample>, String> {
    let one = |series: &Value| {
        let (_, value) = point(series.get("value").ok_or("a series has no value")?)?;
        Ok(Sample { labels: labels(series)?, value })
    };
    result(answer, "vector")?.iter().map(one).collect()
}

/// The series of a range query.
pub(crate) fn matrix(answer: &Value) -> Result<Vec<Series>, String> {
    let one = |series: &Value| {
        let values = series.get("values").and_then(Value::as_array).ok_or("a series has no values")?;
        let values = values.iter().map(point).collect::<Result<_, String>>()?;
        Ok(Series { labels: labels(series)?, values })
    };
    result(answer, "matrix")?.iter().map(one).collect()
}

fn result<'a>(answer: &'a Value, kind: &str) -> Result<&'a Vec<Value>, String> {
    let data = data(answer)?;
    if data.get("resultType").and_then(Value::as_str) != Some(kind) {
        return Err(format!("it is no {kind}"));
    }
    data.get("result").and_then(Value::as_array).ok_or_else(|| "it has no list `result`".to_owned())
}

fn labels(series: &Value) -> Result<Labels, String> {
    let metric = series.get("metric").and_then(Value::as_object).ok_or("a series has no labels")?;
    let one = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| "a label is no text".to_owned())?;
        Ok((name.clone(), value.to_owned()))
    };
    metric.iter().map(one).collect()
}

/// `[1700000000.123, "1.5"]`; the value may be `NaN` or `+Inf`.
fn point(point: &Value) -> Result<(f64, f64), String> {
    let Some([time, value]) = point.as_array().map(Vec::as_slice) else {
        return Err("a value is no pair".to_owned());
    };
    let time = time.as_f64().ok_or("a time is no number")?;
    let text = value.as_str().ok_or("a value is no text")?;
    let value = text.parse().map_err(|_| "a value is no number".to_owned())?;
    Ok((time, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_ordinary_answer_is_read() {
        let answer = json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"job": "ledger"}, "value": [1.5, "2.5"]}, {"metric": {}, "value": [1.5, "+Inf"]},
        ]}});
        let samples = vector(&answer).unwrap();
        assert_eq!(samples[0].labels["job"], "ledger");
        assert_eq!([samples[0].value, samples[1].value], [2.5, f64::INFINITY]);
        let answer = json!({"status": "success", "data": {"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1, "2"], [3, "NaN"]]},
        ]}});
        assert_eq!(matrix(&answer).unwrap()[0].values[0], (1.0, 2.0));
        assert!(matrix(&answer).unwrap()[0].values[1].1.is_nan());
    }

    #[test]
    fn what_a_service_says_cannot_steer_a_terminal() {
        let body = format!("{{\"error\": \"\\u001b[2J{}\"}}", "x".repeat(1000));
        let said = error(body.as_bytes()).unwrap();
        assert!(said.starts_with("\\u001b[2Jxxx") && said.len() == MOST + "…".len(), "{said:?}");
        assert_eq!(error(b"<html>"), None);
    }

    fn anything() -> impl Strategy<Value = Value> {
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
        fn no_answer_is_a_panic(answer in anything()) {
            let _ = (vector(&answer), matrix(&answer), data(&answer));
            let inside = json!({"status": "success", "data": {"resultType": "vector", "result": [answer]}});
            prop_assert!(vector(&inside).is_ok_and(|samples| samples.len() == 1) || vector(&inside).is_err());
        }

        #[test]
        fn no_body_is_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = error(&body);
        }
    }
}
