//! State of the members, written by polls and read by scrapes.
//!
//! Locks are held for a copy or a swap only.

use std::collections::BTreeMap;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::collector::STATUS_COLLECTOR;
use crate::error::PollErrorReason;
use crate::identity::Identity;
use crate::sample_set::SampleSet;

/// Samples are no longer exported after this many intervals without new ones.
const STALE_AFTER: u32 = 3;

/// All members of one deployment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot(Arc<Mutex<Members>>);

type Members = BTreeMap<String, Arc<MemberState>>;

impl Snapshot {
    pub(crate) fn insert(&self, member: Arc<MemberState>) {
        lock(&self.0).insert(member.address.clone(), member);
    }

    pub(crate) fn remove(&self, address: &str) {
        lock(&self.0).remove(address);
    }

    /// The members, sorted by address.
    pub(crate) fn members(&self) -> Vec<Arc<MemberState>> {
        lock(&self.0).values().cloned().collect()
    }

    /// The name of the replica set; empty while it is unknown.
    pub(crate) fn rs(&self) -> String {
        self.members().iter().map(|member| member.rs()).find(|rs| !rs.is_empty()).unwrap_or_default()
    }
}

/// One member: its identity, and the last results of each collector.
#[derive(Debug)]
pub(crate) struct MemberState {
    address: String,
    rs: Mutex<String>,
    identity: Identity,
    status: Arc<CollectorState>,
    others: Vec<Arc<CollectorState>>,
}

