//! Watching a deployment live: the sidecar's discovery, identification and polling, with the collector of the model.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::collector::NAME;
use super::conflicts;
use super::report::{LiveReport, MemberReport, MemberStatus};
use super::store::{LiveMember, LiveStore};
use crate::collector::CollectorSettings;
use crate::error::{PollErrorReason, StartError};
use crate::monitor::DeploymentMonitor;
use crate::poller::PollTiming;
use crate::snapshot::{CollectorState, MemberState, Snapshot};
use crate::target::Target;
use crate::topology::Role;
use crate::uri::Uri;

/// How often [`LiveMonitor::wait_for_members`] looks.
const RECHECK_INTERVAL: Duration = Duration::from_millis(20);

/// How long closing the connections may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// How a deployment is watched.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LiveSettings {
    /// The time between two polls of a member. It grows with the cost for a member that has thousands of open
    /// transactions.
    pub interval: Duration,
    /// The time after which a member counts as not answering.
    pub timeout: Duration,
    /// The share of one core of a member that polling may take, from 0.0001 to 1. A deployment in trouble has the most
    /// operations to list, and must not pay for being looked at.
    pub max_load: f64,
    /// The URLs of the backends' tables, such as `http://127.0.0.1:3000/-/transactions`.
    pub backends: Vec<String>,
}

impl Default for LiveSettings {
    /// A poll every second, a timeout of three, 1 % of a core, and no backends.
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(3));
        Self { interval, timeout, max_load: 0.01, backends: Vec::new() }
    }
}

/// A deployment that is watched live, in background tasks. Dropping it stops them.
#[derive(Debug)]
pub struct LiveMonitor {
    snapshot: Snapshot,
    store: LiveStore,
    timing: PollTiming,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl LiveMonitor {
    /// Starts watching. The deployment need not be reachable.
    ///
    /// # Errors
    ///
    /// If the URI or the URL of a backend is invalid.
    pub async fn start(target: &Target, settings: &LiveSettings) -> Result<Self, StartError> {
        let (snapshot, store) = (Snapshot::default(), LiveStore::new(settings.max_load));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut collectors = CollectorSettings::default();
        collectors.current_op.enabled = false;
        collectors.storage_engine.enabled = false;
        collectors.replication.enabled = false;
        collectors.parameters.enabled = false;
        collectors.open_by_operation.backends.clone_from(&settings.backends);
        collectors.validate().map_err(StartError::Settings)?;
        collectors.live = Some(store.clone());
        let timing = PollTiming { interval: settings.interval, timeout: settings.timeout };
        let uri = Uri::of(target)?;
        let monitor =
            DeploymentMonitor::new(uri, timing, collectors, snapshot.clone(), tasks.clone(), stop.clone());
        tasks.spawn(monitor.await?.run());
        tasks.close();
        Ok(Self { snapshot, store, timing, tasks, stop })
    }

    /// What the members have reported last. Never waits for a member.
    #[must_use]
    pub fn report(&self) -> LiveReport {
        let now = Instant::now();
        let states = self.snapshot.members();
        let known = self.store.retain(|member| states.iter().any(|state| state.address() == member));
        let rs = Some(self.snapshot.rs()).filter(|rs| !rs.is_empty());
        let mut report = LiveReport { replica_set: rs, ..LiveReport::default() };
        let mut newest = None;
        for state in &states {
            let live = known.get(state.address());
            let mut member = member_report(state, live, self.timing.timeout, now);
            if let (MemberStatus::Answers, Some(live)) = (member.state, live) {
                report.append(&live.model);
                // Each poll of a member but an arbiter reads the tables of all backends.
                if live.role != Some(Role::Arbiter) && newest.is_none_or(|newest| newest < live.at) {
                    newest = Some(live.at);
                    report.queues.clone_from(&live.model.queues);
                    report.pools.clone_from(&live.model.pools);
                }
                member.conflict_candidates = conflicts::candidates(&member, &report.transactions);
            }
            report.members.push(member);
        }
        report
    }

    /// Changes whenever a report may have changed, except for times that have passed. Costs less than a report.
    #[must_use]
    pub fn version(&self) -> Vec<MemberVersion> {
        let mut polled = self.store.polled();
        let failure = |of: &CollectorState| of.history().last.map(|last| last.failure);
        let version = |state: Arc<MemberState>| MemberVersion {
            failures: state.collectors().map(failure).collect(),
            polled: polled.remove(state.address()),
            member: state.address().to_owned(),
        };
        self.snapshot.members().into_iter().map(version).collect()
    }

    /// Waits until each member has reported twice, so that rates are known, or does not answer; but not longer than
    /// `limit`.
    pub async fn wait_for_members(&self, limit: Duration) {
        let is_known = |state: &MemberState| {
            let report = member_report(state, None, self.timing.timeout, Instant::now());
            report.state == MemberStatus::Fails || self.store.points(state.address()) >= 2
        };
        let all_known = async {
            loop {
                let members = self.snapshot.members();
                if !members.is_empty() && members.iter().all(|state| is_known(state)) {
                    return;
                }
                sleep(RECHECK_INTERVAL).await;
            }
        };
        let _ = timeout(limit, all_known).await;
    }

    /// Stops watching, and closes the connections.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let _ = timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await;
    }
}

