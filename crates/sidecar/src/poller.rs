//! Polling of one member: one task for each collector, so that none waits for another.

use std::any::Any;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mongodb::Database;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use txnscope_catalog::{
    MONGODB_TRANSACTIONS_ABORTED, MONGODB_TRANSACTIONS_COMMITTED, MONGODB_TRANSACTIONS_OPEN, Refusal,
};

use crate::cause::FailureCause;
use crate::collector::{Collector, Collectors, PollContext, STATUS_COLLECTOR, Schedule, TransactionCounts};
use crate::error::{PollError, PollErrorReason};
use crate::identity::ObservedServer;
use crate::sample_set::SampleSet;
use crate::snapshot::{CollectorState, MemberState};
use crate::topology::Role;
use crate::uri::MemberClient;

/// Interval and timeout of polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PollTiming {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// The result of the last status poll, for the collectors that follow it.
#[derive(Debug, Clone, Copy, Default)]
struct Status {
    /// Why the member did not answer, if it did not.
    unreachable: Option<PollErrorReason>,
    transactions: TransactionCounts,
}

impl Status {
    fn of(result: &Result<SampleSet, PollError>) -> Self {
        match result {
            Ok(samples) => {
                let committed = samples.total(&MONGODB_TRANSACTIONS_COMMITTED);
                let aborted = samples.total(&MONGODB_TRANSACTIONS_ABORTED);
                let ended = committed.zip(aborted).map(|(committed, aborted)| committed + aborted);
                let transactions =
                    TransactionCounts { open: samples.total(&MONGODB_TRANSACTIONS_OPEN), ended };
                Self { unreachable: None, transactions }
            }
            Err(error) => {
                let unreachable = Some(error.reason).filter(|reason| !reason.is_server_response());
                Self { unreachable, transactions: TransactionCounts::default() }
            }
        }
    }
}

/// Starts polling a member until it is cancelled. `state` has one entry for each collector, in the same order.
pub(crate) fn spawn_pollers(
    state: &Arc<MemberState>,
    client: &MemberClient,
    collectors: Collectors,
    timing: PollTiming,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let (status, _) = watch::channel(Status::default());
    let status = Arc::new(status);
    let start = |collector: Box<dyn Collector>, results: &Arc<CollectorState>, reports| {
        let trigger = PollTrigger::new(
            collector.schedule(),
            timing.interval,
            state.address(),
            collector.name(),
            &status,
        );
        let poller = Poller {
            collector,
            results: Arc::clone(results),
            state: Arc::clone(state),
            admin: client.database("admin"),
            cause: client.cause().clone(),
            timing,
            trigger,
            reports,
            permanent_refusal: None,
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(poller.run()));
    };
    start(collectors.status, state.status(), Some(Arc::clone(&status)));
    for (collector, results) in collectors.others.into_iter().zip(state.others()) {
        start(collector, results, None);
    }
}

struct Poller {
    collector: Box<dyn Collector>,
    results: Arc<CollectorState>,
    state: Arc<MemberState>,
    admin: Database,
    cause: FailureCause,
    timing: PollTiming,
    trigger: PollTrigger,
    /// Where the status collector reports to those that follow it.
    reports: Option<Arc<watch::Sender<Status>>>,
    permanent_refusal: Option<PermanentRefusal>,
}

/// A command that the server refuses permanently: it is not sent again to the same process in the same state.
#[derive(Debug)]
struct PermanentRefusal {
    code: Option<i32>,
    /// The server that refused it.
    seen: Option<ObservedServer>,
    /// When the command is sent again in any case: the features of a hosted server may change without a restart.
    until: Instant,
}

/// How long a permanently refused command is not sent again.
const REFUSAL_RETRY_INTERVAL: Duration = Duration::from_secs(3600);

impl Poller {
    async fn run(mut self) {
        while let Some(status) = self.trigger.next().await {
            let began = Instant::now();
            let Some(result) = self.poll(status).await else { continue };
            if let Some(reports) = &self.reports {
                reports.send_replace(Status::of(&result));
            }
            self.record(began, result, status);
        }
    }

