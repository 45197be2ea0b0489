//! The collector that reads the model of one member.
//!
//! A part that the server refuses is missing in the model, with a message; the others are still worth showing.

use std::time::Duration;

use async_trait::async_trait;
use axum::http::Uri;
use futures_util::future::join_all;
use mongodb::bson::doc;
use tokio::time::{Instant, timeout};

use super::locks::{self, LockTable};
use super::model::{LiveModel, MissingPart, Part};
use super::names::OperationNames;
use super::operation::{self, Operation};
use super::pipeline::{MAX_OPERATIONS, current_op};
use super::rates::{Counters, LastCounters};
use super::store::LiveStore;
use super::tracker::Tracker;
use super::transactions::model;
use crate::collector::backend_table::{BackendTable, fetch_table};
use crate::collector::pacing::Pacing;
use crate::collector::{Collector, OpenByOperationSettings, PollContext, Privilege, Schedule};
use crate::decode::{Field, documents};
use crate::error::{PollError, PollErrorReason};
use crate::sample_set::SampleSet;

/// The name of the collector. It exports no metrics.
pub(super) const NAME: &str = "live";

/// The pause before the second poll, compared with those before the others.
const SECOND_POLL: f64 = 0.1;

/// The requests of one poll, each of which takes a round trip: `hello`, and two replies that a `hello` before and
/// after verifies.
const ROUND_TRIPS: u32 = 5;

/// A backend that does not answer in time costs the names of operations, its queues and its pools only.
const TABLE_TIMEOUT: Duration = Duration::from_millis(500);

/// What to do about a missing privilege.
const GRANT: &str = "create the role that `txnscope role` prints, and grant it to the user";

#[derive(Debug)]
pub(crate) struct LiveCollector {
    store: LiveStore,
    status: LastCounters,
    backends: Vec<Uri>,
    tracker: Tracker,
    pacing: Pacing,
    /// The member has been polled since it was last reset.
    is_known: bool,
}

impl LiveCollector {
    /// `status` has the counters of the status poll that each poll follows.
    pub(crate) fn new(store: &LiveStore, status: &LastCounters, settings: &OpenByOperationSettings) -> Self {
        let backends = settings.backends.iter().filter_map(|url| url.parse().ok()).collect();
        let (tracker, pacing) = (Tracker::default(), Pacing::default());
        let (store, status) = (store.clone(), status.clone());
        Self { store, status, backends, tracker, pacing, is_known: false }
    }
}

#[async_trait]
impl Collector for LiveCollector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schedule(&self) -> Schedule {
        Schedule::AfterStatus
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("inprog"), Privilege::on_cluster("serverStatus")]
    }

    fn min_interval(&self) -> Option<Duration> {
        Some(self.pacing.pause())
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let began = Instant::now();
        if !self.pacing.is_due(began) {
            return Ok(None);
        }
        let hello = context.identify().await?;
        let round_trip = began.elapsed();
        if context.is_arbiter() {
            self.store.publish(context.member(), Some(hello.role), LiveModel::default(), None);
            return Ok(Some(SampleSet::default()));
        }
        let mut missing = Missing::default();
        let counters = self.counters(&mut missing)?;
        let operations = operations(context, &mut missing).await?;
        let locks = lock_table(context, &mut missing).await?;
        // The network's part of the time is no cost for the server.
        let cost = began.elapsed().saturating_sub(round_trip * ROUND_TRIPS);
        // Rates and retried writes show in the second poll only, so that this one comes earlier.
        let share = if std::mem::replace(&mut self.is_known, true) { 1.0 } else { SECOND_POLL };
        self.pacing.after(began, cost.mul_f64(self.store.pause_factor() * share));
        let tables = self.tables(&mut missing).await;
        let names = OperationNames::new(tables.transactions);
        self.tracker.observe(&operations);
        let shown = &operations[..operations.len().min(MAX_OPERATIONS)];
        let mut model = model(context.member(), shown, &locks, &names, &self.tracker);
        model.truncated = operations.len() > MAX_OPERATIONS;
        (model.queues, model.pools) = (tables.queues, tables.pools);
        model.missing = missing.0;
        let role = context.last_seen().map(|seen| seen.role);
        self.store.publish(context.member(), role, model, counters);
        Ok(Some(SampleSet::default()))
    }

    fn reset(&mut self) {
        (self.pacing, self.is_known) = (Pacing::default(), false);
    }
}

