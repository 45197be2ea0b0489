//! Open transactions by the backend's operation.
//!
//! The server has neither namespace nor command of an idle transaction. The backend knows which operation began
//! it, and serves a table (`GET /-/transactions` of the `txnscope` library); the session id joins the two.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Uri;
use futures_util::future::try_join_all;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::backend_table::{ListedTransaction, fetch_table};
use super::current_op::oldest;
use super::label_limiter::CardinalityLimiter;
use super::pacing::{PAUSE_FACTOR, Pacing};
use super::{Collector, OpenByOperationSettings, PollContext, Privilege, Schedule};
use crate::decode::Field;
use crate::error::PollError;
use crate::sample_set::SampleSet;

/// The maximum number of transactions of one member that are joined, the oldest first.
const MAX_TRANSACTIONS: u16 = 1_000;
/// The operation of transactions that are in no table.
const UNKNOWN: &str = "unknown";

/// Operations by session id.
type Table = HashMap<String, String>;

#[derive(Debug)]
pub(super) struct OpenByOperation {
    backends: Vec<Uri>,
    limiter: CardinalityLimiter,
    pacing: Pacing,
}

impl OpenByOperation {
    pub(super) fn new(settings: &OpenByOperationSettings) -> Self {
        let backends = settings.backends.iter().filter_map(|url| url.parse().ok()).collect();
        Self {
            backends,
            limiter: CardinalityLimiter::new(catalog::MAX_OPERATIONS),
            pacing: Pacing::default(),
        }
    }
}

#[async_trait]
impl Collector for OpenByOperation {
    fn name(&self) -> &'static str {
        "open_by_operation"
    }

    fn schedule(&self) -> Schedule {
        Schedule::AfterStatus
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("inprog")]
    }

    fn min_interval(&self) -> Option<Duration> {
        Some(self.pacing.pause())
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        if context.transactions.open == Some(0.0) {
            self.pacing.skip();
            return Ok(Some(count_by_operation(&[], &Table::new(), &mut self.limiter)));
        }
        let asked = Instant::now();
        if !self.pacing.is_due(asked) {
            return Ok(None);
        }
        // The server is asked first: a transaction that begins in between is in the table and not in the
        // server's reply.
        let open = oldest::oldest_transactions(context, Duration::ZERO, MAX_TRANSACTIONS).await;
        self.pacing.after(asked, asked.elapsed() * PAUSE_FACTOR);
        let open = open?;
        let tables = try_join_all(self.backends.iter().map(fetch_table)).await?;
        let table = by_session(tables.into_iter().flat_map(|table| table.transactions));
        Ok(Some(count_by_operation(&open, &table, &mut self.limiter)))
    }

    fn reset(&mut self) {
        self.pacing = Pacing::default();
    }
}

/// Counts open transactions by operation. Operations that were seen before and have none now are zero.
fn count_by_operation(
    open: &[oldest::OpenTransaction],
    table: &Table,
    limiter: &mut CardinalityLimiter,
) -> SampleSet {
    let mut counted: BTreeMap<_, [(f64, f64); 2]> = BTreeMap::new();
    for transaction in open {
        let operation = limiter.label_for(table.get(&transaction.session).map_or(UNKNOWN, String::as_str));
        let (count, age) = &mut counted.entry(operation).or_default()[usize::from(transaction.active)];
        *count += 1.0;
        *age = age.max(transaction.age.as_secs_f64());
    }
    for name in limiter.tracked() {
        counted.entry(name.to_owned().into()).or_default();
    }
    let mut samples = SampleSet::default();
    for (operation, states) in counted {
        for (state, (count, age)) in ["inactive", "active"].into_iter().zip(states) {
            let labels = || vec![operation.clone(), state.into()];
            samples.labeled(&catalog::MONGODB_TRANSACTIONS_OPEN_BY_OPERATION, labels(), Field::Value(count));
            let oldest = &catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN_BY_OPERATION;
            samples.labeled(oldest, labels(), Field::Value(age));
        }
    }
    samples
}

/// Parses a backend's response, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_table(body: &[u8]) -> Option<SampleSet> {
    Some(count_by_operation(
        &[],
        &by_session(super::backend_table::decode(body, "")?.transactions),
        &mut CardinalityLimiter::new(txnscope_catalog::MAX_APPLICATIONS),
    ))
}

fn by_session(listed: impl IntoIterator<Item = ListedTransaction>) -> Table {
    listed.into_iter().map(|listed| (listed.session, listed.operation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(session: &str, age: u64, active: bool) -> oldest::OpenTransaction {
        oldest::OpenTransaction {
            session: session.to_owned(),
            number: 1,
            age: Duration::from_secs(age),
            active,
            application: String::new(),
            client: String::new(),
        }
    }

    #[test]
    fn unlisted_transaction_is_unknown_and_finished_operation_is_zero() {
        let (mut limiter, table) =
            (CardinalityLimiter::new(2), Table::from([("a".to_owned(), "POST /x".to_owned())]));
        let samples = count_by_operation(
            &[open("a", 3, false), open("a", 5, true), open("b", 9, false)],
            &table,
            &mut limiter,
        );
        let count = |samples: &SampleSet, operation, state| {
            samples.find("mongodb_transactions_open_by_operation", &[operation, state])
        };
        let oldest = "mongodb_transactions_oldest_open_by_operation_seconds";
        assert_eq!(count(&samples, "POST /x", "inactive"), Some(1.0));
        assert_eq!(samples.find(oldest, &["POST /x", "active"]), Some(5.0));
        assert_eq!(samples.find(oldest, &["unknown", "inactive"]), Some(9.0));
        let samples = count_by_operation(&[], &table, &mut limiter);
        assert_eq!(count(&samples, "POST /x", "inactive"), Some(0.0));
        assert_eq!(samples.dropped(), 0);
    }
}
