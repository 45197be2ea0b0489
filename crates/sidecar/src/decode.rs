//! Decoding of replies, field by field.
//!
//! Servers differ in the fields that they send and in the types of numbers. A missing or invalid field costs
//! itself and nothing else, so nothing here returns an error.

use mongodb::bson::{Array, Bson, Document, RawArray, RawBson, RawDocument};

/// The result of looking up a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field<T> {
    /// The field does not exist.
    Missing,
    /// The field has an unexpected type or value.
    Invalid,
    /// The value.
    Value(T),
}

impl<T> Field<T> {
    pub(crate) fn ok(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing | Self::Invalid => None,
        }
    }

    /// Combines two fields, for example as a sum. If one is invalid, the result is invalid.
    pub(crate) fn combine<U, V>(self, other: Field<U>, with: impl FnOnce(T, U) -> V) -> Field<V> {
        match (self, other) {
            (Self::Value(one), Field::Value(other)) => Field::Value(with(one, other)),
            (Self::Invalid, _) | (_, Field::Invalid) => Field::Invalid,
            (Self::Missing, _) | (_, Field::Missing) => Field::Missing,
        }
    }

    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Missing => Field::Missing,
            Self::Invalid => Field::Invalid,
            Self::Value(value) => Field::Value(with(value)),
        }
    }
}

/// The field at a path of nested documents.
pub(crate) fn field<'a>(document: &'a Document, path: &[&str]) -> Field<&'a Bson> {
    let Some((last, parents)) = path.split_last() else { return Field::Missing };
    let mut document = document;
    for parent in parents {
        document = match document.get(parent) {
            None | Some(Bson::Null) => return Field::Missing,
            Some(Bson::Document(inner)) => inner,
            Some(_) => return Field::Invalid,
        };
    }
    match document.get(last) {
        None | Some(Bson::Null | Bson::Undefined) => Field::Missing,
        Some(value) => Field::Value(value),
    }
}

/// A finite, non-negative number of any BSON type. None of the fields that are read can be negative.
pub(crate) fn number(document: &Document, path: &[&str]) -> Field<f64> {
    match field(document, path) {
        Field::Value(value) => as_number(value).map_or(Field::Invalid, Field::Value),
        Field::Missing => Field::Missing,
        Field::Invalid => Field::Invalid,
    }
}

/// A boolean, or a number, as older servers send it.
pub(crate) fn boolean(document: &Document, path: &[&str]) -> Field<bool> {
    match field(document, path) {
        Field::Value(Bson::Boolean(boolean)) => Field::Value(*boolean),
        Field::Value(value) => as_number(value).map_or(Field::Invalid, |number| Field::Value(number != 0.0)),
        Field::Missing => Field::Missing,
        Field::Invalid => Field::Invalid,
    }
}

/// Seconds since 1970, from a date or an oplog timestamp. The epoch itself stands for "never".
pub(crate) fn timestamp(document: &Document, path: &[&str]) -> Field<f64> {
    let seconds = match field(document, path) {
        Field::Value(Bson::DateTime(date)) => {
            #[allow(
                clippy::cast_precision_loss,
                reason = "milliseconds since 1970 are exact in an f64 for 285,000 years"
            )]
            let millis = date.timestamp_millis() as f64;
            millis / 1e3
        }
        Field::Value(Bson::Timestamp(timestamp)) => f64::from(timestamp.time),
        Field::Missing => return Field::Missing,
        Field::Value(_) | Field::Invalid => return Field::Invalid,
    };
    if seconds > 0.0 { Field::Value(seconds) } else { Field::Missing }
}

/// A nested document.
pub(crate) fn document<'a>(document: &'a Document, path: &[&str]) -> Field<&'a Document> {
    match field(document, path) {
        Field::Value(Bson::Document(inner)) => Field::Value(inner),
        Field::Missing => Field::Missing,
        Field::Value(_) | Field::Invalid => Field::Invalid,
    }
}

/// A string.
pub(crate) fn text<'a>(document: &'a Document, path: &[&str]) -> Field<&'a str> {
    match field(document, path) {
        Field::Value(Bson::String(text)) => Field::Value(text),
        Field::Missing => Field::Missing,
        Field::Value(_) | Field::Invalid => Field::Invalid,
    }
}

