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
use crate::repair::RepairRecord;
use crate::repair::apply::{Matches, RepairOutcome, Repairer, look, same};
use crate::repair::plan::{derived, document};
use crate::repair::verification;

/// Which repairs to undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoSelector {
    /// The repair with that record.
    Record(ObjectId),
    /// All repairs of one run.
    Run(ObjectId),
}

/// More records than this are no repairs of one run: nobody holds them all to show them.
pub const MAX_RECORDS: usize = 100_000;
/// So many bytes of records are held at most, whatever somebody has put into them.
const MOST_BYTES: usize = 256 << 20;

/// What was found under the id of a repair or of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StoredRecord {
    /// A record with all that one has. Whether it is true, [`undo`] judges.
    Readable(Box<RepairRecord>),
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
    pub fn record(&self) -> Option<&RepairRecord> {
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
/// If the server does not answer, or there are more than [`MAX_RECORDS`] or 256 MiB of them.
pub async fn records(repairer: &Repairer, selector: UndoSelector) -> Result<Vec<StoredRecord>, Failure> {
    let mut filter = match selector {
        UndoSelector::Record(id) => doc! {"_id": id},
        UndoSelector::Run(id) => doc! {"run": id},
    };
    filter.insert("kind", "repair");
    let stored = repairer.records.clone_with_type::<RawDocumentBuf>();
    let find = stored.find(filter).sort(doc! {"_id": -1}).projection(doc! {"inputs": 0});
    let mut cursor = find.read_concern(ReadConcern::majority()).await?;
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    while cursor.advance().await? {
        let raw = cursor.current();
        bytes = bytes.saturating_add(raw.as_bytes().len());
        if found.len() == MAX_RECORDS || bytes > MOST_BYTES {
            return Err(Failure::new(
                Reason::Other,
                format!(
                    "{} has more than {MAX_RECORDS} records, or {} MiB of them, for these repairs: no run makes so many. \
                     Undo single ones with --undo",
                    repairer.records.namespace(),
                    MOST_BYTES >> 20
                ),
            ));
        }
        let read = document(raw).and_then(|stored| RepairRecord::from_document(&stored));
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

impl Repairer {
    /// The check by which a record can be undone: the one that it names, of this database, with the same collection and
    /// field, whose repair could have replaced the one value by the other.
    ///
    /// # Errors
    ///
    /// If there is none. The text says what differs, and repeats nothing of the record.
    pub fn check_of<'a>(
        &self,
        checks: &'a Checks,
        record: &RepairRecord,
        options: UndoOptions,
    ) -> Result<&'a Check, String> {
        let check = verification::named(checks, record)?;
        verification::agrees(check, self.database.name(), record, options.any_value).map(|()| check)
    }
}

/// Puts a field back to the number that it was before a repair, or to null or nothing: [`undo_with`].
///
/// # Errors
///
/// As of [`Repairer::repair`].
///
/// # Cancellation
///
/// As of [`Repairer::repair`].
pub async fn undo(
    repairer: &Repairer,
    check: &Check,
    record: &RepairRecord,
) -> Result<RepairOutcome, Failure> {
    undo_with(repairer, check, record, UndoOptions::new()).await
}

/// Puts a field back to what it was before a repair, if it is still byte for byte what the repair has made of it. What
/// it was computed from may have changed: inputs that were lost when it was repaired, and came back, are why it is undone.
///
/// It is refused, and nothing is written, if the record differs from the check in its name, database, collection or field, if
/// the check's filter does not select the document, or if no repair could have replaced the one value by the other.
///
/// # Errors
///
/// As of [`Repairer::repair`].
///
/// # Cancellation
///
/// As of [`Repairer::repair`].
pub async fn undo_with(
    repairer: &Repairer,
    check: &Check,
    record: &RepairRecord,
    options: UndoOptions,
) -> Result<RepairOutcome, Failure> {
    let derived = derived(check)?;
    if let Err(why) = verification::agrees(check, repairer.database.name(), record, options.any_value) {
        return Ok(RepairOutcome::Refused(why));
    }
    let field = [pipeline::field(&derived.field)];
    let mut stages = pipeline::selected(derived);
    stages.extend(field.clone());
    let undoing = RepairRecord {
        id: ObjectId::new(),
        run: repairer.run(),
        undoes: Some(record.id),
        undone_by: None,
        at: DateTime::now(),
        author: repairer.author.clone(),
        before: record.after.clone(),
        after: record.before.clone(),
        inputs: Vec::new(),
        ..record.clone()
    };
    let collection = repairer.database.collection::<Document>(&check.collection);
    let made = repairer.transact(async |session| {
        let open = doc! {"_id": record.id, "undoneBy": {"$exists": false}};
        let found = repairer.records.find_one(open.clone()).projection(doc! {"_id": 1});
        if found.session(&mut *session).await?.is_none() {
            return Ok(RepairOutcome::Refused("it has been undone already".to_owned()));
        }
        let now = match look(&collection, &record.document, &stages, session).await? {
            Matches::One(now) => now,
            Matches::Several => return Ok(RepairOutcome::Changed),
            Matches::None => {
                return Ok(match look(&collection, &record.document, &field, session).await? {
                    Matches::One(_) => {
                        RepairOutcome::Refused("the check's `where` does not select the document".to_owned())
                    }
                    Matches::None | Matches::Several => RepairOutcome::Changed,
                });
            }
        };
        let is_same = document(&now).is_ok_and(|now| same(now.get("actual"), record.after.as_ref()));
        if !is_same {
            return Ok(RepairOutcome::Changed);
        }
        // In an update with operators, a value is a value, whatever it looks like.
        let change = match &undoing.after {
            Some(value) => doc! {"$set": {&derived.field: value}},
            None => doc! {"$unset": {&derived.field: ""}},
        };
        let outcome = repairer.write(&collection, &undoing, change, &mut *session).await?;
        if let RepairOutcome::Done(_) = &outcome {
            // Of two who undo it at the same time, one conflicts here.
            let mark = doc! {"$set": {"undoneBy": undoing.id}};
            repairer.records.update_one(open, mark).session(session).await?;
        }
        Ok(outcome)
    });
    repairer.told(made.await, undoing.id).await
}
