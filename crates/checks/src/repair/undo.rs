//! Undoing repairs, under the guard under which they were made.
//!
//! A record says which document was repaired, and what its field was before. It is believed only as far as the check goes:
//! the database, the collection, the field and the filter are those of the check, never those of the record.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;

use crate::check::Check;
use crate::failure::{Failure, Reason};
use crate::file::Checks;
use crate::pipeline;
use crate::repair::Record;
use crate::repair::apply::{Look, Outcome, Workshop, look, same};
use crate::repair::claim;
use crate::repair::plan::{derived, document};

/// Which repairs to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one of that record.
    Record(ObjectId),
    /// All of one run.
    Run(ObjectId),
}

/// More records than this are no repairs of one run: nobody holds them all to show them.
pub const MOST_RECORDS: usize = 100_000;
/// So many bytes of records are held at most, whatever somebody has put into them.
const MOST_BYTES: usize = 256 << 20;

/// What was found under the id of a repair or of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StoredRecord {
    /// A record with all that one has. Whether it is true, [`undo`] judges.
    Readable(Box<Record>),
    /// It lacks something, or holds what no record holds. It cannot be undone.
    Malformed {
        /// Its `_id`, whatever that is.
        id: Bson,
        /// What is wrong with it.
        why: String,
    },
}

impl StoredRecord {
    /// The record, if it can be read as one.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Readable(record) => Some(record),
            Self::Malformed { .. } => None,
        }
    }
}

/// The records of these repairs, the latest first. Records of undoings are not among them. The history is not read.
///
/// # Errors
///
/// If the server does not answer, or there are more than [`MOST_RECORDS`] or 256 MiB of them.
pub async fn records(workshop: &Workshop, which: Which) -> Result<Vec<StoredRecord>, Failure> {
    let mut filter = match which {
        Which::Record(id) => doc! {"_id": id},
        Which::Run(id) => doc! {"run": id},
    };
    filter.insert("kind", "repair");
    let stored = workshop.records.clone_with_type::<RawDocumentBuf>();
    let find = stored.find(filter).sort(doc! {"_id": -1}).projection(doc! {"history": 0});
    let mut cursor = find.read_concern(ReadConcern::majority()).await?;
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    while cursor.advance().await? {
        let raw = cursor.current();
        bytes = bytes.saturating_add(raw.as_bytes().len());
        if found.len() == MOST_RECORDS || bytes > MOST_BYTES {
            return Err(Failure::new(
                Reason::Other,
                format!(
                    "{} has more than {MOST_RECORDS} records, or {} MiB of them, for these repairs: no run makes so many. \
                     Undo single ones with --undo",
                    workshop.records.namespace(),
                    MOST_BYTES >> 20
                ),
            ));
        }
        let read = document(raw).and_then(|stored| Record::from_document(&stored));
        found.push(match read {
            Ok(record) => StoredRecord::Readable(Box::new(record)),
            Err(failure) => StoredRecord::Malformed {
                id: raw.get("_id").ok().flatten().and_then(|id| id.try_into().ok()).unwrap_or(Bson::Null),
                why: failure.message,
            },
        });
    }
    Ok(found)
}

/// What an undo may put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UndoOptions {
    any_value: bool,
}

impl UndoOptions {
    /// Only numbers of the type that the field has now, null, or nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether also what is no number may be put back where a number was set: a text that had been stored in its place,
    /// say. It may not unless this says so, since whoever may insert records could have written it.
    #[must_use]
    pub fn any_value(mut self, allowed: bool) -> Self {
        self.any_value = allowed;
        self
    }
}

impl Workshop {
    /// The check by which a record can be undone: the one that it names, of this database, with the same collection and
    /// field, whose repair could have replaced the one value by the other.
    ///
    /// # Errors
    ///
    /// If there is none. The text says what differs, and repeats nothing of the record.
    pub fn check_of<'a>(
        &self,
        checks: &'a Checks,
        record: &Record,
        options: UndoOptions,
    ) -> Result<&'a Check, String> {
        let check = claim::named(checks, record)?;
        claim::agrees(check, self.database.name(), record, options.any_value).map(|()| check)
    }
}

/// Puts a field back to the number that it was before a repair, or to null or nothing: [`undo_with`].
///
/// # Errors
///
/// As of [`Workshop::repair`].
///
/// # Cancellation
///
/// As of [`Workshop::repair`].
pub async fn undo(workshop: &Workshop, check: &Check, record: &Record) -> Result<Outcome, Failure> {
    undo_with(workshop, check, record, UndoOptions::new()).await
}

/// Puts a field back to what it was before a repair, if it is still byte for byte what the repair has made of it. What
/// it was computed from may have changed: inputs that were lost when it was repaired, and came back, are why it is undone.
///
/// It is refused, and nothing is written, if the record differs from the check in its name, database, collection or field, if
/// the check's filter does not select the document, or if no repair could have replaced the one value by the other.
///
/// # Errors
///
/// As of [`Workshop::repair`].
///
/// # Cancellation
///
/// As of [`Workshop::repair`].
pub async fn undo_with(
    workshop: &Workshop,
    check: &Check,
    record: &Record,
    options: UndoOptions,
) -> Result<Outcome, Failure> {
    let derived = derived(check)?;
    if let Err(why) = claim::agrees(check, workshop.database.name(), record, options.any_value) {
        return Ok(Outcome::Refused(why));
    }
    let field = [pipeline::field(&derived.field)];
    let mut stages = pipeline::selected(derived);
    stages.extend(field.clone());
    let undoing = Record {
        id: ObjectId::new(),
        run: workshop.run(),
        undoes: Some(record.id),
        undone_by: None,
        at: DateTime::now(),
        by: workshop.by.clone(),
        before: record.after.clone(),
        after: record.before.clone(),
        history: Vec::new(),
        ..record.clone()
    };
    let collection = workshop.database.collection::<Document>(&check.collection);
    let made = workshop.transact(async |session| {
        let open = doc! {"_id": record.id, "undoneBy": {"$exists": false}};
        let found = workshop.records.find_one(open.clone()).projection(doc! {"_id": 1});
        if found.session(&mut *session).await?.is_none() {
            return Ok(Outcome::Refused("it has been undone already".to_owned()));
        }
        let now = match look(&collection, &record.document, &stages, session).await? {
            Look::One(now) => now,
            Look::Several => return Ok(Outcome::Changed),
            Look::None => {
                return Ok(match look(&collection, &record.document, &field, session).await? {
                    Look::One(_) => {
                        Outcome::Refused("the check's `where` does not select the document".to_owned())
                    }
                    Look::None | Look::Several => Outcome::Changed,
                });
            }
        };
        let is_same = document(&now).is_ok_and(|now| same(now.get("actual"), record.after.as_ref()));
        if !is_same {
            return Ok(Outcome::Changed);
        }
        // In an update with operators, a value is a value, whatever it looks like.
        let change = match &undoing.after {
            Some(value) => doc! {"$set": {&derived.field: value}},
            None => doc! {"$unset": {&derived.field: ""}},
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
