//! Running one check: at one moment of the data, within its time, and with a bounded memory on both ends.

use std::time::Duration;

use mongodb::bson::{Document, deserialize_from_document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ReadConcern, SelectionCriteria};
use mongodb::{Client, ClientSession, SessionCursor};
use tokio::time::Instant;

use crate::check::{Check, Rule};
use crate::failure::{Failure, Reason};
use crate::preconditions::{Catalog, expected};
use crate::strict::stages::keep_each;
use crate::{pipeline, preconditions};

/// MongoDB 5.0, the first that reads a snapshot outside of a transaction.
const SNAPSHOT_READS: i32 = 13;
/// What the client allows on top of the server's `maxTimeMS`, for the way and for a server that hangs.
const GRACE: Duration = Duration::from_secs(10);
/// After a collection was made or indexed, there is no snapshot of it for a moment.
const SNAPSHOT_TRIES: u32 = 5;
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(200);

/// How much of the offending documents to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// The maximum number of documents to return.
    pub limit: u32,
    /// Returns whole documents instead of `_id` and the fields that matter.
    pub full_documents: bool,
}

impl SampleOptions {
    /// None: the number alone.
    pub const NONE: Self = Self { limit: 0, full_documents: false };
}

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// What it found.
    pub result: CheckResult,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// A run that found this.
    #[must_use]
    pub fn new(result: CheckResult, took: Duration) -> Self {
        Self { result, took }
    }

    /// A run that could not be.
    #[must_use]
    pub fn failed(failure: Failure, took: Duration) -> Self {
        Self::new(CheckResult::Failed(failure), took)
    }
}

/// What a run found. A check that could not run is no clean one.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckResult {
    /// Nothing wrong, in a collection of so many documents.
    Clean {
        /// By the collection's metadata.
        documents: u64,
    },
    /// Something wrong.
    Violated {
        /// How much, exactly, as the server counted it.
        count: u64,
        /// Some of it.
        sample: Vec<Document>,
        /// By the collection's metadata.
        documents: u64,
    },
    /// It is not known.
    Failed(Failure),
}

impl CheckResult {
    /// How many violations, if that is known.
    #[must_use]
    pub fn violations(&self) -> Option<u64> {
        match self {
            Self::Clean { .. } => Some(0),
            Self::Violated { count, .. } => Some(*count),
            Self::Failed(_) => None,
        }
    }

    /// How many documents the collection holds, if that is known.
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
/// It reads at one moment of the data that a majority has (read concern `snapshot`), or, before MongoDB 5.0, what a
/// majority has (`majority`). The server may spill to disk, and no more than the sample comes here.
///
/// # Cancellation
///
/// A run that is dropped changes nothing. The server ends what is left of it after the check's `max_time`.
pub async fn run(client: &Client, check: &Check, sample: SampleOptions) -> Report {
    let began = Instant::now();
    let look = tokio::time::timeout(check.max_time + GRACE, look(client, check, sample));
    let result = match look.await {
        Ok(Ok(result)) => result,
        Ok(Err(failure)) if failure.reason == Reason::Timeout => {
            CheckResult::Failed(Failure::timeout(check.max_time))
        }
        Ok(Err(failure)) => CheckResult::Failed(failure),
        Err(_) => CheckResult::Failed(Failure::timeout(check.max_time + GRACE)),
    };
    Report { result, took: began.elapsed() }
}

async fn look(client: &Client, check: &Check, sample: SampleOptions) -> Result<CheckResult, Failure> {
    let eyes = Eyes { client, check };
    if !eyes.collections_exist().await? {
        return Ok(CheckResult::Clean { documents: 0 });
    }
    let documents = eyes.documents().await?;
    let mut tries = 1;
    let (count, sample) = loop {
        match eyes.violations(sample).await {
            Err(failure) if failure.reason == Reason::SnapshotUnavailable && tries < SNAPSHOT_TRIES => {
                tries += 1;
                tokio::time::sleep(SNAPSHOT_PAUSE).await;
            }
            other => break other?,
        }
    };
    Ok(match count {
        0 => {
            // Clean, or blind.
            let catalog = Catalog::new(client, check, eyes.criteria());
            for one in expected(check) {
                if let Some(failure) = one.absent(&catalog).await? {
                    return Err(failure);
                }
            }
            CheckResult::Clean { documents }
        }
        count => CheckResult::Violated { count, sample, documents },
    })
}

/// What the data looked like at one moment, if the server can show that.
struct View {
    session: ClientSession,
    snapshot: bool,
}

fn is_unknown_command(error: &Error) -> bool {
    const COMMAND_NOT_FOUND: i32 = 59;
    matches!(error.kind.as_ref(), ErrorKind::Command(command) if command.code == COMMAND_NOT_FOUND)
}

/// What one run reads with.
struct Eyes<'a> {
    client: &'a Client,
    check: &'a Check,
}

impl Eyes<'_> {
    fn criteria(&self) -> SelectionCriteria {
        SelectionCriteria::ReadPreference(self.check.read_preference.clone())
    }

    /// A mistyped name would pass for an empty collection, in which all is well for ever. `false` if the collection
    /// that is checked is missing, and may be.
    async fn collections_exist(&self) -> Result<bool, Failure> {
        let catalog = Catalog::new(self.client, self.check, self.criteria());
        match catalog.missing().await? {
            None => Ok(true),
            // Others may be missing too: they are empty then, and the check says what that makes of it.
            Some(_) if self.check.may_be_missing => {
                Ok(catalog.kind(pipeline::source(self.check)).await?.is_some())
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

    /// How many violations there are, and some of them. One pass if they are no more than the sample takes, which
    /// they are not when all is well; else a second one, in the same snapshot, counts them.
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
        stages.extend(pipeline::shown(self.check, sample.full_documents));
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
            // Not at one moment before MongoDB 5.0: they may have gone meanwhile.
            return Ok((0, Vec::new()));
        };
        let count = counted.get_i64("n").or_else(|_| counted.get_i32("n").map(i64::from));
        let count = count.ok().and_then(|count| u64::try_from(count).ok());
        Ok((count.ok_or_else(|| Failure::malformed("$count brings no number"))?, kept))
    }

    /// A session that reads a snapshot, if the server has them.
    async fn view(&self) -> Result<View, Failure> {
        let admin = self.client.database("admin");
        let hello = admin.run_command(doc! {"hello": 1});
        let snapshot = match hello.selection_criteria(self.criteria()).await {
            Ok(hello) => hello.get_i32("maxWireVersion").is_ok_and(|version| version >= SNAPSHOT_READS),
            // So old that it does not know the word.
            Err(error) if is_unknown_command(&error) => false,
            Err(error) => return Err(error.into()),
        };
        let start = self.client.start_session();
        let session = if snapshot { start.snapshot(true).await? } else { start.await? };
        Ok(View { session, snapshot })
    }

    async fn aggregate(
        &self,
        stages: Vec<Document>,
        view: &mut View,
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
                aggregate.collation(collation.map_err(|_| Failure::malformed("the collation is none"))?);
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

    /// The sidecar spawns it.
    #[test]
    fn run_future_is_send() {
        fn is_send<T: Send>(_: fn(&'static Client, &'static Check) -> T) {}
        is_send(|client, check| run(client, check, SampleOptions::NONE));
    }
}