    /// Polls once. A panic of the collector counts as a failure.
    async fn poll(&mut self, status: Status) -> Option<Result<SampleSet, PollError>> {
        if let Some(reason) = status.unreachable {
            self.collector.reset();
            return Some(Err(PollError::new(reason, "the member does not answer")));
        }
        let limit = self.timing.timeout;
        let context = PollContext::new(&self.admin, &self.state, limit, status.transactions);
        if self.permanent_refusal.as_ref().is_some_and(|permanent_refusal| {
            permanent_refusal.seen == context.last_seen() && Instant::now() < permanent_refusal.until
        }) {
            // The status collector determines whether the member is up, so it sends `hello` in any case.
            if self.reports.is_some()
                && let Err(error) = timeout(limit, context.identify())
                    .await
                    .unwrap_or_else(|_| Err(self.cause.for_timeout(limit)))
            {
                return Some(Err(self.cause.root_cause_of(error).await));
            }
            return Some(Ok(SampleSet::default()));
        }
        let poll = AssertUnwindSafe(self.collector.poll(context)).catch_unwind();
        let result = match timeout(limit, poll).await {
            Ok(Ok(Ok(samples))) => {
                self.cause.clear();
                Ok(samples?)
            }
            Ok(Ok(Err(error))) => Err(self.cause.root_cause_of(error).await),
            Ok(Err(panic)) => Err(PollError::new(PollErrorReason::Other, panic_message(panic.as_ref()))),
            Err(_) => Err(self.cause.for_timeout(limit)),
        };
        Some(self.handle_permanent_refusal(result))
    }

    /// Turns a permanent refusal into an empty, successful result, and logs it once.
    fn handle_permanent_refusal(
        &mut self,
        result: Result<SampleSet, PollError>,
    ) -> Result<SampleSet, PollError> {
        let seen = self.state.identity().seen();
        // An arbiter has no users: the privilege cannot be granted.
        let is_arbiter = seen.is_some_and(|seen| seen.role == Role::Arbiter);
        let is_permanent = |error: &PollError| {
            error.is_permanent() || (is_arbiter && error.refusal() == Some(Refusal::Denied))
        };
        let (samples, error, rest) = match result {
            Err(error) if is_permanent(&error) => (SampleSet::default(), error, REFUSAL_RETRY_INTERVAL),
            Ok(samples) => match samples.failure().filter(|error| is_permanent(error)).cloned() {
                // The other commands of the collector are still worth sending.
                Some(error) => (samples.mark_partial(None), error, Duration::ZERO),
                None => {
                    self.permanent_refusal = None;
                    return Ok(samples);
                }
            },
            Err(error) => return Err(error),
        };
        let code = error.code();
        if self
            .permanent_refusal
            .as_ref()
            .is_none_or(|permanent_refusal| (permanent_refusal.code, permanent_refusal.seen) != (code, seen))
        {
            let (member, collector) = (self.state.address(), self.collector.name());
            let hint = match error.refusal() {
                Some(Refusal::Unsupported) => {
                    format!(
                        "only metrics that this server does not support are missing{}",
                        how_to_disable(collector)
                    )
                }
                _ => "the member refuses the command in its present state; it is sent again in another"
                    .to_owned(),
            };
            tracing::info!(member, collector, code, %error, hint, "the command is not supported");
        }
        self.permanent_refusal = Some(PermanentRefusal { code, seen, until: Instant::now() + rest });
        Ok(samples)
    }

    fn record(&self, began: Instant, result: Result<SampleSet, PollError>, status: Status) {
        let interval = self.trigger.period().max(self.collector.min_interval().unwrap_or_default());
        let error = match &result {
            Ok(samples) => samples.failure().cloned(),
            Err(error) => Some(error.clone()),
        };
        self.results.record(began, interval, result.map_err(|e| e.reason));
        // If the status poll found the member unreachable, its poller has logged that already.
        if status.unreachable.is_none() {
            self.log(self.results.replace_logged(error.as_ref().map(|error| error.reason)), error.as_ref());
        }
    }

    /// Logs when the result changes, and not at every poll.
    fn log(&self, before: Option<Option<PollErrorReason>>, error: Option<&PollError>) {
        let (member, collector) = (self.state.address(), self.collector.name());
        let warn = |error: &PollError| {
            let (reason, hint) = (error.reason.as_str(), self.hint(error.reason));
            tracing::warn!(member, collector, reason, %error, hint, "polls fail");
        };
        match error {
            // This concerns the member and not one collector, so the first collector that finds it logs it.
            Some(error) if error.reason == PollErrorReason::Authentication => {
                if self.cause.should_log_refusal() {
                    warn(error);
                }
            }
            Some(error) if error.reason == PollErrorReason::IdentityMismatch => {
                if self.state.identity().should_log_mismatch() {
                    warn(error);
                }
            }
            Some(error) if before != Some(Some(error.reason)) => warn(error),
            Some(_) => {}
            None => {
                let take_logged_refusal = self.cause.take_logged_refusal();
                match before {
                    Some(Some(PollErrorReason::Authentication)) if !take_logged_refusal => {}
                    Some(Some(_)) => tracing::info!(member, collector, "polls succeed again"),
                    Some(None) => {}
                    None => tracing::debug!(member, collector, "polls succeed"),
                }
            }
        }
    }

