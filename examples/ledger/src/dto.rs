//! Values with different forms in MongoDB and in JSON: an id is an ObjectId or a string, a time is a date or an RFC
//! 3339 string. One struct with one `Serialize` describes both the document and the response.

use std::fmt;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, serialize_to_raw_document_buf};
use mongodb::error::Error;
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

/// An ObjectId; in JSON its 24 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Id(pub(crate) ObjectId);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct At(pub(crate) DateTime);

impl At {
    pub(crate) fn now() -> Self {
        Self(DateTime::now())
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&rfc3339(self.0).map_err(S::Error::custom)?)
        } else {
            self.0.serialize(serializer)
        }
    }
}

/// The text always has milliseconds, so that times sort as strings too.
fn rfc3339(at: DateTime) -> Result<String, mongodb::bson::error::Error> {
    let text = at.try_to_rfc3339_string()?;
    let seconds = text.split(['.', 'Z']).next().unwrap_or(&text);
    Ok(format!("{seconds}.{:03}Z", at.timestamp_millis().rem_euclid(1000)))
}

/// Serializes a value as MongoDB stores it, for use in an update.
///
/// The value is serialized via raw BSON, as inserts are: the driver's conversion to a `Document` uses the
/// human-readable form, in which an id would be a string.
pub(crate) fn stored<T: Serialize>(value: &T) -> Result<Document, Error> {
    Ok(Document::try_from(serialize_to_raw_document_buf(value)?)?)
}

/// `{"retainer": {…}}`
#[derive(Debug)]
pub(crate) struct Named<'a, T>(pub(crate) &'static str, pub(crate) &'a T);

impl<T: Serialize> Serialize for Named<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, doc};

    use super::*;
    use crate::Money;

    #[test]
    fn times_have_milliseconds_and_sort_as_strings() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_440, "2023-11-14T22:13:20.440Z"),
            (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(DateTime::from_millis(millis)).unwrap(), text);
        }
    }

    #[derive(serde::Serialize)]
    struct Thing {
        _id: Id,
        at: At,
        amount: Money,
    }

    #[test]
    fn one_struct_serializes_as_document_and_response() {
        let (id, at) = (ObjectId::from_bytes([7; 12]), DateTime::from_millis(1_700_000_000_123));
        let thing = Thing { _id: Id(id), at: At(at), amount: Money::from_cents(1250) };
        assert_eq!(stored(&thing).unwrap(), doc! { "_id": id, "at": at, "amount": Bson::Int64(1250) });
        assert_eq!(
            serde_json::to_string(&Named("thing", &thing)).unwrap(),
            r#"{"thing":{"_id":"070707070707070707070707","at":"2023-11-14T22:13:20.123Z","amount":12.5}}"#
        );
    }
}