/// The documents of an array. Elements of other types are left out.
pub(crate) fn documents<'a>(document: &'a Document, path: &[&str]) -> Field<Vec<&'a Document>> {
    match field(document, path) {
        Field::Value(Bson::Array(elements)) => {
            Field::Value(elements.iter().filter_map(Bson::as_document).collect())
        }
        Field::Missing => Field::Missing,
        Field::Value(_) | Field::Invalid => Field::Invalid,
    }
}

// ===== From bytes =====

/// Deeper than the server lets a document be.
const MAX_DEPTH: usize = 200;

/// The replacement for a value that cannot be decoded: invalid for every accessor.
const UNREADABLE: Bson = Bson::MinKey;

/// Decodes a reply that may be malformed, since clients can put invalid UTF-8 into it. A value that cannot be
/// decoded costs itself; one whose end cannot be found costs the rest of its document.
pub(crate) fn decode_lossy(raw: &RawDocument) -> Document {
    document_at(raw, 0)
}

fn document_at(raw: &RawDocument, depth: usize) -> Document {
    let elements = raw.iter_elements().map_while(Result::ok);
    // Invalid UTF-8 in a string is replaced by the replacement character.
    elements
        .map(|element| (element.key().as_str().to_owned(), value_at(element.value_utf8_lossy().ok(), depth)))
        .collect()
}

fn array_at(raw: &RawArray, depth: usize) -> Array {
    let elements = raw.iter_elements().map_while(Result::ok);
    elements.map(|element| value_at(element.value_utf8_lossy().ok(), depth)).collect()
}

