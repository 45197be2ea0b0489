//! Undoes repairs, with the same guards as a repair.
//!
//! A record names the repaired document and the value before the repair. It is trusted only as far as the check
//! allows: the database, the collection, the field and the filter are those of the check, never those of the record.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;

use crate::check::Check;
use crate::failure::{Failure, Reason};
use crate::file::Checks;
use crate::pipeline;
use crate::repair::RepairRecord;
use crate::repair::apply::{Matches, RepairOutcome, Repairer, find_by_id, same};
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

/// The maximum number of records of one run. More cannot result from repairs, and could not be shown.
pub const MAX_RECORDS: usize = 100_000;
/// The maximum size of all records in bytes, because their content is untrusted.
const MOST_BYTES: usize = 256 << 20;

/// A document found under the id of a repair or of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StoredRecord {
    /// A complete record. [`undo`] decides whether it can be trusted.
    Readable(Box<RepairRecord>),
    /// A malformed record, which cannot be undone.
    Malformed {
        /// The `_id`, of any type.
        id: Bson,
        /// The reason why the record is malformed.
        why: String,
    },
}

impl StoredRecord {
    /// The record, if it is well formed.
    #[must_use]
    pub fn record(&self) -> Option<&RepairRecord> {
        match self {
            Self::Readable(record) => Some(record),
            Self::Malformed { .. } => None,
        }
    }
}

/// Reads the records of repairs, the latest first, without records of undos and without inputs.
///
/// # Errors
///
/// If the server does not respond, or there are more than [`MAX_RECORDS`] records or 256 MiB of them.
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
                    "{} has more than {MAX_RECORDS} records, or {} MiB of them, for these repairs: no run makes that many. \
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

/// The options of an undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UndoOptions {
    any_value: bool,
}

impl UndoOptions {
    /// Allows restoring only numbers of the field's present type, null, or a missing field.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a value that is not a number may be restored as well, such as a string that a repair has replaced. The
    /// default is that it may not, because a user who may insert records could have written it.
    #[must_use]
    pub fn any_value(mut self, allowed: bool) -> Self {
        self.any_value = allowed;
        self
    }
}

impl Repairer {
    /// The check with which a record can be undone: it has the record's name, database, collection and field, and a
    /// repair by it could have replaced the one value by the other.
    ///
    /// # Errors
    ///
    /// If there is none. The message states the difference, and repeats no content of the record.
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

/// Restores the number, null or missing field from before a repair; see [`undo_with`].
///
/// # Errors
///
/// As for [`Repairer::repair`].
///
/// # Cancellation
///
/// As for [`Repairer::repair`].
pub async fn undo(
    repairer: &Repairer,
    check: &Check,
    record: &RepairRecord,
) -> Result<RepairOutcome, Failure> {
    undo_with(repairer, check, record, UndoOptions::new()).await
}

/// Restores the value from before a repair, if the field still equals the repaired value byte for byte. The inputs
/// may have changed: a repair made while inputs were lost is undone when they return.
///
/// The undo is rejected, and nothing is written, if the record differs from the check in its name, database,
/// collection or field, if the check's filter does not select the document, or if no repair could have replaced the
/// one value by the other.
///
/// # Errors
///
/// As for [`Repairer::repair`].
///
/// # Cancellation
///
/// As for [`Repairer::repair`].
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
            return Ok(RepairOutcome::Refused("the repair has already been undone".to_owned()));
        }
        let now = match find_by_id(&collection, &record.document, &stages, session).await? {
            Matches::One(now) => now,
            Matches::Several => return Ok(RepairOutcome::Changed),
            Matches::None => {
                return Ok(match find_by_id(&collection, &record.document, &field, session).await? {
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
        // In an update with operators, any value is taken literally.
        let change = match &undoing.after {
            Some(value) => doc! {"$set": {&derived.field: value}},
            None => doc! {"$unset": {&derived.field: ""}},
        };
        let outcome = repairer.write(&collection, &undoing, change, &mut *session).await?;
        if let RepairOutcome::Done(_) = &outcome {
            // Two concurrent undos conflict here.
            let mark = doc! {"$set": {"undoneBy": undoing.id}};
            repairer.records.update_one(open, mark).session(session).await?;
        }
        Ok(outcome)
    });
    repairer.resolve_unknown_commit(made.await, undoing.id).await
}
