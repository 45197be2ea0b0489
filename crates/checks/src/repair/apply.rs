//! Makes one repair: reads the document again, corrects the field and writes the record, in one transaction.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, ClientSession, Collection, Database};
use txnscope_mongo::server_code;

use crate::check::Check;
use crate::failure::{Failure, Reason};
use crate::pipeline;
use crate::repair::plan::{TWINS, derived, document};
use crate::repair::{Author, Repair, RepairRecord, Step};

/// Makes repairs in one database, and records them.
#[derive(Debug, Clone)]
pub struct Repairer {
    client: Client,
    pub(crate) database: Database,
    pub(crate) records: Collection<Document>,
    pub(crate) author: Author,
    run: ObjectId,
}

/// The outcome of a repair or an undo.
#[derive(Debug, Clone, PartialEq)]
pub enum RepairOutcome {
    /// The repair was committed, with this record.
    Done(Box<RepairRecord>),
    /// The document has changed since it was read, or no longer exists. Nothing was written.
    Changed,
    /// There was nothing to do, or the repair is not possible, for this reason. Nothing was written.
    Refused(String),
}

fn users(status: &Document) -> Vec<String> {
    let info = status.get_document("authInfo").and_then(|info| info.get_array("authenticatedUsers"));
    let users = info.map(Vec::as_slice).unwrap_or_default().iter().filter_map(Bson::as_document);
    users
        .filter_map(|user| Some(format!("{}@{}", user.get_str("user").ok()?, user.get_str("db").ok()?)))
        .collect()
}

/// The result of a lookup by `_id` in a transaction.
#[derive(Debug)]
pub(crate) enum Matches {
    None,
    One(RawDocumentBuf),
    /// More than one document has the `_id`, so the lookup is ambiguous.
    Several,
}

/// Finds the document with an `_id`, and applies stages to it.
pub(crate) async fn find_by_id(
    collection: &Collection<Document>,
    id: &Bson,
    stages: &[Document],
    session: &mut ClientSession,
) -> Result<Matches, Error> {
    let only = doc! {"$match": {"_id": {"$eq": id}}};
    let stages = [only].into_iter().chain(stages.iter().cloned());
    let aggregate = collection.aggregate(stages).with_type::<RawDocumentBuf>();
    let mut cursor = aggregate.session(&mut *session).await?;
    let Some(first) = cursor.next(&mut *session).await.transpose()? else { return Ok(Matches::None) };
    Ok(match cursor.next(session).await.transpose()? {
        None => Matches::One(first),
        Some(_) => Matches::Several,
    })
}

/// Whether two values are equal byte for byte: NaN does not equal itself.
pub(crate) fn same(one: Option<&Bson>, other: Option<&Bson>) -> bool {
    let bytes = |value: Option<&Bson>| {
        let value = value.map(|value| ("value".to_owned(), value.clone()));
        Document::from_iter(value).to_vec().ok()
    };
    bytes(one) == bytes(other)
}

