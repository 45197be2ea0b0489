//! The transaction runner.

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

/// Runs callbacks in transactions, and counts each attempt. See the [module's page](crate::transaction) for an
/// example.
///
/// Cheap to clone; clones share their queues.
#[derive(Clone)]
pub struct TransactionRunner {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
}

/// The state that all clones of a runner share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) queues: Arc<KeyedQueues>,
    /// The background cleanups.
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
    /// The default time limit of a transaction, as in the driver's convenient API.
    pub const TIME_LIMIT: Duration = Duration::from_secs(120);

    /// Creates a runner that counts into the process's recorder. Reads are of a snapshot, commits wait for a
    /// majority.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self::with_registry(client, Registry::global())
    }

    /// Creates a runner that counts into `registry`. Inside an operation, the runner counts into the operation's
    /// registry.
    #[must_use]
    pub fn with_registry(client: &Client, registry: Registry) -> Self {
        registry.enable_transaction_metrics();
        let queues = Arc::default();
        registry.open_transactions().watch_queues(&queues);
        let transaction = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        Self {
            shared: Arc::new(Shared { client: client.clone(), registry, queues, tasks: TaskTracker::new() }),
            options: Options {
                transaction,
                time_limit: Self::TIME_LIMIT,
                max_attempts: u32::MAX,
                max_queue: 1_000,
            },
        }
    }

    /// Sets the read concern: by default, `snapshot`.
    #[must_use]
    pub fn read_concern(mut self, read_concern: ReadConcern) -> Self {
        self.options.transaction.read_concern = Some(read_concern);
        self
    }

    /// Sets the write concern of commits: by default, `majority`.
    #[must_use]
    pub fn write_concern(mut self, write_concern: WriteConcern) -> Self {
        self.options.transaction.write_concern = Some(write_concern);
        self
    }

    /// Sets the time limit of a transaction, including queue wait and backoff: by default, 120 s. An earlier
    /// [deadline](TransactionBuilder::deadline) takes precedence.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.options.time_limit = limit;
        self
    }

    /// Sets the maximum number of attempts: by default, unlimited. At least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = attempts.max(1);
        self
    }

    /// Sets how many transactions may wait for one [key](TransactionBuilder::serialize_on): by default, 1,000. The
    /// next transaction fails at once with the reason `queue_full`.
    #[must_use]
    pub fn max_queue(mut self, transactions: usize) -> Self {
        self.options.max_queue = transactions;
        self
    }

    /// Runs a callback in a transaction of the current operation.
    ///
    /// Like [`TransactionBuilder::run`], without further options.
    ///
    /// # Errors
    ///
    /// As [`TransactionBuilder::run`].
    pub async fn run<T, E, F, U>(&self, callback: F) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        self.transaction().run(callback).await
    }

    /// Runs a callback in a transaction of a named job: the job serves no request, and is an operation of its own.
    /// The name must come from a bounded set. Inside of another operation, only the transaction has the name.
    ///
    /// # Errors
    ///
    /// As [`TransactionBuilder::run`].
    pub async fn run_as<T, E, F, U>(
        &self,
        operation: &'static str,
        callback: F,
    ) -> Result<Committed<T>, TransactionError<E>>
    where
        E: ApplicationError,
        F: FnMut(Transaction) -> U,
        U: Future<Output = Result<T, Abort<E>>>,
    {
        let run = self.transaction().named(operation).run(callback);
        if scope::metrics().is_some() {
            return run.await;
        }
        let job = OperationGuard::new(self.shared.registry.resolve(OperationName::named(operation)), 0);
        ResponseFuture::counted(job, run, Job).await
    }

    /// Returns a builder of a transaction with further options.
    pub fn transaction(&self) -> TransactionBuilder<'_> {
        TransactionBuilder::new(self)
    }

    /// Returns a builder of a transaction that is serialized, in this process, with those of the same key. See
    /// [`TransactionBuilder::serialize_on`].
    pub fn serialize_on(&self, key: impl Hash) -> TransactionBuilder<'_> {
        self.transaction().serialize_on(key)
    }

    /// Returns the registry that this runner counts into.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.shared.registry
    }

    /// Waits until all background cleanups have ended. For a graceful shutdown.
    pub async fn wait_idle(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.tasks.reopen();
    }

    /// Returns the number of background cleanups that are running.
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

/// Classifies a job by its transaction.
struct Job;

impl<T, E> ClassifyResponse<Committed<T>, TransactionError<E>> for Job {
    fn response(&self, _: &Committed<T>) -> Classification {
        Classification::succeeded()
    }

    fn error(&self, error: &TransactionError<E>) -> Classification {
        error.classification()
    }
}
