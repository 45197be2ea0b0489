//! `$currentOp`: age, applications and waits of open transactions.
//!
//! The server walks all its sessions for the reply (40 ms with 5,000 open transactions). So the command is sent
//! only while a transaction is open or has just ended, at a rate that costs less than one percent of a core, and
//! it aggregates on the server.

pub(super) mod oldest;
mod pipeline;
mod summary;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use txnscope_catalog::MAX_APPLICATIONS;

use self::oldest::{SlowTransactionLogger, oldest_transactions};
use super::label_limiter::CardinalityLimiter;
use super::pacing::{PAUSE_FACTOR, Pacing};
use super::{Collector, CurrentOpSettings, PollContext, Privilege, Schedule, TransactionCounts};
use crate::decode::{Field, documents};
use crate::error::PollError;
use crate::sample_set::SampleSet;

/// The factor of the pause after a timeout. `maxTimeMS` has ended the command on the server, but a server that is this slow
/// must not be loaded further, nor be unobserved for long.
const TIMEOUT_PAUSE_FACTOR: u32 = 20;

#[derive(Debug)]
pub(super) struct CurrentOp {
    long_running: Duration,
    limiter: CardinalityLimiter,
    logger: SlowTransactionLogger,
    poll_state: PollState,
}

/// What was learned about the member.
#[derive(Debug, Default)]
struct PollState {
    /// The server has answered once, so a missing privilege is known before the first transaction is open.
    answered: bool,
    /// The number of ended transactions at the last poll.
    ended: Option<f64>,
    /// A commit or an abort was in progress at the last poll.
    finishing: bool,
    pacing: Pacing,
}

#[async_trait]
impl Collector for CurrentOp {
    fn name(&self) -> &'static str {
        "current_op"
    }

    fn schedule(&self) -> Schedule {
        Schedule::AfterStatus
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("inprog")]
    }

    fn min_interval(&self) -> Option<Duration> {
        Some(self.poll_state.pacing.pause())
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let asked = Instant::now();
        let due = self.poll_state.pacing.is_due(asked);
        if self.poll_state.can_skip(context.transactions, due) {
            self.poll_state.pacing.skip();
            self.logger.clear();
            return Ok(Some(summary::decode(&[], self.long_running, &mut self.limiter)));
        }
        if !due {
            return Ok(None);
        }
        // This applies if the poll is dropped at its timeout.
        self.poll_state.answered = false;
        let before = self.poll_state.pacing;
        self.poll_state.pacing.exactly(asked, context.timeout() * TIMEOUT_PAUSE_FACTOR);
        let answer = self.run(context).await;
        self.poll_state.pacing = before;
        self.poll_state.pacing.after(asked, asked.elapsed() * PAUSE_FACTOR);
        let samples = answer?;
        self.poll_state.answered = true;
        self.poll_state.ended = context.transactions.ended;
        Ok(Some(samples))
    }

    /// A member that was unreachable was not slow because of this collector.
    fn reset(&mut self) {
        self.poll_state = PollState::default();
    }
}

/// Decodes a reply, for tests and fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(
    reply: &mongodb::bson::Document,
    long_running: Duration,
    limiter: &mut CardinalityLimiter,
) -> SampleSet {
    let groups = documents(reply, &["cursor", "firstBatch"]).ok().unwrap_or_default();
    summary::finishing(&groups);
    summary::long_running(&groups);
    for group in &groups {
        oldest::decode(group);
    }
    summary::decode(&groups, long_running, limiter)
}

impl CurrentOp {
    pub(super) fn new(settings: &CurrentOpSettings) -> Self {
        Self {
            long_running: settings.long_running,
            limiter: CardinalityLimiter::new(MAX_APPLICATIONS),
            logger: SlowTransactionLogger::default(),
            poll_state: PollState::default(),
        }
    }

    async fn run(&mut self, context: PollContext<'_>) -> Result<SampleSet, PollError> {
        let reply = context.cursor(pipeline::summary(self.long_running)).await?;
        let Field::Value(groups) = documents(&reply, &["cursor", "firstBatch"]) else {
            return Err(PollError::malformed("the reply of $currentOp has no cursor.firstBatch"));
        };
        self.poll_state.finishing = summary::finishing(&groups) > 0.0;
        if summary::long_running(&groups) > 0.0 {
            // The single transactions are for the log only: an error here does not affect the metrics.
            match oldest_transactions(context, self.long_running, SlowTransactionLogger::MAX_TRACKED).await {
                Ok(transactions) => self.logger.observe(context.member(), &transactions, Instant::now()),
                Err(error) => {
                    tracing::debug!(member = context.member(), %error, "cannot name the oldest transactions")
                }
            }
        } else {
            self.logger.clear();
        }
        Ok(summary::decode(&groups, self.long_running, &mut self.limiter))
    }
}

impl PollState {
    /// Whether the poll can be skipped: no transaction is open, and none has ended since the last poll, so no
    /// commit can be waiting for a majority either (the server counts a commit before that wait). If it is too
    /// early to poll again, some may wait, but zero open transactions can be exported at once.
    fn can_skip(&self, transactions: TransactionCounts, due: bool) -> bool {
        let none_is_waiting = transactions.ended == self.ended || !due;
        self.answered && transactions.open == Some(0.0) && none_is_waiting && !self.finishing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::MemberState;

    /// No server listens there, so a poll that returns at once has sent nothing.
    #[tokio::test]
    async fn current_op_is_skipped_without_transactions_or_before_its_interval() {
        let client =
            mongodb::Client::with_uri_str("mongodb://127.0.0.1:1/?directConnection=true").await.unwrap();
        let admin = client.database("admin");
        let transactions = |open, ended| TransactionCounts { open: Some(open), ended: Some(ended) };
        let state = MemberState::new("db1:1".into(), "rs0".into(), ["current_op"].into_iter());
        let context =
            |open| PollContext::new(&admin, &state, Duration::from_secs(3), transactions(open, 5.0));
        let mut collector = CurrentOp::new(&CurrentOpSettings::default());
        collector.poll_state = PollState { answered: true, ended: Some(5.0), ..PollState::default() };
        let samples = collector.poll(context(0.0)).await.unwrap().unwrap();
        assert!(samples.as_slice().len() > 10);
        collector.poll_state.pacing.after(Instant::now(), Duration::from_millis(30) * PAUSE_FACTOR);
        assert_eq!(collector.poll(context(7.0)).await.unwrap(), None);
        assert_eq!(collector.min_interval(), Some(Duration::from_secs(3)));
        collector.reset();
        assert_eq!(collector.min_interval(), Some(Duration::ZERO));
    }

    #[test]
    fn current_op_is_polled_until_commits_finish() {
        let transactions = |open, ended| TransactionCounts { open: Some(open), ended: Some(ended) };
        let mut poll_state = PollState { answered: true, ended: Some(5.0), ..PollState::default() };
        assert!(poll_state.can_skip(transactions(0.0, 5.0), true));
        assert!(!poll_state.can_skip(transactions(1.0, 5.0), true));
        assert!(!poll_state.can_skip(transactions(0.0, 6.0), true));
        assert!(
            poll_state.can_skip(transactions(0.0, 6.0), false),
            "none is open, and it is too early to ask more"
        );
        poll_state.finishing = true;
        assert!(!poll_state.can_skip(transactions(0.0, 5.0), true));
        assert!(!poll_state.can_skip(transactions(0.0, 5.0), false), "what was in progress stands");
        assert!(!PollState::default().can_skip(transactions(0.0, 5.0), true), "it has never answered");
        assert!(!poll_state.can_skip(TransactionCounts::default(), true), "the status does not say");
    }
}
