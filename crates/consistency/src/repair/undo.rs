//! Undoing repairs from their records, under the guard under which they were made.

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;

use crate::failure::Failure;
use crate::pipeline;
use crate::repair::Record;
use crate::repair::apply::{Look, Outcome, Workshop, look, same};
use crate::repair::plan::document;

/// Which repairs to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one of that record.
    Record(ObjectId),
    /// All of one run.
    Run(ObjectId),
}

/// The records of these repairs, the latest first. Records of undoings are not among them.
///
/// # Errors
///
/// If the server does not answer, or a record is not one.
pub async fn records(workshop: &Workshop, which: Which) -> Result<Vec<Record>, Failure> {
    let mut filter = match which {
        Which::Record(id) => doc! {"_id": id},
        Which::Run(id) => doc! {"run": id},
    };
    filter.insert("kind", "repair");
    let stored = workshop.records.clone_with_type::<RawDocumentBuf>();
    let find = stored.find(filter).sort(doc! {"_id": -1}).read_concern(ReadConcern::majority());
    let stored: Vec<RawDocumentBuf> = find.await?.try_collect().await?;
    stored.iter().map(|stored| Record::from_document(&document(stored)?)).collect()
}

/// Puts a field back to what it was before a repair, if it is still byte for byte what the repair has made of it. What
/// it was computed from may have changed: inputs that were lost when it was repaired, and came back, are why it is undone.
///
/// # Errors
///
/// As of [`Workshop::repair`].
///
/// # Cancellation
///
/// As of [`Workshop::repair`].
pub async fn undo(workshop: &Workshop, record: &Record) -> Result<Outcome, Failure> {
    let stages = [pipeline::field(&record.field)];
    let undoing = Record {
        id: ObjectId::new(),
        run: workshop.run(),
        undoes: Some(record.id),
        undone_by: None,
        at: DateTime::now(),
        by: workshop.by.clone(),
        before: record.after.clone(),
        after: record.before.clone(),
        ..record.clone()
    };
    let collection = workshop.database.collection::<Document>(&record.collection);
    let made = workshop.transact(async |session| {
        let open = doc! {"_id": record.id, "undoneBy": {"$exists": false}};
        if workshop.records.find_one(open.clone()).session(&mut *session).await?.is_none() {
            return Ok(Outcome::Refused("it has been undone already".to_owned()));
        }
        let now = match look(&collection, &record.document, &stages, session).await? {
            Look::One(now) => now,
            Look::None | Look::Several => return Ok(Outcome::Changed),
        };
        let is_same = document(&now).is_ok_and(|now| same(now.get("actual"), record.after.as_ref()));
        if !is_same {
            return Ok(Outcome::Changed);
        }
        let change = match &undoing.after {
            Some(value) => doc! {"$set": {&record.field: value}},
            None => doc! {"$unset": {&record.field: ""}},
        };
        let outcome = workshop.write(&collection, &undoing, change, &mut *session).await?;
        if let Outcome::Done(_) = &outcome {
            // Of two who undo it at the same time, one conflicts here.
            let mark = doc! {"$set": {"undoneBy": undoing.id}};
            workshop.records.update_one(open, mark).session(session).await?;
        }
        Ok(outcome)
    });
    workshop.told(made.await, undoing.id).await
}
