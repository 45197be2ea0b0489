//! Collectors. Each is one file here and one line in [`enabled_collectors`].
//!
//! A collector has its own schedule, timeout, success, age and error reason, and a failure costs only its own
//! families. The poller implements that.

pub(crate) mod backend_table;
pub(crate) mod command;
mod current_op;
#[cfg(any(test, feature = "fuzzing"))]
mod decode_all;
mod fields;
#[cfg(test)]
mod fixtures;
mod label_limiter;
#[cfg(test)]
mod malformed_input_tests;
mod open_by_operation;
pub(crate) mod pacing;
mod parameters;
mod privileges;
mod profile;
mod replication;
mod server_status;
mod settings;
mod slow_transactions;
mod storage_engine;

use std::fmt;
use std::iter;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use mongodb::Database;
use mongodb::bson::{Document, doc};

#[cfg(feature = "fuzzing")]
pub(crate) use self::{
    decode_all::decode_all, open_by_operation::read_table as decode_table, slow_transactions::decode_line,
};
pub use privileges::{Privilege, Resource, privileges, privileges_by_collector};
pub use settings::{
    CollectorSettings, CurrentOpSettings, OpenByOperationSettings, ParameterSettings, ProfileSettings,
    ReplicationSettings, SlowTransactionSettings, StorageEngineSettings,
};

use crate::decode::decode_lossy;
use crate::error::{PollError, PollErrorReason};
use crate::identity::{Identity, ObservedServer};
use crate::live::{LastCounters, LiveCollector};
use crate::sample_set::SampleSet;
use crate::snapshot::MemberState;
use crate::topology::{HelloReply, Role};

/// A command, or several, that are sent to one member periodically.
#[async_trait]
pub(crate) trait Collector: fmt::Debug + Send {
    /// The name of the collector, from the catalog's `COLLECTORS`.
    fn name(&self) -> &'static str;

    /// When the collector is polled.
    fn schedule(&self) -> Schedule {
        Schedule::Interval(Duration::ZERO)
    }

    /// The privileges that the user needs.
    fn privileges(&self) -> Vec<Privilege>;

    /// Polls the member. `None`: the collector is not due yet by its own criteria, and its last samples stay.
    ///
    /// # Cancellation
    ///
    /// Dropped at the timeout. The next poll may follow at any time.
    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError>;

    /// The current minimum time between two sample sets, if it is longer than the schedule says.
    fn min_interval(&self) -> Option<Duration> {
        None
    }

    /// Resets what was learned about the member, which did not answer and may have changed.
    fn reset(&mut self) {}
}

/// When a collector is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// At a fixed interval, but never more often than the poll interval.
    Interval(Duration),
    /// After each status poll; not at all while the member does not answer.
    AfterStatus,
}

/// Transaction counts from the last status poll, as far as the reply has them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TransactionCounts {
    /// The number of open transactions.
    pub(crate) open: Option<f64>,
    /// The number of ended transactions, committed or aborted.
    pub(crate) ended: Option<f64>,
}

/// Access to one member for a collector's poll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PollContext<'a> {
    admin: &'a Database,
    state: &'a MemberState,
    timeout: Duration,
    pub(crate) transactions: TransactionCounts,
}

impl<'a> PollContext<'a> {
    pub(crate) fn new(
        admin: &'a Database,
        state: &'a MemberState,
        timeout: Duration,
        transactions: TransactionCounts,
    ) -> Self {
        Self { admin, state, timeout, transactions }
    }