    fn hint(&self, reason: PollErrorReason) -> String {
        match reason {
            PollErrorReason::PermissionDenied => {
                let needed: Vec<_> = self.collector.privileges().iter().map(ToString::to_string).collect();
                format!(
                    "grant the user {}, or the role clusterMonitor; `txnscope role` prints the commands",
                    needed.join(" and ")
                )
            }
            PollErrorReason::Authentication => {
                "check the user, the password, and authSource and authMechanism of the URI".to_owned()
            }
            PollErrorReason::Timeout | PollErrorReason::Network | PollErrorReason::ServerSelection => {
                "check that the member is running, and that its name in the replica set's configuration is reachable from \
                 here; directConnection=true in the URI monitors one member under the address that you give"
                    .to_owned()
            }
            PollErrorReason::IdentityMismatch => {
                "its numbers are not exported. If the deployment was set up again, correct the URI or restart txnscope; \
                 otherwise check which server listens at this address"
                    .to_owned()
            }
            PollErrorReason::CommandFailed | PollErrorReason::MalformedReply | PollErrorReason::Other => {
                format!("see the server's error message{}", how_to_disable(self.collector.name()))
            }
        }
    }
}

/// The end of a hint that says how to disable a collector; empty if it cannot be disabled.
fn how_to_disable(collector: &str) -> String {
    match collector {
        STATUS_COLLECTOR => String::new(),
        "open_by_operation" => {
            "; remove --collector.open-by-operation.backends to disable the collector".to_owned()
        }
        collector => {
            format!("; --collector.{}.enabled=false disables the collector", collector.replace('_', "-"))
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the collector panicked: {}", text.unwrap_or("without a message"))
}

/// What starts the next poll. Missed polls are skipped and do not pile up.
enum PollTrigger {
    /// At once, and then at an interval.
    Ticks { first: bool, then: Interval },
    /// After each status poll.
    Status { polled: watch::Receiver<Status>, period: Duration },
}

impl PollTrigger {
    /// The first tick is at a different phase for each member and collector, so that not all members are polled
    /// at the same time.
    fn new(
        schedule: Schedule,
        interval: Duration,
        member: &str,
        collector: &str,
        status: &watch::Sender<Status>,
    ) -> Self {
        match schedule {
            Schedule::Interval(own) => {
                let period = own.max(interval);
                let mut then = interval_at(Instant::now() + period.mul_f64(phase(member, collector)), period);
                then.set_missed_tick_behavior(MissedTickBehavior::Skip);
                Self::Ticks { first: true, then }
            }
            Schedule::AfterStatus => Self::Status { polled: status.subscribe(), period: interval },
        }
    }

    async fn next(&mut self) -> Option<Status> {
        match self {
            Self::Ticks { first, then } => {
                if !std::mem::take(first) {
                    then.tick().await;
                }
                Some(Status::default())
            }
            Self::Status { polled, .. } => {
                polled.changed().await.ok()?;
                Some(*polled.borrow_and_update())
            }
        }
    }

    fn period(&self) -> Duration {
        match self {
            Self::Ticks { then, .. } => then.period(),
            Self::Status { period, .. } => *period,
        }
    }
}

/// A fraction between 0.1 and 1 that is constant for each collector of each member.
fn phase(member: &str, collector: &str) -> f64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((member, collector));
    #[allow(clippy::cast_precision_loss, reason = "any fraction will do")]
    let fraction = hash as f64 / u64::MAX as f64;
    0.1 + 0.9 * fraction
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use mongodb::options::{ClientOptions, ServerAddress};

    use super::*;
    use crate::collector::Privilege;
    use crate::decode::Field;

    const TIMING: PollTiming =
        PollTiming { interval: Duration::from_secs(1), timeout: Duration::from_millis(500) };

    /// A collector that repeats a script and contacts no server.
    #[derive(Debug)]
    struct Scripted {
        name: &'static str,
        schedule: Schedule,
        script: &'static [Step],
        at: usize,
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Read(f64),
        Refuse(PollErrorReason),
        Hang,
        Panic,
    }

    #[async_trait]
    impl Collector for Scripted {
        fn name(&self) -> &'static str {
            self.name
        }

        fn schedule(&self) -> Schedule {
            self.schedule
        }

        fn privileges(&self) -> Vec<Privilege> {
            Vec::new()
        }

        async fn poll(&mut self, _ask: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
            let step = self.script[self.at % self.script.len()];
            self.at += 1;
            match step {
                Step::Read(open) => {
                    let mut samples = SampleSet::default();
                    samples.number(&MONGODB_TRANSACTIONS_OPEN, &["active"], Field::Value(open));
                    Ok(Some(samples))
                }
                Step::Refuse(reason) => Err(PollError::new(reason, "as scripted")),
                Step::Hang => std::future::pending().await,
                Step::Panic => panic!("as scripted"),
            }
        }
    }

    async fn start_pollers(scripts: [(Schedule, &'static [Step]); 2]) -> Arc<MemberState> {
        let [status, other] = scripts;
        let state = Arc::new(MemberState::new("db1:27017".into(), "rs0".into(), ["current_op"].into_iter()));
        let scripted = |name, (schedule, script)| -> Box<dyn Collector> {
            Box::new(Scripted { name, schedule, script, at: 0 })
        };
        let collectors = Collectors {
            status: scripted(STATUS_COLLECTOR, status),
            others: vec![scripted("current_op", other)],
        };
        let address = ServerAddress::parse("127.0.0.1:1").unwrap();
        let client = crate::uri::client(&ClientOptions::default(), address, TIMING.timeout).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        spawn_pollers(&state, &client, collectors, TIMING, &tasks, &stop);
        state
    }

    /// The failures of a collector by reason, after at least this many polls.
    async fn failures(collector: &CollectorState, polls: u64) -> Vec<(PollErrorReason, u64)> {
        loop {
            let history = collector.history();
            let all: u64 = history.failures.iter().sum();
            if all >= polls {
                let each = PollErrorReason::ALL.into_iter().zip(history.failures);
                return each.filter(|(_, count)| *count > 0).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn panicking_or_hanging_collector_does_not_affect_others() {
        let state = start_pollers([
            (Schedule::Interval(Duration::ZERO), &[Step::Read(0.0)]),
            (
                Schedule::Interval(Duration::ZERO),
                &[Step::Panic, Step::Hang, Step::Refuse(PollErrorReason::PermissionDenied)],
            ),
        ])
        .await;
        assert_eq!(
            failures(&state.others()[0], 6).await,
            [
                (PollErrorReason::Timeout, 2),
                (PollErrorReason::PermissionDenied, 2),
                (PollErrorReason::Other, 2)
            ]
        );
        let status = state.status().history();
        assert_eq!(status.failures.iter().sum::<u64>(), 0);
        assert!(status.fresh(Instant::now()).is_some());
        assert_eq!(state.up(Instant::now()), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn unreachable_member_skips_dependent_collectors() {
        let state = start_pollers([
            (Schedule::Interval(Duration::ZERO), &[Step::Hang]),
            (Schedule::AfterStatus, &[Step::Panic]),
        ])
        .await;
        assert_eq!(
            failures(&state.others()[0], 3).await,
            [(PollErrorReason::Timeout, 3)],
            "it was asked, and panicked"
        );
        assert_eq!(state.up(Instant::now()), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn refused_status_still_triggers_dependent_collectors() {
        let state = start_pollers([
            (Schedule::Interval(Duration::ZERO), &[Step::Refuse(PollErrorReason::PermissionDenied)]),
            (Schedule::AfterStatus, &[Step::Refuse(PollErrorReason::CommandFailed)]),
        ])
        .await;
        assert_eq!(failures(&state.others()[0], 3).await, [(PollErrorReason::CommandFailed, 3)]);
        assert_eq!(state.up(Instant::now()), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn collector_interval_is_the_longer_of_its_own_and_the_poll_interval() {
        const READS: &[Step] = &[Step::Refuse(PollErrorReason::CommandFailed)];
        let state = start_pollers([
            (Schedule::Interval(Duration::from_millis(100)), READS),
            (Schedule::Interval(Duration::from_secs(5)), READS),
        ])
        .await;
        // Half a second more than a minute, so that the phase of either collector does not matter.
        tokio::time::sleep(Duration::from_millis(60_500)).await;
        let polls = |collector: &CollectorState| collector.history().failures.iter().sum::<u64>();
        let (status, other) = (polls(state.status()), polls(&state.others()[0]));
        assert!((60..=62).contains(&status), "{status} polls at the poll interval of 1 s");
        assert!((12..=14).contains(&other), "{other} polls at the collector's interval of 5 s");
        let interval = state.others()[0].history().last.map(|last| last.interval);
        assert_eq!(interval, Some(Duration::from_secs(5)), "freshness follows the collector's own interval");
    }

    #[test]
    fn poll_phases_are_within_a_period_and_differ() {
        let phases = ["db1:27017", "db2:27017", "db3:27017"].map(|member| phase(member, "server_status"));
        assert!(phases.iter().all(|phase| (0.1..=1.0).contains(phase)), "{phases:?}");
        assert!(phases[0] != phases[1] && phases[1] != phases[2], "{phases:?}");
    }
}
