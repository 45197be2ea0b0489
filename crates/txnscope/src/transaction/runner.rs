//! The runner: it owns every attempt at a transaction, and so can say what became of each.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern};
use tokio_util::task::TaskTracker;

use super::attempt::Transaction;
use super::builder::TransactionBuilder;
use super::error::{Abort, ApplicationError, Committed, TransactionError};
use super::keyed_queue::KeyedQueues;
use crate::scope::{self, OperationGuard};
use crate::{Classification, ClassifyResponse, OperationName, Registry, ResponseFuture};

/// Runs work in transactions, and counts each attempt. See the [module's page](crate::transaction) for an example.
///
/// Cheap to clone; clones share their queues.
#[derive(Clone)]
pub struct TransactionRunner {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
}

/// What all clones of a runner have in common.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) queues: Arc<KeyedQueues>,
    /// What ends transactions aside from their requests.
    pub(super) tasks: TaskTracker,
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) transaction: TransactionOptions,
    pub(super) time_limit: Duration,
    pub(super) max_attempts: u32,
    pub(super) max_queue: usize,
}

impl TransactionRunner {
    /// The most time that a transaction is tried for, as the driver's own convenient API has it.
    pub const TIME_LIMIT: Duration = Duration::from_secs(120);

    /// A runner on that client, counting into the process's recorder. Reads are of a snapshot, commits wait for a
    /// majority.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self::with_registry(client, Registry::global())
    }

    /// A runner that counts into that registry. Inside an operation, it counts where the operation does.
    #[must_use]
    pub fn with_registry(client: &Client, registry: Registry) -> Self {
        registry.enable_transaction_metrics();
        let transaction = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        Self {
            shared: Arc::new(Shared {
                client: client.clone(),
                registry,
                queues: Arc::default(),
                tasks: TaskTracker::new(),
            }),
            options: Options {
                transaction,
                time_limit: Self::TIME_LIMIT,
                max_attempts: u32::MAX,
                max_queue: 1_000,
            },
        }
    }

    /// What transactions read: by default, a snapshot.
    #[must_use]
    pub fn read_concern(mut self, read_concern: ReadConcern) -> Self {
        self.options.transaction.read_concern = Some(read_concern);
        self
    }

    /// How widely a commit is written before it is reported: by default, on a majority.
    #[must_use]
    pub fn write_concern(mut self, write_concern: WriteConcern) -> Self {
        self.options.transaction.write_concern = Some(write_concern);
        self
    }

    /// How long a transaction is tried for, queues and pauses included: by default, 120 s. A
    /// [deadline](TransactionBuilder::deadline) that comes earlier wins.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.options.time_limit = limit;
        self
    }

    /// How often a transaction is tried at most: by default, until the time is over. At least once.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = attempts.max(1);
        self
    }

    /// How many transactions may wait for one [key](TransactionBuilder::serialize_on): by default, 1,000. The next one fails at once
    /// with the reason `queue_full`.
    #[must_use]
    pub fn max_queue(mut self, transactions: usize) -> Self {
        self.options.max_queue = transactions;
        self
    }

    /// Runs the work of the current operation in a transaction.
    ///
    /// As [`TransactionBuilder::run`], without options of its own.
    ///
    /// # Errors
    ///
    /// As [`TransactionBuilder::run`].
    pub async fn run<T, E, F, U>(&self, work: F) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        self.transaction().run(work).await
    }

    /// Runs work of that name in a transaction: a job that serves no request, and is an operation of its own. The name
    /// must come from a bounded set. Inside of another operation, only the transaction bears the name.
    ///
    /// # Errors
    ///
    /// As [`TransactionBuilder::run`].
    pub async fn run_as<T, E, F, U>(
        &self,
        operation: &'static str,
        work: F,
    ) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        let run = self.transaction().named(operation).run(work);
        if scope::metrics().is_some() {
            return run.await;
        }
        let job = OperationGuard::new(self.shared.registry.resolve(OperationName::named(operation)), 0);
        ResponseFuture::counted(job, run, Job).await
    }

    /// A transaction with options of its own.
    pub fn transaction(&self) -> TransactionBuilder<'_> {
        TransactionBuilder::new(self)
    }

    /// A transaction that takes turns, in this process, with those of the same key. See [`TransactionBuilder::serialize_on`].
    pub fn serialize_on(&self, key: impl Hash) -> TransactionBuilder<'_> {
        self.transaction().serialize_on(key)
    }

    /// The table of this process's open transactions.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.shared.registry
    }

    /// Waits until every transaction that a dropped request left has been ended. For an orderly shutdown.
    pub async fn wait_idle(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }

    /// How many transactions are being ended aside from their requests.
    #[must_use]
    pub fn pending_cleanups(&self) -> usize {
        self.shared.tasks.len()
    }
}

impl fmt::Debug for TransactionRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionRunner").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What became of a job is what became of its transaction.
struct Job;

impl<T, E> ClassifyResponse<Committed<T>, TransactionError<E>> for Job {
    fn response(&self, _: &Committed<T>) -> Classification {
        Classification::succeeded()
    }

    fn error(&self, error: &TransactionError<E>) -> Classification {
        error.classification()
    }
}