impl Repairer {
    /// Connects to a database and creates the collection of repair records if it does not exist. A transaction that
    /// creates a collection would conflict with every other one, so the collection must exist beforehand.
    ///
    /// `author` is the name of the person who repairs; the users as which MongoDB has authenticated the connection are
    /// added to it.
    ///
    /// # Errors
    ///
    /// If the server does not respond, or the user may not create the collection.
    pub async fn connect(
        client: &Client,
        database: &str,
        records: &str,
        author: &str,
    ) -> Result<Self, Failure> {
        const NAMESPACE_EXISTS: i32 = 48;
        let status = client.database("admin").run_command(doc! {"connectionStatus": 1}).await?;
        let database = client.database(database);
        match database.create_collection(records).await {
            Err(error) if server_code(&error) != Some(NAMESPACE_EXISTS) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        Ok(Self {
            client: client.clone(),
            records: database.collection(records),
            database,
            author: Author { name: author.to_owned(), users: users(&status) },
            run: ObjectId::new(),
        })
    }

    /// The id that all records of this run have in common.
    #[must_use]
    pub fn run(&self) -> ObjectId {
        self.run
    }

    /// Makes one repair of a plan, if the document has not changed since it was read.
    ///
    /// # Errors
    ///
    /// If the server does not respond or rejects a command; nothing was written then. If the result of the commit is
    /// unknown, the message says so, with the id of the record that tells whether it was committed.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the repair is committed with its record or not at all. The server ends a transaction
    /// that remains open.
    pub async fn repair(&self, check: &Check, step: &Step) -> Result<RepairOutcome, Failure> {
        let derived = derived(check)?;
        let value = match &step.repair {
            Repair::Set(value) => value,
            Repair::Impossible(why) => return Ok(RepairOutcome::Refused(why.clone())),
        };
        let mut stages = pipeline::selected(derived);
        stages.extend(pipeline::inputs(derived));
        stages.push(pipeline::evidence(derived));
        let record = RepairRecord {
            id: ObjectId::new(),
            run: self.run,
            undoes: None,
            undone_by: None,
            at: DateTime::now(),
            author: self.author.clone(),
            check: check.name.clone(),
            collection: check.collection.clone(),
            document: step.id.clone(),
            field: derived.field.clone(),
            before: step.actual.clone(),
            after: Some(value.clone()),
            inputs: step.inputs.clone(),
        };
        let collection = self.database.collection::<Document>(&check.collection);
        let made = self.transact(async |session: &mut ClientSession| {
            let now = match find_by_id(&collection, &step.id, &stages, session).await? {
                Matches::None => return Ok(RepairOutcome::Changed),
                Matches::One(now) => now,
                Matches::Several => return Ok(RepairOutcome::Refused(TWINS.to_owned())),
            };
            // Bytes are compared instead of values: NaN does not equal itself, and 1 and 1.0 differ for some readers.
            if now.as_bytes() != step.fingerprint {
                return Ok(RepairOutcome::Changed);
            }
            // The value as stored: a $group returns null for a missing field, and other stages may change it as well.
            let field = [pipeline::field(&record.field)];
            let mut record = record.clone();
            record.before = match find_by_id(&collection, &step.id, &field, session).await? {
                Matches::One(field) => match document(&field) {
                    Ok(field) => field.get("actual").cloned(),
                    Err(_) => return Ok(RepairOutcome::Changed),
                },
                Matches::None | Matches::Several => return Ok(RepairOutcome::Changed),
            };
            let was_missing = record.before.is_none() && step.actual == Some(Bson::Null);
            if !was_missing && !same(record.before.as_ref(), step.actual.as_ref()) {
                return Ok(RepairOutcome::Refused(
                    "the stages of the check change the field that is to be repaired".to_owned(),
                ));
            }
            let change = doc! {"$set": {&record.field: value}};
            let outcome = self.write(&collection, &record, change, &mut *session).await?;
            let RepairOutcome::Done(_) = &outcome else { return Ok(outcome) };
            let set = |now: &RawDocumentBuf| {
                document(now).is_ok_and(|now| {
                    now.get("actual") == Some(value) && now.get("violates") == Some(&Bson::Boolean(false))
                })
            };
            match find_by_id(&collection, &step.id, &stages, session).await? {
                Matches::One(now) if set(&now) => Ok(outcome),
                // The field is computed from itself, for example, or the filter depends on it.
                _ => Ok(RepairOutcome::Refused(
                    "the check would still be violated after the repair".to_owned(),
                )),
            }
        });
        self.resolve_unknown_commit(made.await, record.id).await
    }

    /// Writes the change and its record.
    pub(crate) async fn write(
        &self,
        collection: &Collection<Document>,
        record: &RepairRecord,
        change: Document,
        session: &mut ClientSession,
    ) -> Result<RepairOutcome, Error> {
        let this = doc! {"_id": {"$eq": &record.document}};
        let result = collection.update_one(this, change).session(&mut *session).await?;
        if result.matched_count != 1 {
            return Ok(RepairOutcome::Changed);
        }
        self.records.insert_one(record.to_document()).session(session).await?;
        Ok(RepairOutcome::Done(Box::new(record.clone())))
    }

    /// Runs a transaction with the driver's own retry loop, which retries after a conflict or an election, and
    /// retries the commit until its result is known, for up to two minutes.
    pub(crate) async fn transact(
        &self,
        mut work: impl AsyncFnMut(&mut ClientSession) -> Result<RepairOutcome, Error>,
    ) -> Result<RepairOutcome, Error> {
        let mut session = self.client.start_session().await?;
        let made = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .and_run2(async |session: &mut ClientSession| match work(session).await? {
                done @ RepairOutcome::Done(_) => Ok(done),
                // An error makes the driver abort. A commit would wait for a majority without need.
                nothing => Err(Error::custom(nothing)),
            })
            .await;
        match made {
            Err(error) => match error.get_custom::<RepairOutcome>() {
                Some(nothing) => Ok(nothing.clone()),
                None => Err(error),
            },
            done => done,
        }
    }

    /// Resolves an unknown commit result: the transaction was committed if its record exists.
    pub(crate) async fn resolve_unknown_commit(
        &self,
        made: Result<RepairOutcome, Error>,
        id: ObjectId,
    ) -> Result<RepairOutcome, Failure> {
        let error = match made {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if !error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
            return Err(error.into());
        }
        let records = self.records.clone_with_type::<RawDocumentBuf>();
        let record = records.find_one(doc! {"_id": id}).read_concern(ReadConcern::majority()).await;
        match record {
            Ok(Some(record)) => {
                Ok(RepairOutcome::Done(Box::new(RepairRecord::from_document(&document(&record)?)?)))
            }
            Ok(None) | Err(_) => Err(Failure::new(
                Reason::Interrupted,
                format!(
                    "the result of the commit is unknown: it succeeded if {} contains the record {id}",
                    self.records.namespace()
                ),
            )),
        }
    }
}
