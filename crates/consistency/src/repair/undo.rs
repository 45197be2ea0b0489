//! Undoing repairs from their records, under the guard under which they were made.

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::ReadConcern;

use crate::failure::Failure;
use crate::repair::apply::{Outcome, Workshop, look};
use crate::repair::{Record, Step, Trace};

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
    let find = workshop.records.find(filter).sort(doc! {"_id": -1}).read_concern(ReadConcern::majority());
    let stored: Vec<Document> = find.await?.try_collect().await?;
    stored.iter().map(Record::from_document).collect()
}

/// Puts a field back to what it was before a repair, if neither it nor what it was computed from has changed since.
///
/// # Errors
///
/// As of [`Workshop::repair`].
///
/// # Cancellation
///
/// As of [`Workshop::repair`].
pub async fn undo(workshop: &Workshop, record: &Record) -> Result<Outcome, Failure> {
    let stages: Vec<Document> = serde_json::from_str(&record.look)
        .map_err(|_| Failure::malformed("a record of a repair has odd stages"))?;
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
            return Ok(Outcome::Refused("it has been undone already"));
        }
        let now = look(&collection, &record.document, &stages, session).await?;
        let unchanged = now.and_then(|now| Step::read(now).ok()).is_some_and(|now| {
            same(&now.actual, &record.after) && same_history(&now.history, &record.history)
        });
        if !unchanged {
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

/// The same bytes: NaN is no equal of itself.
fn same(one: &Option<Bson>, other: &Option<Bson>) -> bool {
    let bytes = |value: &Option<Bson>| {
        let value = value.clone().map(|value| ("value".to_owned(), value));
        Document::from_iter(value).to_vec().ok()
    };
    bytes(one) == bytes(other)
}

fn same_history(one: &[Trace], other: &[Trace]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.path == other.path && same(&one.value, &other.value))
}
