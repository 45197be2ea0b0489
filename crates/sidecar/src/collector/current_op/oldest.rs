//! The oldest open transactions: for the log, and for the join with backends' tables.
//!
//! An idle transaction has no command, namespace or comment; its session id and its number are all that
//! identifies it. They are used in the log and for the join, never as labels.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::{Bson, Document};
use tokio::time::Instant;

use super::pipeline;
use crate::collector::PollContext;
use crate::decode::{Field, boolean, documents, field, number, text};
use crate::error::PollError;

/// An open transaction, from `$currentOp`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenTransaction {
    /// The id of its session, in the form of a UUID.
    pub(crate) session: String,
    /// Its number in its session.
    pub(crate) number: i64,
    /// Time since it began.
    pub(crate) age: Duration,
    /// Whether it runs a statement now.
    pub(crate) active: bool,
    /// `appName` of its client, or the name of its driver; empty if it has neither.
    pub(crate) application: String,
    /// Host and port of its client.
    pub(crate) client: String,
}

/// Reads up to `limit` of the oldest transactions that are older than `older_than`, the oldest first. The server
/// walks all its sessions for this, so it is not done at every poll.
pub(crate) async fn oldest_transactions(
    context: PollContext<'_>,
    older_than: Duration,
    limit: u16,
) -> Result<Vec<OpenTransaction>, PollError> {
    let reply = context.cursor(pipeline::oldest(older_than, limit)).await?;
    match documents(&reply, &["cursor", "firstBatch"]) {
        Field::Value(found) => Ok(found.into_iter().filter_map(decode).collect()),
        Field::Missing | Field::Invalid => {
            Err(PollError::malformed("the reply of $currentOp has no cursor.firstBatch"))
        }
    }
}

/// `None` if session, number or age is missing: it could be neither joined nor identified.
pub(super) fn decode(operation: &Document) -> Option<OpenTransaction> {
    let session = match field(operation, &["lsid", "id"]) {
        Field::Value(Bson::Binary(binary)) => binary.to_uuid().ok()?.to_string(),
        _ => return None,
    };
    let number_of = |path: &[&str]| number(operation, path).ok();
    let text_of = |name| text(operation, &[name]).ok().unwrap_or_default().to_owned();
    #[allow(clippy::cast_possible_truncation, reason = "the driver counts up from one")]
    let number = number_of(&["transaction", "parameters", "txnNumber"])? as i64;
    Some(OpenTransaction {
        session,
        number,
        age: Duration::try_from_secs_f64(number_of(&["transaction", "timeOpenMicros"])? / 1e6).ok()?,
        active: boolean(operation, &["active"]) == Field::Value(true),
        application: text_of("application"),
        client: text_of("client"),
    })
}

/// Logs each long-running transaction once, with a rate limit.
#[derive(Debug, Default)]
pub(super) struct SlowTransactionLogger {
    /// Transactions that were logged and are still open.
    logged: BTreeSet<(String, i64)>,
    /// The start of the minute that the following counts belong to.
    minute: Option<Instant>,
    lines: u32,
    /// Transactions that were not logged because of the rate limit.
    unreported: u64,
}

impl SlowTransactionLogger {
    /// The maximum number of transactions that are read and tracked.
    pub(super) const MAX_TRACKED: u16 = 100;

    /// The maximum number of log lines in a minute.
    const MAX_LINES_PER_MINUTE: u32 = 10;

    /// No transaction is long-running.
    pub(super) fn clear(&mut self) {
        self.logged.clear();
    }

    /// Logs the new ones.
    pub(super) fn observe(&mut self, member: &str, transactions: &[OpenTransaction], now: Instant) {
        let open: BTreeSet<_> = transactions.iter().map(|of| (of.session.clone(), of.number)).collect();
        self.logged.retain(|key| open.contains(key));
        if self.minute.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(60)) {
            if self.unreported > 0 {
                tracing::warn!(
                    member,
                    count = self.unreported,
                    "further long-running transactions were not logged one by one"
                );
            }
            (self.minute, self.lines, self.unreported) = (Some(now), 0, 0);
        }
        for of in transactions {
            if !self.logged.insert((of.session.clone(), of.number)) {
                continue;
            }
            if self.lines == Self::MAX_LINES_PER_MINUTE {
                self.unreported += 1;
                continue;
            }
            self.lines += 1;
            tracing::warn!(
                member,
                session = of.session,
                txn_number = of.number,
                // To the millisecond.
                age_seconds = (of.age.as_secs_f64() * 1e3).round() / 1e3,
                active = of.active,
                application = of.application,
                client = of.client,
                "a transaction is long-running"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Uuid, doc};

    use super::*;

    fn of(number: i64) -> OpenTransaction {
        OpenTransaction {
            session: "s".to_owned(),
            number,
            age: Duration::from_secs(40),
            active: false,
            application: String::new(),
            client: String::new(),
        }
    }

    #[test]
    fn open_transaction_is_decoded() {
        let session = Uuid::new();
        let operation = doc! {
            "lsid": {"id": session}, "active": false, "application": "shop", "client": "127.0.0.1:5",
            "transaction": {"parameters": {"txnNumber": 3_i64}, "timeOpenMicros": 1_500_000_i64},
        };
        let read = decode(&operation).unwrap();
        assert_eq!(
            (read.session, read.number, read.age),
            (session.to_string(), 3, Duration::from_millis(1_500))
        );
        assert_eq!((read.application.as_str(), read.active), ("shop", false));
        for (path, invalid) in [("lsid", Bson::Int32(1)), ("transaction", Bson::Null)] {
            let mut other = operation.clone();
            other.insert(path, invalid);
            assert_eq!(decode(&other), None, "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_running_transactions_are_logged_once_with_a_rate_limit() {
        let mut logger = SlowTransactionLogger::default();
        logger.observe("db1", &[of(1)], Instant::now());
        logger.observe("db1", &[of(1)], Instant::now());
        assert_eq!(logger.lines, 1);
        let many: Vec<_> = (0..20).map(of).collect();
        logger.observe("db1", &many, Instant::now());
        assert_eq!((logger.lines, logger.unreported), (10, 10));
        tokio::time::advance(Duration::from_secs(61)).await;
        logger.observe("db1", &[of(30)], Instant::now());
        assert_eq!((logger.lines, logger.unreported, logger.logged.len()), (1, 0, 1));
    }
}