fn value_at(value: Option<RawBson>, depth: usize) -> Bson {
    match value {
        Some(RawBson::Document(_) | RawBson::Array(_)) if depth == MAX_DEPTH => UNREADABLE,
        Some(RawBson::Document(raw)) => document_at(&raw, depth + 1).into(),
        Some(RawBson::Array(raw)) => array_at(&raw, depth + 1).into(),
        // Code is never read, and its scope is one more document that may be malformed.
        Some(RawBson::JavaScriptCodeWithScope(_)) | None => UNREADABLE,
        Some(value) => value.try_into().unwrap_or(UNREADABLE),
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
fn as_number(value: &Bson) -> Option<f64> {
    let number = match value {
        Bson::Int32(number) => f64::from(*number),
        Bson::Int64(number) => *number as f64,
        Bson::Double(number) => *number,
        Bson::Decimal128(number) => number.to_string().parse().ok()?,
        _ => return None,
    };
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use mongodb::bson::{Decimal128, RawDocumentBuf, doc};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn number_of_any_bson_type_is_decoded() {
        let decimal = Decimal128::from_str("1.25E+1").unwrap();
        let document = doc! {"a": {"int": 3_i32, "long": 1_i64 << 40, "double": 2.5, "decimal": decimal}};
        assert_eq!(number(&document, &["a", "int"]), Field::Value(3.0));
        assert_eq!(number(&document, &["a", "long"]), Field::Value(1_099_511_627_776.0));
        assert_eq!(number(&document, &["a", "double"]), Field::Value(2.5));
        assert_eq!(number(&document, &["a", "decimal"]), Field::Value(12.5));
    }

    #[test]
    fn missing_and_invalid_fields_are_distinguished() {
        let document =
            doc! {"a": {"text": "7", "nan": f64::NAN, "minus": -1, "yes": true, "null": Bson::Null}};
        for missing in [&["b"][..], &["b", "c"], &["a", "b"], &["a", "null"], &["a", "null", "b"], &[]] {
            assert_eq!(number(&document, missing), Field::Missing, "{missing:?}");
        }
        for invalid in ["text", "nan", "minus", "yes"] {
            assert_eq!(number(&document, &["a", invalid]), Field::Invalid, "{invalid}");
            assert_eq!(number(&document, &["a", invalid, "below"]), Field::Invalid, "{invalid}");
        }
        assert_eq!(number(&document, &["a"]), Field::Invalid);
        let huge = doc! {"a": Decimal128::from_str("9E+6000").unwrap()};
        assert_eq!(number(&huge, &["a"]), Field::Invalid, "more than an f64 holds");
    }

    #[test]
    fn booleans_and_timestamps_of_several_types_are_decoded() {
        use mongodb::bson::{DateTime, Timestamp};
        let document = doc! {
            "yes": true, "one": 1.0, "text": "true",
            "date": DateTime::from_millis(1_500), "oplog": Timestamp { time: 7, increment: 3 },
            "never": DateTime::from_millis(0),
        };
        assert_eq!(["yes", "one"].map(|name| boolean(&document, &[name])), [Field::Value(true); 2]);
        assert_eq!(
            (boolean(&document, &["text"]), boolean(&document, &["no"])),
            (Field::Invalid, Field::Missing)
        );
        assert_eq!(timestamp(&document, &["date"]), Field::Value(1.5));
        assert_eq!(timestamp(&document, &["oplog"]), Field::Value(7.0));
        assert_eq!(
            (timestamp(&document, &["never"]), timestamp(&document, &["one"])),
            (Field::Missing, Field::Invalid)
        );
    }

    #[test]
    fn invalid_array_element_is_skipped() {
        let document = doc! {"list": [{"a": 1}, 2, {"a": 3}], "text": "list"};
        assert_eq!(documents(&document, &["list"]).ok().unwrap().len(), 2);
        assert_eq!(documents(&document, &["text"]), Field::Invalid);
        assert_eq!(text(&document, &["text"]), Field::Value("list"));
        assert_eq!(text(&document, &["list"]), Field::Invalid);
    }

    /// The bytes of a document in which the first byte of a string is replaced by 0xff.
    fn with_bad_text(document: &Document, text: &str) -> RawDocumentBuf {
        let mut bytes = document.to_vec().unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        bytes[at] = 0xff;
        RawDocumentBuf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn invalid_utf8_costs_no_other_field() {
        let document = doc! {"before": 1, "deep": [{"name": "shop", "n": 2}], "after": 3};
        let raw = with_bad_text(&document, "shop");
        assert!(Document::try_from(&*raw).is_err(), "the driver itself reads none of it");
        let mut expected = document;
        expected.insert("deep", vec![doc! {"name": "\u{fffd}hop", "n": 2}]);
        assert_eq!(decode_lossy(&raw), expected);
        let raw = with_bad_text(&doc! {"before": 1, "name": 2, "after": 3}, "name");
        assert_eq!(decode_lossy(&raw), doc! {"before": 1}, "a name that is none hides what follows");
    }

    #[test]
    fn invalid_bson_value_is_an_invalid_field() {
        let mut bytes = doc! {"before": 1, "flag": true, "after": 3}.to_vec().unwrap();
        let at = bytes.windows(5).position(|window| window == b"flag\0").unwrap();
        bytes[at + 5] = 7;
        let read = decode_lossy(&RawDocumentBuf::from_bytes(bytes).unwrap());
        assert_eq!(
            (number(&read, &["before"]), number(&read, &["after"])),
            (Field::Value(1.0), Field::Value(3.0))
        );
        assert_eq!(boolean(&read, &["flag"]), Field::Invalid);
    }

    #[test]
    fn deeply_nested_document_does_not_overflow_the_stack() {
        let mut bytes = doc! {}.to_vec().unwrap();
        while bytes.len() < 100_000 {
            // As `doc! {"": inner}`, without a call for each level.
            let length = i32::try_from(bytes.len() + 7).unwrap();
            bytes = [&length.to_le_bytes()[..], &[3, 0], &bytes, &[0]].concat();
        }
        decode_lossy(&RawDocumentBuf::from_bytes(bytes).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fields_before_corrupt_bytes_are_decoded(
            at in any::<prop::sample::Index>(),
            damage in prop::collection::vec(any::<u8>(), 1..6),
        ) {
            let document = doc! {
                "first": 1, "name": "shop", "deep": {"list": [1, {"n": 2.5}, "text"], "flag": true}, "last": 4_i64,
            };
            let mut bytes = document.to_vec().unwrap();
            let body = 4..bytes.len() - 1;
            let at = body.start + at.index(body.len());
            let until = (at + damage.len()).min(body.end);
            bytes[at..until].copy_from_slice(&damage[..until - at]);
            let raw = RawDocumentBuf::from_bytes(bytes).unwrap();
            let read = decode_lossy(&raw);
            // The type, the name and the value of "first" take the eleven bytes after the length.
            if at >= body.start + 11 {
                prop_assert_eq!(number(&read, &["first"]), Field::Value(1.0));
            }
        }
    }
}
