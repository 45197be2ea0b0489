//! `$currentOp`: how long transactions have been open, whose they are, and what they wait for.
//!
//! The server walks all its sessions for the answer (40 ms with 5,000 open transactions), so it is asked only while
//! the status says that a transaction is open or has just ended, never more often than leaves it under one percent of
//! a core, and sums on the server, however many are open.

pub(super) mod oldest;
mod pipeline;
mod summary;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use txnscope_catalog::MAX_APPLICATIONS;

use self::oldest::{Watch, oldest};
use super::names::Names;
use super::{Ask, Books, Collector, CurrentOpSettings, Privilege, Schedule};
use crate::decode::{Found, documents};
use crate::error::PollError;
use crate::reading::Reading;

/// A poll is followed by the next after this many times its own duration: what the server spends on it is no more
/// than that duration.
const PAUSE: u32 = 100;

/// The same for a poll whose answer never came. The server gives up before we do, so its silence has cost it nothing
/// but is a sign of distress: neither to be made worse, nor a time to be blind for long.
const PAUSE_AFTER_SILENCE: u32 = 20;

#[derive(Debug)]
pub(super) struct CurrentOp {
    long_running: Duration,
    names: Names,
    watch: Watch,
    known: Known,
}

/// What was learned about the member.
#[derive(Debug, Default)]
struct Known {
    /// The server has answered: a missing privilege is known before the first transaction is open.
    answers: bool,
    /// How many transactions had ended when it was asked last.
    ended: Option<f64>,
    /// A commit or an abort was in progress then.
    ending: bool,
    pause: Duration,
    next: Option<Instant>,
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

    fn pace(&self) -> Option<Duration> {
        Some(self.known.pause)
    }

    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        let asked = Instant::now();
        let due = self.known.next.is_none_or(|next| asked >= next);
        if self.known.nothing_to_ask(ask.books, due) {
            self.known.pause = Duration::ZERO;
            self.watch.all_gone();
            return Ok(Some(summary::decode(&[], self.long_running, &mut self.names)));
        }
        if !due {
            return Ok(None);
        }
        // This stands if the poll is dropped at its timeout.
        self.known.answers = false;
        self.known.rest(asked, ask.timeout() * PAUSE_AFTER_SILENCE);
        let answer = self.ask(ask).await;
        self.known.rest(asked, asked.elapsed() * PAUSE);
        let reading = answer?;
        self.known.answers = true;
        self.known.ended = ask.books.ended;
        Ok(Some(reading))
    }

    /// A member that was away or frozen was not slow because of us.
    fn forget(&mut self) {
        self.known = Known::default();
    }
}

/// What a poll makes of a reply.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(reply: &mongodb::bson::Document, long_running: Duration, names: &mut Names) -> Reading {
    let groups = documents(reply, &["cursor", "firstBatch"]).ok().unwrap_or_default();
    summary::endings(&groups);
    summary::long_running(&groups);
    for group in &groups {
        oldest::decode(group);
    }
    summary::decode(&groups, long_running, names)
}

impl CurrentOp {
    pub(super) fn new(settings: &CurrentOpSettings) -> Self {
        Self {
            long_running: settings.long_running,
            names: Names::new(MAX_APPLICATIONS),
            watch: Watch::default(),
            known: Known::default(),
        }
    }

    async fn ask(&mut self, ask: Ask<'_>) -> Result<Reading, PollError> {
        let reply = ask.cursor(pipeline::summary(self.long_running)).await?;
        let Found::Value(groups) = documents(&reply, &["cursor", "firstBatch"]) else {
            return Err(PollError::malformed("the reply of $currentOp has no cursor.firstBatch"));
        };
        self.known.ending = summary::endings(&groups) > 0.0;
        if summary::long_running(&groups) > 0.0 {
            // Only the log needs them: without an answer it is silent, and the numbers stand.
            match oldest(ask, self.long_running, Watch::MOST).await {
                Ok(transactions) => self.watch.see(ask.member(), &transactions, Instant::now()),
                Err(error) => {
                    tracing::debug!(member = ask.member(), %error, "cannot name the oldest transactions")
                }
            }
        } else {
            self.watch.all_gone();
        }
        Ok(summary::decode(&groups, self.long_running, &mut self.names))
    }
}

impl Known {
    /// No transaction is open, and none has ended since we asked last, so none can be waiting for the majority either:
    /// to the server a commit is done before that wait begins. Some may wait if it is too early to ask again, but that
    /// none is open need not be asked, and is shown at once.
    fn nothing_to_ask(&self, books: Books, due: bool) -> bool {
        let none_is_waiting = books.ended == self.ended || !due;
        self.answers && books.open == Some(0.0) && none_is_waiting && !self.ending
    }

    fn rest(&mut self, asked: Instant, pause: Duration) {
        self.pause = pause;
        self.next = Some(asked + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::MemberState;

    /// Nothing answers there: whatever returns at once has not asked.
    #[tokio::test]
    async fn it_does_not_ask_without_transactions_nor_before_its_time() {
        let client =
            mongodb::Client::with_uri_str("mongodb://127.0.0.1:1/?directConnection=true").await.unwrap();
        let admin = client.database("admin");
        let books = |open, ended| Books { open: Some(open), ended: Some(ended) };
        let state = MemberState::new("db1:1".into(), "rs0".into(), ["current_op"].into_iter());
        let ask = |open| Ask::new(&admin, &state, Duration::from_secs(3), books(open, 5.0));
        let mut collector = CurrentOp::new(&CurrentOpSettings::default());
        collector.known = Known { answers: true, ended: Some(5.0), ..Known::default() };
        let reading = collector.poll(ask(0.0)).await.unwrap().unwrap();
        assert!(reading.samples().len() > 10);
        collector.known.rest(Instant::now(), Duration::from_millis(30) * PAUSE);
        assert_eq!(collector.poll(ask(7.0)).await.unwrap(), None);
        assert_eq!(collector.pace(), Some(Duration::from_secs(3)));
        collector.forget();
        assert_eq!(collector.pace(), Some(Duration::ZERO));
    }

    #[test]
    fn an_ended_transaction_is_asked_after_until_its_commit_is_through() {
        let books = |open, ended| Books { open: Some(open), ended: Some(ended) };
        let mut known = Known { answers: true, ended: Some(5.0), ..Known::default() };
        assert!(known.nothing_to_ask(books(0.0, 5.0), true));
        assert!(!known.nothing_to_ask(books(1.0, 5.0), true));
        assert!(!known.nothing_to_ask(books(0.0, 6.0), true));
        assert!(
            known.nothing_to_ask(books(0.0, 6.0), false),
            "none is open, and it is too early to ask more"
        );
        known.ending = true;
        assert!(!known.nothing_to_ask(books(0.0, 5.0), true));
        assert!(!known.nothing_to_ask(books(0.0, 5.0), false), "what was in progress stands");
        assert!(!Known::default().nothing_to_ask(books(0.0, 5.0), true), "it has never answered");
        assert!(!known.nothing_to_ask(Books::default(), true), "the status does not say");
    }
}
