//! The record of a repair: who changed which field and when, the values before and after, and the inputs.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use crate::failure::Failure;
use crate::repair::InputValue;

/// The author of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name of the person, as given by the caller.
    pub name: String,
    /// The users as which MongoDB has authenticated the connection.
    pub users: Vec<String>,
}

/// One change, as stored in the collection of repair records. The content is untrusted: a user who may insert there
/// can have written it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RepairRecord {
    /// Its `_id`.
    pub id: ObjectId,
    /// The id that all changes of one run have in common.
    pub run: ObjectId,
    /// The record that this one undoes, if it is an undo.
    pub undoes: Option<ObjectId>,
    /// The record of the undo of this repair, if it was undone.
    pub undone_by: Option<ObjectId>,
    /// The time of the change, by the clock of the repairing host.
    pub at: DateTime,
    /// The author.
    pub author: Author,
    /// The check.
    pub check: String,
    /// The collection of the document.
    pub collection: String,
    /// The document's `_id`.
    pub document: Bson,
    /// The field that was changed.
    pub field: String,
    /// The value before the change; `None` if the field was missing.
    pub before: Option<Bson>,
    /// The value after the change; `None` if the field was removed.
    pub after: Option<Bson>,
    /// The inputs of the value.
    pub inputs: Vec<InputValue>,
}

impl RepairRecord {
    pub(crate) fn to_document(&self) -> Document {
        let Self {
            id,
            run,
            undoes,
            undone_by,
            at,
            author,
            check,
            collection,
            document,
            field,
            before,
            after,
            inputs,
        } = self;
        let inputs: Vec<_> = inputs
            .iter()
            .map(|InputValue { path, value }| {
                let mut trace = doc! {"path": path};
                trace.extend(value.clone().map(|value| ("value".to_owned(), value)));
                trace
            })
            .collect();
        let mut stored = doc! {
            "_id": id,
            "kind": if undoes.is_some() { "undo" } else { "repair" },
            "run": run,
            "at": at,
            "by": {"name": &author.name, "users": &author.users},
            "check": check,
            "collection": collection,
            "document": document,
            "field": field,
            "inputs": inputs,
            "version": env!("CARGO_PKG_VERSION"),
        };
        // A missing value stays missing and does not become null.
        let optional = [
            ("before", before.clone()),
            ("after", after.clone()),
            ("undoes", undoes.map(Bson::ObjectId)),
            ("undoneBy", undone_by.map(Bson::ObjectId)),
        ];
        stored.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        stored
    }

    pub(crate) fn from_document(stored: &Document) -> Result<Self, Failure> {
        let invalid =
            |_| Failure::malformed("a record of a repair lacks a field, or has one of another type");
        let text = |key| stored.get_str(key).map(str::to_owned).map_err(invalid);
        let by = stored.get_document("by").map_err(invalid)?;
        let kind = if stored.contains_key("undoes") { "undo" } else { "repair" };
        if stored.get_str("kind").ok() != Some(kind) {
            return Err(Failure::malformed("the kind of a repair record contradicts its fields"));
        }
        let users = by.get_array("users").map(Vec::as_slice).unwrap_or_default();
        let users = users.iter().filter_map(|user| user.as_str().map(str::to_owned)).collect();
        // An undo does not read the inputs: they may be large, and decide nothing.
        let inputs = stored.get_array("inputs").map(Vec::as_slice).unwrap_or_default();
        let inputs = inputs.iter().filter_map(Bson::as_document).map(|trace| InputValue {
            path: trace.get_str("path").unwrap_or_default().to_owned(),
            value: trace.get("value").cloned(),
        });
        Ok(Self {
            id: stored.get_object_id("_id").map_err(invalid)?,
            run: stored.get_object_id("run").map_err(invalid)?,
            undoes: stored
                .contains_key("undoes")
                .then(|| stored.get_object_id("undoes").map_err(invalid))
                .transpose()?,
            undone_by: stored.get_object_id("undoneBy").ok(),
            at: *stored.get_datetime("at").map_err(invalid)?,
            author: Author { name: by.get_str("name").unwrap_or_default().to_owned(), users },
            check: text("check")?,
            collection: text("collection")?,
            document: stored
                .get("document")
                .cloned()
                .ok_or_else(|| Failure::malformed("a repair record lacks its document"))?,
            field: text("field")?,
            before: stored.get("before").cloned(),
            after: stored.get("after").cloned(),
            inputs: inputs.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_roundtrips_through_bson() {
        let mut record = RepairRecord {
            id: ObjectId::new(),
            run: ObjectId::new(),
            undoes: None,
            undone_by: None,
            at: DateTime::now(),
            author: Author { name: "ann@host".into(), users: vec!["root@admin".into()] },
            check: "balance".into(),
            collection: "retainers".into(),
            document: Bson::Int32(1),
            field: "balance".into(),
            before: None,
            after: Some(Bson::Null),
            inputs: vec![
                InputValue { path: "in".into(), value: Some(Bson::Array(Vec::new())) },
                InputValue { path: "out".into(), value: None },
            ],
        };
        assert_eq!(RepairRecord::from_document(&record.to_document()).unwrap(), record);
        record.undoes = Some(ObjectId::new());
        record.undone_by = Some(ObjectId::new());
        assert_eq!(RepairRecord::from_document(&record.to_document()).unwrap(), record);
        assert_eq!(record.to_document().get_str("kind").ok(), Some("undo"));
    }
}
