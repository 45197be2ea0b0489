//! Evaluates one check: on one snapshot of the data, within a time limit, and with bounded memory on both ends.

use std::time::Duration;

use mongodb::bson::{Document, deserialize_from_document, doc};
use mongodb::error::Error;
use mongodb::options::{ReadConcern, SelectionCriteria};
use mongodb::{Client, ClientSession, SessionCursor};
use tokio::time::Instant;
use txnscope_mongo::server_code;

use crate::check::{Check, Rule};
use crate::failure::{Failure, Reason};
use crate::preconditions::{Collections, expected};
use crate::strict::stages::keep_each;
use crate::{pipeline, preconditions};

/// The wire version of MongoDB 5.0, the first that supports snapshot reads outside of a transaction.
const SNAPSHOT_READS: i32 = 13;
/// The time that the client waits in addition to the server's `maxTimeMS`, for the network and for a hanging server.
const GRACE: Duration = Duration::from_secs(10);
/// Shortly after a collection was created or indexed, no snapshot of it is available.
const SNAPSHOT_TRIES: u32 = 5;
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(200);

/// How many violating documents a run returns, and how much of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// The maximum number of documents to return.
    pub limit: u32,
    /// Returns whole documents instead of `_id` and the fields that matter.
    pub full_documents: bool,
}

impl SampleOptions {
    /// Returns no documents, only their number.
    pub const NONE: Self = Self { limit: 0, full_documents: false };
}

/// The report of one run of a check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The result of the run.
    pub result: CheckResult,
    /// How long the run took.
    pub took: Duration,
}

impl Report {
    /// Creates a report with a result.
    #[must_use]
    pub fn new(result: CheckResult, took: Duration) -> Self {
        Self { result, took }
    }

    /// Creates a report of a run that failed.
    #[must_use]
    pub fn failed(failure: Failure, took: Duration) -> Self {
        Self::new(CheckResult::Failed(failure), took)
    }
}

/// The result of running one check. A check that could not run is [`Failed`](Self::Failed), never clean.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckResult {
    /// No violation was found.
    Clean {
        /// The number of documents in the collection, from its metadata.
        documents: u64,
    },
    /// Violations were found.
    Violated {
        /// The exact number of violations, counted by the server.
        count: u64,
        /// Some of the violations.
        sample: Vec<Document>,
        /// The number of documents in the collection, from its metadata.
        documents: u64,
    },
    /// The check could not run, so the result is unknown.
    Failed(Failure),
}

impl CheckResult {
    /// The number of violations, if it is known.
    #[must_use]
    pub fn violations(&self) -> Option<u64> {
        match self {
            Self::Clean { .. } => Some(0),
            Self::Violated { count, .. } => Some(*count),
            Self::Failed(_) => None,
        }
    }

    /// The number of documents in the collection, if it is known.
    #[must_use]
    pub fn documents(&self) -> Option<u64> {
        match self {
            Self::Clean { documents } | Self::Violated { documents, .. } => Some(*documents),
            Self::Failed(_) => None,
        }
    }
}

/// Runs a check once.
///
/// The check reads a majority-committed snapshot (read concern `snapshot`) or, before MongoDB 5.0, majority-committed
/// data (read concern `majority`). The server may spill to disk, and the client receives no more than the sample.
///
/// # Cancellation
///
/// Dropping the future changes nothing. The server ends the remaining query after the check's `max_time`.
pub async fn run(client: &Client, check: &Check, sample: SampleOptions) -> Report {
    let began = Instant::now();
    let evaluation = tokio::time::timeout(check.max_time + GRACE, evaluate(client, check, sample));
    let result = match evaluation.await {
        Ok(Ok(result)) => result,
        Ok(Err(failure)) if failure.reason == Reason::Timeout => {
            CheckResult::Failed(Failure::timeout(check.max_time))
        }
        Ok(Err(failure)) => CheckResult::Failed(failure),
        Err(_) => CheckResult::Failed(Failure::timeout(check.max_time + GRACE)),
    };
    Report { result, took: began.elapsed() }
}

async fn evaluate(client: &Client, check: &Check, sample: SampleOptions) -> Result<CheckResult, Failure> {
    let check_run = CheckRun { client, check };
    if !check_run.collections_exist().await? {
        return Ok(CheckResult::Clean { documents: 0 });
    }
    let documents = check_run.documents().await?;
    let mut tries = 1;
    let (count, sample) = loop {
        match check_run.violations(sample).await {
            Err(failure) if failure.reason == Reason::SnapshotUnavailable && tries < SNAPSHOT_TRIES => {
                tries += 1;
                tokio::time::sleep(SNAPSHOT_PAUSE).await;
            }
            other => break other?,
        }
    };
    Ok(match count {
        0 => {
            // No violation was found, or a misspelled field makes the check blind.
            let collections = Collections::new(client, check, check_run.criteria());
            for one in expected(check) {
                if let Some(failure) = one.absent(&collections).await? {
                    return Err(failure);
                }
            }
            CheckResult::Clean { documents }
        }
        count => CheckResult::Violated { count, sample, documents },
    })
}

/// A session that reads a snapshot of the data, if the server supports snapshots.
struct ReadView {
    session: ClientSession,
    snapshot: bool,
}