/// What the report of a member depends on.
#[derive(Debug, PartialEq, Eq)]
pub struct MemberVersion {
    member: String,
    polled: Option<Instant>,
    failures: Vec<Option<Option<PollErrorReason>>>,
}

impl Drop for LiveMonitor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn member_report(
    state: &MemberState,
    live: Option<&LiveMember>,
    timeout: Duration,
    now: Instant,
) -> MemberReport {
    let last = |of: Option<&CollectorState>| of.and_then(|of| of.history().last?.failure);
    let of_live = last(state.collectors().find(|of| of.name() == NAME));
    // The status finds out whether the member answers. What it lacks otherwise, such as a privilege, costs its own part
    // only.
    let of_status = last(Some(state.status())).filter(|reason| !reason.is_server_response());
    let failure = of_live.or(of_status);
    let failure = failure.map(|reason| message(reason, timeout));
    let status = match (&failure, live) {
        (Some(_), _) => MemberStatus::Fails,
        (None, Some(_)) => MemberStatus::Answers,
        (None, None) => MemberStatus::Connecting,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of the server")]
    let count = |count: f64| count as u64;
    MemberReport {
        member: state.address().to_owned(),
        role: live.and_then(|live| live.role).map(role),
        state: status,
        error: failure,
        answered_ago: live.map(|live| now.saturating_duration_since(live.at)),
        open_transactions: live.and_then(|live| live.open).map(count),
        truncated: live.is_some_and(|live| live.model.truncated),
        rates: live.and_then(|live| live.rates).filter(|_| status == MemberStatus::Answers),
        missing: live.map(|live| live.model.missing.clone()).unwrap_or_default(),
        conflict_candidates: Vec::new(),
        history: live.map(|live| live.history.clone()).unwrap_or_default(),
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Secondary => "secondary",
        Role::Arbiter => "arbiter",
        Role::Other => "other",
    }
}

fn message(reason: PollErrorReason, timeout: Duration) -> String {
    match reason {
        PollErrorReason::Timeout => format!(
            "it did not answer within {timeout:?}: check whether it hangs, and the network to it"
        ),
        PollErrorReason::Network | PollErrorReason::ServerSelection => {
            "it cannot be reached: check that it is running, and that its name in the replica set's configuration is \
             reachable from here"
                .to_owned()
        }
        PollErrorReason::Authentication => {
            "it does not accept the credentials: check the user, the password, and authSource and authMechanism of the \
             URI"
                .to_owned()
        }
        PollErrorReason::PermissionDenied => {
            "the user lacks a privilege: create the role that `txnscope role` prints, and grant it to the user".to_owned()
        }
        PollErrorReason::IdentityMismatch => {
            "another server answers at its address: check which one listens there".to_owned()
        }
        PollErrorReason::CommandFailed | PollErrorReason::MalformedReply | PollErrorReason::Other => {
            "it refuses to report: see the log of the server".to_owned()
        }
    }
}