impl LiveCollector {
    fn counters(&self, missing: &mut Missing) -> Result<Option<Counters>, PollError> {
        match self.status.take() {
            Some(counters) => missing.unless_answered(Part::Rates, "serverStatus", counters),
            None => Ok(None),
        }
    }

    /// The tables of all backends, as one.
    async fn tables(&self, missing: &mut Missing) -> BackendTable {
        let tables = self.backends.iter().map(|backend| async move {
            let late = || Err(PollError::timeout(TABLE_TIMEOUT));
            timeout(TABLE_TIMEOUT, fetch_table(backend)).await.unwrap_or_else(|_| late())
        });
        let mut all = BackendTable::default();
        for table in join_all(tables).await {
            match table {
                Ok(table) => {
                    all.transactions.extend(table.transactions);
                    all.queues.extend(table.queues);
                    all.pools.extend(table.pools);
                }
                Err(error) => missing.add(Part::OperationNames, error.to_string()),
            }
        }
        all.queues.sort_by_key(|queue| std::cmp::Reverse(queue.waiting));
        all
    }
}

async fn operations(context: PollContext<'_>, missing: &mut Missing) -> Result<Vec<Operation>, PollError> {
    let mut reply = context.cursor(current_op(true)).await;
    if reply.as_ref().is_err_and(|error| error.reason == PollErrorReason::PermissionDenied) {
        missing.add(
            Part::Operations,
            format!(
                "only operations of this user are shown, since the user lacks the privilege inprog: {GRANT}"
            ),
        );
        reply = context.cursor(current_op(false)).await;
    }
    let Some(reply) = missing.unless_answered(Part::Operations, "$currentOp", reply)? else {
        return Ok(Vec::new());
    };
    match documents(&reply, &["cursor", "firstBatch"]) {
        Field::Value(found) => Ok(found.into_iter().map(operation::decode).collect()),
        Field::Missing | Field::Invalid => {
            Err(PollError::malformed("the reply of $currentOp has no cursor.firstBatch"))
        }
    }
}

async fn lock_table(context: PollContext<'_>, missing: &mut Missing) -> Result<LockTable, PollError> {
    let reply = context.run(doc! {"lockInfo": 1}).await;
    let reply = missing.unless_answered(Part::Locks, "lockInfo", reply)?;
    let table = reply.as_ref().map(locks::decode);
    if table == Some(None) {
        missing.add(Part::Locks, "the reply of lockInfo has no list of locks".to_owned());
    }
    Ok(table.flatten().unwrap_or_default())
}

/// The parts that a poll could not read.
#[derive(Debug, Default)]
struct Missing(Vec<MissingPart>);

impl Missing {
    fn add(&mut self, part: Part, message: String) {
        self.0.push(MissingPart { part, message });
    }

    /// The reply, or `None` if the server refuses the command.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    fn unless_answered<T>(
        &mut self,
        part: Part,
        command: &str,
        reply: Result<T, PollError>,
    ) -> Result<Option<T>, PollError> {
        match reply {
            Ok(reply) => Ok(Some(reply)),
            Err(error) if error.reason == PollErrorReason::PermissionDenied => {
                self.add(part, format!("the user may not run {command}: {GRANT}"));
                Ok(None)
            }
            Err(error) if error.reason.is_server_response() => {
                self.add(part, format!("the member does not answer {command}: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
