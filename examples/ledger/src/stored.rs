//! Reading stored documents. Other writers change them as well: manual corrections, imports, drivers of other
//! languages. Values that can be read unambiguously are read; for all others the error names the document and the
//! field.

use std::fmt;

use mongodb::Collection;
use mongodb::bson::{Bson, RawDeserializer, RawDocumentBuf};
use serde::de::DeserializeOwned;

/// A document with an unexpected form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The collection and the `_id`.
    pub(crate) document: String,
    /// The path of the field.
    pub(crate) field: String,
    why: String,
}

/// The description for the log.
impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}: {}", self.document, self.field, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// The same collection with raw documents, for reads whose result goes through [`read`].
pub(crate) fn raw<T: Send + Sync>(collection: &Collection<T>) -> Collection<RawDocumentBuf> {
    collection.clone_with_type()
}

/// Deserializes a document of a collection.
pub(crate) fn read<T: DeserializeOwned>(
    collection: &str,
    document: &RawDocumentBuf,
) -> Result<T, Unreadable> {
    let unreadable = |field: String, why: String| {
        let id = document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
        let id = match id {
            Some(Bson::ObjectId(id)) => id.to_hex(),
            Some(id) => id.to_string(),
            None => "(no _id)".to_owned(),
        };
        Unreadable { document: format!("{collection}/{id}"), field, why }
    };
    let deserializer = RawDeserializer::new(document.as_bytes())
        .map_err(|error| unreadable("(the whole)".to_owned(), error.to_string()))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let inner = error.inner();
        unreadable(error.path().to_string(), inner.message.clone().unwrap_or_else(|| inner.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{doc, serialize_to_raw_document_buf};
    use serde::Deserialize;

    use super::*;
    use crate::Money;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Thing {
        parts: Vec<Part>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Part {
        amount: Money,
    }

    #[test]
    fn unreadable_document_error_names_field() {
        let id = ObjectId::from_bytes([7; 12]);
        for (amount, why) in [
            (Bson::from("100"), "a string is not a whole number of cents"),
            (Bson::Double(1.5), "the double 1.5 is not a whole number of cents"),
        ] {
            let thing = doc! { "_id": id, "parts": [{ "amount": 1_i64 }, { "amount": amount }] };
            let raw = serialize_to_raw_document_buf(&thing).unwrap();
            let error = read::<Thing>("things", &raw).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("things/070707070707070707070707 cannot be read: parts[1].amount: {why}")
            );
        }
        let raw = serialize_to_raw_document_buf(&doc! { "parts": [{ "amount": 2.0 }] }).unwrap();
        let parts = vec![Part { amount: Money::from_cents(2) }];
        assert_eq!(read::<Thing>("things", &raw), Ok(Thing { parts }));
        let raw = serialize_to_raw_document_buf(&doc! { "_id": 3 }).unwrap();
        let error = read::<Thing>("things", &raw).unwrap_err();
        assert_eq!((error.document.as_str(), error.why.as_str()), ("things/3", "missing field `parts`"));
    }
}
