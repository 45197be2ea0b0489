//! The last fifteen minutes of each member, from the samples of the regular polls: no further command is sent, so that
//! there is a history before a user looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::history::{HISTORY, History, HistoryPoint};
use super::rates::{self, Counters, Rates};
use crate::snapshot::MemberState;

/// The distance of two values in [`HistoryColumns`].
const STEP: Duration = Duration::from_secs(10);

/// How long a value holds. A member that is polled once a minute has no gaps; one that does not answer has.
const HOLDS: Duration = Duration::from_secs(90);

/// The histories of all members, by address.
#[derive(Debug, Default)]
pub(crate) struct HistoryRecorder(Mutex<BTreeMap<String, Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    /// When the newest samples were taken.
    taken: Option<Instant>,
    counters: Counters,
    conflicts: Conflicts,
    history: History,
}

/// Write conflicts, which another collector counts, at another interval.
#[derive(Debug, Default)]
struct Conflicts {
    counted: Option<(Instant, f64)>,
    rate: Option<f64>,
}

impl Conflicts {
    fn observe(&mut self, member: &MemberState, now: Instant) {
        let counts = member.others().iter().find_map(|collector| {
            let history = collector.history();
            let count = history.fresh(now)?.total(&catalog::MONGODB_WIREDTIGER_UPDATE_CONFLICTS)?;
            Some((now - history.age(now)?, count))
        });
        let Some((taken, count)) = counts else { return *self = Self::default() };
        let Some((before, count_before)) = self.counted.replace((taken, count)) else { return };
        // The rate holds until the next count.
        if taken > before {
            let rate = (count - count_before) / (taken - before).as_secs_f64();
            self.rate = Some(rate).filter(|rate| *rate >= 0.0);
        }
    }
}

/// The history of one member as series with one value for each step, the oldest first. `None`: not known.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct HistoryColumns {
    step_seconds: u64,
    open_transactions: Vec<Option<f64>>,
    commits_per_second: Vec<Option<f64>>,
    aborts_per_second: Vec<Option<f64>>,
    write_conflicts_per_second: Vec<Option<f64>>,
    lock_waits_per_second: Vec<Option<f64>>,
}

impl HistoryRecorder {
    /// Adds the newest samples of the members, and forgets members that have left.
    pub(crate) fn record(&self, members: &[Arc<MemberState>]) {
        let now = Instant::now();
        let mut recorded = self.lock();
        recorded.retain(|address, _| members.iter().any(|member| member.address() == address));
        for member in members {
            let status = member.status().history();
            let (Some(samples), Some(age)) = (status.fresh(now), status.age(now)) else { continue };
            let of_member = recorded.entry(member.address().to_owned()).or_default();
            let taken = now - age;
            if of_member.taken.replace(taken) == Some(taken) {
                continue;
            }
            let counters = rates::of_samples(samples);
            of_member.conflicts.observe(member, now);
            let mut rates = rates::rates(&of_member.counters, &counters);
            if let Some(rates) = &mut rates {
                rates.write_conflicts = rates.write_conflicts.or(of_member.conflicts.rate);
            }
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of the server"
            )]
            let open = counters.open.unwrap_or_default() as usize;
            of_member.history.push(HistoryPoint { at: taken, open, waiting: 0, rates });
            of_member.counters = counters;
        }
    }

    /// The history of a member, if there is one.
    pub(crate) fn columns(&self, member: &str) -> Option<HistoryColumns> {
        self.lock().get(member).map(|recorded| columns(&recorded.history, Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn columns(history: &History, now: Instant) -> HistoryColumns {
    let steps = u32::try_from(HISTORY.as_secs() / STEP.as_secs()).unwrap_or_default();
    let mut points = history.points().peekable();
    let (mut newest, mut chosen) = (None, Vec::new());
    for step in (0..steps).rev() {
        // The machine may have been started less than fifteen minutes ago.
        let end = now.checked_sub(STEP * step);
        while let Some(point) = end.and_then(|end| points.next_if(|point| point.at <= end)) {
            newest = Some(point);
        }
        let holds = |point: &&HistoryPoint| end.is_some_and(|end| end.duration_since(point.at) < HOLDS);
        chosen.push(newest.filter(holds));
    }
    let rate = |of: fn(&Rates) -> Option<f64>| {
        chosen.iter().map(|point| point.and_then(|point| of(point.rates.as_ref()?))).collect()
    };
    #[allow(clippy::cast_precision_loss, reason = "a number of transactions")]
    let open = |point: &Option<&HistoryPoint>| point.map(|point| point.open as f64);
    HistoryColumns {
        step_seconds: STEP.as_secs(),
        open_transactions: chosen.iter().map(open).collect(),
        commits_per_second: rate(|rates| rates.commits),
        aborts_per_second: rate(|rates| rates.aborts),
        write_conflicts_per_second: rate(|rates| rates.write_conflicts),
        lock_waits_per_second: rate(|rates| rates.lock_waits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Field;
    use crate::error::PollErrorReason;
    use crate::sample_set::SampleSet;

    const POLL: Duration = Duration::from_secs(5);

    fn samples(uptime: f64, committed: f64, open: f64) -> SampleSet {
        let mut samples = SampleSet::default();
        samples.number(&catalog::MONGODB_UPTIME, &[], Field::Value(uptime));
        samples.number(&catalog::MONGODB_TRANSACTIONS_COMMITTED, &[], Field::Value(committed));
        samples.number(&catalog::MONGODB_TRANSACTIONS_OPEN, &["inactive"], Field::Value(open));
        samples
    }

    #[tokio::test(start_paused = true)]
    async fn history_follows_from_the_regular_polls_and_has_gaps_without_answers() {
        let others = ["storage_engine"].into_iter();
        let member = Arc::new(MemberState::new("db1:27017".into(), "rs0".into(), others));
        let recorder = HistoryRecorder::default();
        tokio::time::advance(2 * HISTORY).await;
        let poll = |result| {
            member.status().record(Instant::now(), POLL, result);
            recorder.record(&[Arc::clone(&member)]);
            recorder.record(&[Arc::clone(&member)]);
        };
        for second in 0_u32..60 {
            let second = f64::from(second * 5);
            let mut conflicts = SampleSet::default();
            let of_engine = &catalog::MONGODB_WIREDTIGER_UPDATE_CONFLICTS;
            conflicts.number(of_engine, &[], Field::Value(second * 3.0));
            member.others()[0].record(Instant::now(), POLL, Ok(conflicts));
            poll(Ok(samples(second, second * 2.0, 7.0)));
            tokio::time::advance(POLL).await;
        }
        let before = recorder.columns("db1:27017").unwrap();
        assert_eq!((before.open_transactions.len(), before.step_seconds), (90, 10));
        assert_eq!((before.open_transactions[0], before.open_transactions[89]), (None, Some(7.0)));
        assert_eq!((before.commits_per_second[89], before.aborts_per_second[89]), (Some(2.0), None));
        assert_eq!(before.write_conflicts_per_second[89], Some(3.0), "of the storage engine's collector");
        let known = before.commits_per_second.iter().filter(|rate| rate.is_some()).count();
        assert!((29..=30).contains(&known), "{known} values for five minutes");

        for _ in 0..60 {
            poll(Err(PollErrorReason::Network));
            tokio::time::advance(POLL).await;
        }
        let after = recorder.columns("db1:27017").unwrap();
        assert_eq!(after.open_transactions[89], None, "it has not answered for five minutes");
        assert!(after.open_transactions.contains(&Some(7.0)));
        recorder.record(&[]);
        assert_eq!(recorder.columns("db1:27017"), None, "the member has left");
    }
}