impl MemberState {
    /// A member that has not been polled, with the names of its collectors apart from the status.
    pub(crate) fn new(address: String, rs: String, others: impl Iterator<Item = &'static str>) -> Self {
        let state = |name| Arc::new(CollectorState::new(name));
        Self {
            address,
            rs: Mutex::new(rs),
            identity: Identity::default(),
            status: state(STATUS_COLLECTOR),
            others: others.map(state).collect(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The name of its replica set; empty while unknown.
    pub(crate) fn rs(&self) -> String {
        lock(&self.rs).clone()
    }

    pub(crate) fn set_rs(&self, rs: &str) {
        rs.clone_into(&mut lock(&self.rs));
    }

    /// The identity of the server that answers.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The collector that determines whether the member is up.
    pub(crate) fn status(&self) -> &Arc<CollectorState> {
        &self.status
    }

    /// The other collectors, in the order of the catalog.
    pub(crate) fn others(&self) -> &[Arc<CollectorState>] {
        &self.others
    }

    /// All collectors.
    pub(crate) fn collectors(&self) -> impl Iterator<Item = &CollectorState> {
        iter::once(&self.status).chain(&self.others).map(AsRef::as_ref)
    }

    /// Whether the member answered its last status poll in time. `None` before the first has ended.
    pub(crate) fn up(&self, now: Instant) -> Option<bool> {
        self.status.history().up(now)
    }

    /// Whether every collector has been polled at least once.
    pub(crate) fn has_been_polled(&self) -> bool {
        self.collectors().all(|collector| collector.history().last.is_some())
    }
}

/// One collector of one member.
#[derive(Debug)]
pub(crate) struct CollectorState {
    name: &'static str,
    history: Mutex<PollHistory>,
    /// The last logged state of its polls: not logged yet, successful, or failing for a reason.
    logged: Mutex<Option<Option<PollErrorReason>>>,
}

/// History of a collector's polls.
#[derive(Debug, Clone, Default)]
pub(crate) struct PollHistory {
    pub(crate) last: Option<LastPoll>,
    samples: Option<Arc<SampleSet>>,
    /// When the samples were taken, and the interval after which the next ones were due.
    taken: Option<(Instant, Duration)>,
    pub(crate) failures: [u64; PollErrorReason::ALL.len()],
    pub(crate) dropped: u64,
}

/// The last poll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastPoll {
    pub(crate) ended: Instant,
    pub(crate) interval: Duration,
    pub(crate) took: Duration,
    pub(crate) failure: Option<PollErrorReason>,
}

impl CollectorState {
    fn new(name: &'static str) -> Self {
        Self { name, history: Mutex::default(), logged: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn history(&self) -> PollHistory {
        lock(&self.history).clone()
    }

    /// Sets the logged state: success, or the reason of the failure. Returns the previous one. A member may be
    /// known as unreachable before its first poll, which is recorded and not yet logged.
    pub(crate) fn replace_logged(&self, failure: Option<PollErrorReason>) -> Option<Option<PollErrorReason>> {
        lock(&self.logged).replace(failure)
    }

    /// Records a poll with its start, and the interval after which the next one is due.
    pub(crate) fn record(
        &self,
        began: Instant,
        interval: Duration,
        result: Result<SampleSet, PollErrorReason>,
    ) {
        let ended = Instant::now();
        let mut history = lock(&self.history);
        let failure = match result {
            Ok(samples) => {
                history.dropped += samples.dropped();
                let failure = samples.failure().map(|error| error.reason);
                history.samples = Some(Arc::new(samples));
                history.taken = Some((ended, interval));
                failure
            }
            Err(reason) => Some(reason),
        };
        if let Some(reason) = failure {
            history.failures[reason as usize] += 1;
        }
        history.last = Some(LastPoll { ended, interval, took: ended - began, failure });
    }
}

impl PollHistory {
    /// The last samples, if they are fresh.
    pub(crate) fn fresh(&self, now: Instant) -> Option<&SampleSet> {
        let (at, interval) = self.taken?;
        let age = now.saturating_duration_since(at);
        self.samples.as_deref().filter(|_| age <= interval * STALE_AFTER)
    }

    /// Whether the last poll was answered in time. `None` before the first has ended.
    pub(crate) fn up(&self, now: Instant) -> Option<bool> {
        let last = self.last?;
        let answered = last.failure.is_none_or(PollErrorReason::is_server_response);
        let in_time = now.saturating_duration_since(last.ended) <= last.interval * STALE_AFTER;
        Some(answered && in_time)
    }

    /// The age of the last samples.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        self.taken.map(|(at, _)| now.saturating_duration_since(at))
    }
}

/// A panic while a lock was held leaves no partial change: each holder makes one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PollError;

    const SECOND: Duration = Duration::from_secs(1);

    fn member() -> MemberState {
        MemberState::new("db1:27017".into(), "rs0".into(), ["current_op"].into_iter())
    }

    #[tokio::test(start_paused = true)]
    async fn samples_older_than_three_intervals_are_stale() {
        let member = member();
        let status = member.status();
        assert_eq!(member.up(Instant::now()), None, "no poll has ended");
        status.record(Instant::now(), SECOND, Ok(SampleSet::default()));
        tokio::time::advance(3 * SECOND).await;
        assert!(status.history().fresh(Instant::now()).is_some());
        assert_eq!(member.up(Instant::now()), Some(true));
        tokio::time::advance(SECOND / 10).await;
        assert!(status.history().fresh(Instant::now()).is_none());
        assert_eq!(member.up(Instant::now()), Some(false));
        assert_eq!(status.history().age(Instant::now()), Some(3 * SECOND + SECOND / 10));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_poll_does_not_extend_freshness() {
        let member = member();
        let collector = &member.others()[0];
        collector.record(Instant::now(), SECOND, Ok(SampleSet::default()));
        collector.record(Instant::now(), 100 * SECOND, Err(PollErrorReason::Timeout));
        tokio::time::advance(4 * SECOND).await;
        assert!(collector.history().fresh(Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn partial_sample_set_is_exported() {
        let member = member();
        let collector = &member.others()[0];
        let refused = PollError::new(PollErrorReason::PermissionDenied, "as in the test");
        collector.record(Instant::now(), SECOND, Ok(SampleSet::default().mark_partial(Some(refused))));
        let history = collector.history();
        assert!(history.fresh(Instant::now()).is_some());
        assert_eq!(history.last.and_then(|last| last.failure), Some(PollErrorReason::PermissionDenied));
        assert_eq!(history.failures[PollErrorReason::PermissionDenied as usize], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_command_means_up_and_timeout_means_down() {
        let member = member();
        let record = |reason| member.status().record(Instant::now(), SECOND, Err(reason));
        record(PollErrorReason::PermissionDenied);
        assert_eq!(member.up(Instant::now()), Some(true));
        record(PollErrorReason::Timeout);
        assert_eq!(member.up(Instant::now()), Some(false));
        let history = member.status().history();
        assert_eq!(history.failures[PollErrorReason::Timeout as usize], 1);
        assert_eq!(history.failures.iter().sum::<u64>(), 2);
        assert!(!member.has_been_polled(), "the other collector has not been asked");
    }
}
