//! `$currentOp`: how long transactions have been open, and which wait for a lock.
//!
//! The server walks all its sessions for the answer (26 ms with 5,000 open transactions), so it is asked only while
//! the status says that a transaction is open, never more often than leaves it under one percent of a core, and
//! sends one document per state, however many are open.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::{Ask, Schedule, Source};
use crate::decode::{Found, documents, field, number};
use crate::error::PollError;
use crate::reading::Reading;

/// A poll is followed by the next after this many times its own duration: what the server spends on it is no more
/// than that duration.
const PAUSE: u32 = 100;

/// The same for a poll whose answer never came. The server gives up before we do, so its silence has cost it nothing
/// but is a sign of distress: neither to be made worse, nor a time to be blind for long.
const PAUSE_AFTER_SILENCE: u32 = 20;

const STATES: [(&str, bool); 2] = [("active", true), ("inactive", false)];

#[derive(Debug, Default)]
pub(super) struct CurrentOp {
    /// The server has answered: a missing privilege is known before the first transaction is open.
    answers: bool,
    pause: Duration,
    next: Option<Instant>,
}

#[async_trait]
impl Source for CurrentOp {
    fn name(&self) -> &'static str {
        "current_op"
    }

    fn schedule(&self) -> Schedule {
        Schedule::AfterStatus
    }

    fn pace(&self) -> Option<Duration> {
        Some(self.pause)
    }

    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        if self.answers && ask.open_transactions == Some(0.0) {
            self.pause = Duration::ZERO;
            return Ok(Some(decode(&[])));
        }
        let asked = Instant::now();
        if self.next.is_some_and(|next| asked < next) {
            return Ok(None);
        }
        // This stands if the poll is dropped at its timeout.
        self.answers = false;
        self.rest(asked, ask.timeout() * PAUSE_AFTER_SILENCE);
        let reply = ask.run(command()).await;
        self.rest(asked, asked.elapsed() * PAUSE);
        let reply = reply?;
        let Found::Value(groups) = documents(&reply, &["cursor", "firstBatch"]) else {
            return Err(PollError::malformed("the reply of $currentOp has no cursor.firstBatch"));
        };
        self.answers = true;
        Ok(Some(decode(&groups)))
    }

    /// A member that was away or frozen was not slow because of us.
    fn forget(&mut self) {
        *self = Self::default();
    }
}

impl CurrentOp {
    fn rest(&mut self, asked: Instant, pause: Duration) {
        self.pause = pause;
        self.next = Some(asked + pause);
    }
}

/// Transactions alone have `autocommit: false` (a retryable write has no `autocommit`), so none of our own
/// operations is among them.
fn command() -> Document {
    let pipeline = vec![
        doc! {"$currentOp": {"allUsers": true, "idleSessions": true, "localOps": true}},
        doc! {"$match": {"transaction.parameters.autocommit": false}},
        doc! {"$group": {
            "_id": {"$eq": ["$active", true]},
            "oldest": {"$max": "$transaction.timeOpenMicros"},
            "waiting": {"$sum": {"$cond": [{"$eq": ["$waitingForLock", true]}, 1, 0]}},
        }},
    ];
    doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}}
}

/// One group for each state that has transactions; a state without one has neither age nor waiters.
fn decode(groups: &[&Document]) -> Reading {
    let mut reading = Reading::default();
    let mut waiting = Found::Value(0.0);
    for (state, active) in STATES {
        let group = groups
            .iter()
            .find(|group| matches!(field(group, &["_id"]), Found::Value(Bson::Boolean(id)) if *id == active));
        let oldest = group.map_or(Found::Value(0.0), |group| number(group, &["oldest"]));
        reading.number(
            &catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN,
            &[state],
            oldest.map(|micros| micros / 1e6),
        );
        if let Some(group) = group {
            waiting = match (waiting, number(group, &["waiting"])) {
                (Found::Value(sum), Found::Value(more)) => Found::Value(sum + more),
                _ => Found::Odd,
            };
        }
    }
    reading.number(&catalog::MONGODB_TRANSACTIONS_WAITING_FOR_LOCK, &[], waiting);
    reading
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Value;

    fn numbers(groups: &[Document]) -> (Vec<f64>, u64) {
        let reading = decode(&groups.iter().collect::<Vec<_>>());
        let numbers = reading.samples().iter().map(|sample| match sample.value {
            Value::Number(number) => number,
            Value::Histogram(_) => panic!("no histogram is expected"),
        });
        (numbers.collect(), reading.dropped())
    }

    /// Nothing answers there: whatever returns at once has not asked.
    #[tokio::test]
    async fn it_does_not_ask_without_transactions_nor_before_its_time() {
        let client =
            mongodb::Client::with_uri_str("mongodb://127.0.0.1:1/?directConnection=true").await.unwrap();
        let admin = client.database("admin");
        let ask = |open| Ask::new(&admin, Duration::from_secs(3), open);
        let mut source = CurrentOp { answers: true, ..CurrentOp::default() };
        let reading = source.poll(ask(Some(0.0))).await.unwrap().unwrap();
        assert_eq!(reading.samples().len(), 3);
        source.rest(Instant::now(), Duration::from_millis(30) * PAUSE);
        assert_eq!(source.poll(ask(Some(7.0))).await.unwrap(), None);
        assert_eq!(source.pace(), Some(Duration::from_secs(3)));
        source.forget();
        assert_eq!(source.pace(), Some(Duration::ZERO));
    }

    #[test]
    fn without_transactions_all_is_zero() {
        assert_eq!(numbers(&[]), (vec![0.0, 0.0, 0.0], 0));
    }

    #[test]
    fn each_state_has_its_oldest_and_the_waiters_are_summed() {
        let groups = [
            doc! {"_id": false, "oldest": 2_500_000_i64, "waiting": 0},
            doc! {"_id": true, "oldest": 500_000_i64, "waiting": 3},
        ];
        assert_eq!(numbers(&groups), (vec![0.5, 2.5, 3.0], 0));
    }

    #[test]
    fn an_odd_group_costs_its_own_numbers() {
        let groups = [
            doc! {"_id": false, "oldest": "long", "waiting": 1},
            doc! {"_id": true, "oldest": 1_000_000, "waiting": 1},
        ];
        assert_eq!(numbers(&groups), (vec![1.0, 2.0], 1));
    }
}