fn is_unknown_command(error: &Error) -> bool {
    const COMMAND_NOT_FOUND: i32 = 59;
    server_code(error) == Some(COMMAND_NOT_FOUND)
}

/// One run of a check.
struct CheckRun<'a> {
    client: &'a Client,
    check: &'a Check,
}

impl CheckRun<'_> {
    fn criteria(&self) -> SelectionCriteria {
        SelectionCriteria::ReadPreference(self.check.read_preference.clone())
    }

    /// A misspelled name would look like an empty collection without violations. Returns `false` if the checked
    /// collection is missing, and the check allows this.
    async fn collections_exist(&self) -> Result<bool, Failure> {
        let collections = Collections::new(self.client, self.check, self.criteria());
        match collections.missing().await? {
            None => Ok(true),
            // Other collections may be missing as well: they count as empty, and the check evaluates accordingly.
            Some(_) if self.check.may_be_missing => {
                Ok(collections.kind(pipeline::source(self.check)).await?.is_some())
            }
            Some(failure) => Err(failure),
        }
    }

    async fn documents(&self) -> Result<u64, Failure> {
        let collection =
            self.client.database(&self.check.database).collection::<Document>(pipeline::source(self.check));
        let count = collection.estimated_document_count().selection_criteria(self.criteria());
        Ok(count.max_time(self.check.max_time).await?)
    }

    /// The number of violations, and some of them. One query is enough if there are no more violations than the
    /// sample may hold, as is usual; otherwise a second query on the same snapshot counts them.
    async fn violations(&self, sample: SampleOptions) -> Result<(u64, Vec<Document>), Failure> {
        let mut view = self.view().await?;
        if let Rule::Derived(derived) = &self.check.rule
            && !keep_each(&derived.stages)
        {
            let stages = preconditions::census(self.check, derived, None);
            let mut cursor = self.aggregate(stages, &mut view).await?;
            let counted = cursor.next(&mut view.session).await.transpose()?;
            preconditions::one_for_each(self.check, counted.as_ref())?;
        }
        let found = pipeline::violations(self.check);
        let mut stages = found.clone();
        stages.push(doc! {"$limit": i64::from(sample.limit) + 1});
        stages.extend(pipeline::sample_projection(self.check, sample.full_documents));
        let mut cursor = self.aggregate(stages, &mut view).await?;
        let (mut seen, mut kept) = (0_u64, Vec::new());
        while let Some(document) = cursor.next(&mut view.session).await.transpose()? {
            seen += 1;
            if seen <= u64::from(sample.limit) {
                kept.push(document);
            }
        }
        if seen <= u64::from(sample.limit) {
            return Ok((seen, kept));
        }
        let stages = found.into_iter().chain([doc! {"$count": "n"}]).collect();
        let mut cursor = self.aggregate(stages, &mut view).await?;
        let Some(counted) = cursor.next(&mut view.session).await.transpose()? else {
            // Before MongoDB 5.0 there is no snapshot: the violations may have disappeared meanwhile.
            return Ok((0, Vec::new()));
        };
        let count = counted.get_i64("n").or_else(|_| counted.get_i32("n").map(i64::from));
        let count = count.ok().and_then(|count| u64::try_from(count).ok());
        Ok((count.ok_or_else(|| Failure::malformed("$count returned no number"))?, kept))
    }

    /// Starts a session that reads a snapshot, if the server supports snapshots.
    async fn view(&self) -> Result<ReadView, Failure> {
        let admin = self.client.database("admin");
        let hello = admin.run_command(doc! {"hello": 1});
        let snapshot = match hello.selection_criteria(self.criteria()).await {
            Ok(hello) => hello.get_i32("maxWireVersion").is_ok_and(|version| version >= SNAPSHOT_READS),
            // The server is so old that it does not know `hello`.
            Err(error) if is_unknown_command(&error) => false,
            Err(error) => return Err(error.into()),
        };
        let start = self.client.start_session();
        let session = if snapshot { start.snapshot(true).await? } else { start.await? };
        Ok(ReadView { session, snapshot })
    }

    async fn aggregate(
        &self,
        stages: Vec<Document>,
        view: &mut ReadView,
    ) -> Result<SessionCursor<Document>, Failure> {
        let collection =
            self.client.database(&self.check.database).collection::<Document>(pipeline::source(self.check));
        let mut aggregate = collection
            .aggregate(stages)
            .allow_disk_use(true)
            .max_time(self.check.max_time)
            .selection_criteria(self.criteria())
            .comment(format!("txnscope check {}", self.check.name));
        if let Some(collation) = &self.check.collation {
            let collation = deserialize_from_document(collation.clone());
            aggregate =
                aggregate.collation(collation.map_err(|_| Failure::malformed("the collation is invalid"))?);
        }
        if !view.snapshot {
            aggregate = aggregate.read_concern(ReadConcern::majority());
        }
        Ok(aggregate.session(&mut view.session).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sidecar spawns the run.
    #[test]
    fn run_future_is_send() {
        fn is_send<T: Send>(_: fn(&'static Client, &'static Check) -> T) {}
        is_send(|client, check| run(client, check, SampleOptions::NONE));
    }
}