    /// The member's address, for the log.
    pub(crate) fn member(&self) -> &str {
        self.state.address()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs a command on `admin`. `maxTimeMS` is below the poll timeout: an error reply of the server keeps the
    /// connection, while the timeout closes it.
    ///
    /// The driver decodes the reply as a whole, and fails if it is not valid BSON. Use this for replies that the
    /// server generates itself, and [`cursor`](Self::cursor) for those that may contain text of clients.
    pub(crate) async fn run(&self, command: Document) -> Result<Document, PollError> {
        self.run_verified(self.admin, command, ReplyForm::Document).await
    }

    /// Runs a command on `admin` that returns a cursor, and reads its first batch. A field that cannot be
    /// decoded costs itself only.
    pub(crate) async fn cursor(&self, command: Document) -> Result<Document, PollError> {
        self.run_verified(self.admin, command, ReplyForm::Cursor).await
    }

    /// Like [`cursor`](Self::cursor), on another database.
    pub(crate) async fn cursor_in(&self, database: &str, command: Document) -> Result<Document, PollError> {
        self.run_verified(&self.admin.client().database(database), command, ReplyForm::Cursor).await
    }

    /// The server that answered last.
    pub(crate) fn last_seen(&self) -> Option<ObservedServer> {
        self.state.identity().seen()
    }

    /// Whether the member is an arbiter, which holds no data and no users.
    pub(crate) fn is_arbiter(&self) -> bool {
        self.last_seen().is_some_and(|seen| seen.role == Role::Arbiter)
    }

    /// Sends `hello`, and compares the reply with the expected server.
    pub(crate) async fn identify(&self) -> Result<HelloReply, PollError> {
        let answer = hello(self.admin, self.state.identity()).await?;
        self.state.identity().verify(&answer)?;
        Ok(answer)
    }

    /// Runs a command, and verifies that the expected member replied. A reply without identity is bracketed by
    /// two that have one: if those come from one process, the reply does too. If the member was restarted in
    /// between, the command is sent once more.
    async fn run_verified(
        &self,
        database: &Database,
        command: Document,
        reply_form: ReplyForm,
    ) -> Result<Document, PollError> {
        let identity = self.state.identity();
        let command = self.with_time_limit(command);
        for _ in 0..2 {
            let before = identity.seen();
            let reply = match reply_form {
                ReplyForm::Document => database.run_command(command.clone()).await.map_err(PollError::from),
                ReplyForm::Cursor => first_batch(database, command.clone()).await,
            };
            match &reply {
                Err(error) if !error.reason.is_server_response() => return reply,
                Ok(reply) if let Some(answer) = HelloReply::from_status(reply) => identity.verify(&answer)?,
                Ok(_) | Err(_) => drop(self.identify().await?),
            }
            let of_process = |seen: Option<ObservedServer>| seen.and_then(|seen| seen.process);
            if before.is_none() || of_process(before) == of_process(identity.seen()) {
                return reply;
            }
        }
        Err(PollError::new(PollErrorReason::Network, "the server was restarted while it was asked"))
    }

    fn with_time_limit(&self, mut command: Document) -> Document {
        let limit = i64::try_from(self.timeout.as_millis() * 4 / 5).unwrap_or(i64::MAX);
        command.insert("maxTimeMS", limit.max(1));
        command
    }
}

/// How to decode the reply to a command.
#[derive(Debug, Clone, Copy)]
enum ReplyForm {
    Document,
    Cursor,
}

async fn first_batch(database: &Database, command: Document) -> Result<Document, PollError> {
    let mut batches = database.run_cursor_command(command).batch().await?;
    match batches.next().await.transpose()? {
        Some(batch) => Ok(decode_lossy(batch.as_raw_document())),
        // The driver returns no empty batch.
        None => Ok(doc! {"cursor": {"firstBatch": []}}),
    }
}

/// Sends `hello`, which needs no privilege. Servers before 4.4.2 support only `isMaster`.
pub(crate) async fn hello(admin: &Database, identity: &Identity) -> Result<HelloReply, PollError> {
    if !identity.is_legacy() {
        match admin.run_command(doc! {"hello": 1}).await.map_err(PollError::from) {
            Ok(reply) => return Ok(HelloReply::from_hello(&reply)),
            Err(error) if error.is_permanent() => {}
            Err(error) => return Err(error.for_handshake()),
        }
    }
    let reply = admin.run_command(doc! {"isMaster": 1}).await;
    let reply = reply.map_err(|error| PollError::from(error).for_handshake())?;
    // Newer servers support `isMaster` as well, so it stays with that.
    identity.set_legacy();
    Ok(HelloReply::from_hello(&reply))
}

/// The collectors of one member.
#[derive(Debug)]
pub(crate) struct Collectors {
    /// Determines whether the member is up, and triggers those that follow it.
    pub(crate) status: Box<dyn Collector>,
    /// The others, in the order of the catalog.
    pub(crate) others: Vec<Box<dyn Collector>>,
}

impl Collectors {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Collector> {
        iter::once(&self.status).chain(&self.others).map(AsRef::as_ref)
    }
}

/// The enabled collectors of one member.
pub(crate) fn enabled_collectors(settings: &CollectorSettings) -> Collectors {
    let CollectorSettings {
        current_op,
        storage_engine,
        replication,
        parameters,
        profile,
        slow_transactions,
        open_by_operation,
        live,
    } = settings;
    let mut others: Vec<Box<dyn Collector>> = Vec::new();
    if current_op.enabled {
        others.push(Box::new(current_op::CurrentOp::new(current_op)));
    }
    if storage_engine.enabled {
        others.push(Box::new(storage_engine::StorageEngine { interval: storage_engine.interval }));
    }
    if replication.enabled {
        others.push(Box::new(replication::Replication::new(replication.interval)));
    }
    if parameters.enabled {
        others.push(Box::new(parameters::Parameters { interval: parameters.interval }));
    }
    if profile.enabled {
        others.push(Box::new(profile::Profile::new(profile)));
    }
    if slow_transactions.enabled {
        others.push(Box::new(slow_transactions::SlowTransactions::new(slow_transactions.interval)));
    }
    let counters = live.as_ref().map(|_| LastCounters::default());
    if let Some((store, counters)) = live.as_ref().zip(counters.as_ref()) {
        // Its model has the operations already.
        others.push(Box::new(LiveCollector::new(store, counters, open_by_operation)));
    } else if !open_by_operation.backends.is_empty() {
        others.push(Box::new(open_by_operation::OpenByOperation::new(open_by_operation)));
    }
    Collectors { status: Box::new(server_status::ServerStatus::new(counters)), others }
}

/// The collector that determines whether the member is up, and how many transactions are open.
pub(crate) const STATUS_COLLECTOR: &str = "server_status";

#[cfg(test)]
mod tests {
    use txnscope_catalog::COLLECTORS;

    use super::*;

    #[test]
    fn collectors_match_the_catalog_and_its_order() {
        let mut settings = CollectorSettings::default();
        settings.profile.enabled = true;
        settings.slow_transactions.enabled = true;
        settings.open_by_operation.backends = vec!["http://127.0.0.1:3000/-/transactions".to_owned()];
        let names: Vec<_> = enabled_collectors(&settings).iter().map(|collector| collector.name()).collect();
        assert_eq!(names, COLLECTORS);
        assert_eq!(enabled_collectors(&settings).status.name(), STATUS_COLLECTOR);
    }

    #[test]
    fn disabled_collectors_are_not_polled() {
        let names: Vec<_> = enabled_collectors(&CollectorSettings::default())
            .iter()
            .map(|collector| collector.name())
            .collect();
        assert!(!names.contains(&"profile") && !names.contains(&"slow_transactions"), "{names:?}");
    }
}
