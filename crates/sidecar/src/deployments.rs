//! Running deployments: those of the configuration all the time, those of `/probe` on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use txnscope_checks::Checks;
use txnscope_mongo::{Credentials, EXPOSED_KEY, TlsFiles};

use crate::checks::{CheckRunner, DeploymentCheckResults};
use crate::collector::CollectorSettings;
use crate::config::Config;
use crate::error::StartError;
use crate::monitor::DeploymentMonitor;
use crate::poller::PollTiming;
use crate::snapshot::Snapshot;
use crate::store::MetricStore;
use crate::target::Target;
use crate::uri::Uri;

/// How much longer than the poll timeout a probe waits for the first polls, so that it sees their result.
const FIRST_POLL_GRACE: Duration = Duration::from_millis(250);

/// How often a probe checks whether the first polls have ended.
const RECHECK_INTERVAL: Duration = Duration::from_millis(10);

/// How many probes of one target may wait for its first polls. A target that hangs must not take the places of
/// the others.
const MAX_WAITING_PROBES: usize = 8;

/// With how many users one target is monitored at the same time. Each user takes connections of its own, and
/// every client that may probe chooses.
const MAX_USERS_PER_TARGET: usize = 2;

/// Why a probe is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    // The requested name is not repeated: it may be anything.
    #[error("no target with this name is configured")]
    Target,
    #[error("no auth module with this name is configured")]
    AuthModule,
    #[error("the auth module is not allowed for this target: see its auth_modules in the configuration")]
    Forbidden,
    #[error("the target has credentials of its own: leave out auth_module")]
    TwoUsers,
    #[error("the target cannot be monitored; see the log")]
    Start,
    #[error("the target does not answer, and too many probes are waiting for it already")]
    Busy,
}

/// Starts and stops the monitoring of deployments.
#[derive(Debug)]
pub(crate) struct DeploymentManager {
    state: Mutex<State>,
    store: MetricStore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<RunningDeployment>,
    on_demand: BTreeMap<Key, OnDemandDeployment>,
    definitions: ProbeDefinitions,
}

/// The name of a target, and of an auth module if one was requested.
type Key = (String, Option<String>);

/// The targets and auth modules that probes can request.
#[derive(Debug, Default)]
struct ProbeDefinitions {
    probes: BTreeMap<String, Target>,
    auth_modules: BTreeMap<String, Credentials>,
    poll_config: Option<PollConfig>,
    idle_timeout: Duration,
}

/// How a deployment is polled. When this changes, the deployment is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PollConfig {
    timing: PollTiming,
    collectors: CollectorSettings,
}

/// What a live report of a permanent deployment needs. If this changes, the live monitor is restarted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LiveTarget {
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
    pub(crate) backends: Vec<String>,
    tls: TlsFiles,
}

/// A deployment that is monitored. Dropping it stops its monitor.
#[derive(Debug)]
struct RunningDeployment {
    target: Target,
    poll_config: PollConfig,
    /// The contents of the TLS files when the clients were created.
    tls: TlsFiles,
    snapshot: Snapshot,
    check_runner: Option<CheckRunner>,
    stop: CancellationToken,
}

impl Drop for RunningDeployment {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
struct OnDemandDeployment {
    running: RunningDeployment,
    store: MetricStore,
    last_probed: Instant,
    /// Held by each probe that waits for the first polls, so that the target is not removed meanwhile.
    waiting: Arc<()>,
}

/// A validated configuration that can be applied without failing.
pub(crate) struct DeploymentPlan {
    /// One entry for each target, with a new deployment unless one with the same configuration runs already.
    deployments: Vec<(Target, Option<(RunningDeployment, DeploymentMonitor)>)>,
    definitions: ProbeDefinitions,
    /// The checks to run on each target.
    checks: Option<Checks>,
}

impl DeploymentPlan {
    /// Whether applying the plan starts a deployment.
    pub(crate) fn has_new_deployments(&self) -> bool {
        self.deployments.iter().any(|(_, monitor)| monitor.is_some())
    }
}

/// A deployment that should run after a plan was applied.
enum DesiredState {
    New(Box<RunningDeployment>),
    RunningDeployment(Target),
}

impl DeploymentManager {
    pub(crate) fn new(store: MetricStore, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { state: Mutex::default(), store, tasks, stop }
    }

    /// Validates the deployments of a configuration, without contacting any server.
    ///
    /// # Errors
    ///
    /// If a URI is malformed, or the driver does not accept its options.
    pub(crate) async fn plan(&self, config: &Config) -> Result<DeploymentPlan, StartError> {
        let state = self.state.lock().await;
        let poll_config = PollConfig { timing: config.timing(), collectors: config.collectors.clone() };
        let mut deployments = Vec::new();
        for (index, target) in config.targets.iter().enumerate() {
            if deployments.iter().any(|(other, _)| other == target) {
                continue;
            }
            let which = (config.targets.len() > 1).then(|| format!("URI {}", index + 1));
            let tls = target.tls_files().map_err(|error| at_target(which.clone(), error))?;
            let is_there =
                state.running.iter().any(|one| one.matches(target, &poll_config) && one.tls == tls);
            if !state.running.iter().any(|one| one.target == *target) {
                warn_about(target, which.as_deref());
            }
            let monitor = match is_there {
                true => None,
                false => Some(
                    self.new_deployment(target, &poll_config)
                        .await
                        .map_err(|error| at_target(which, error))?,
                ),
            };
            deployments.push((target.clone(), monitor));
        }
        for (name, target) in &config.probes {
            let which = format!("target {name:?}");
            let usable = target.check().and_then(|()| target.tls_files());
            usable.map_err(|error| at_target(Some(which.clone()), error))?;
            if state.definitions.probes.get(name) != Some(target) {
                warn_about(target, Some(&which));
            }
        }
        let definitions = ProbeDefinitions {
            probes: config.probes.clone(),
            auth_modules: config.auth_modules.clone(),
            poll_config: Some(poll_config),
            idle_timeout: config.probe_idle_timeout,
        };
        Ok(DeploymentPlan { deployments, definitions, checks: config.checks.clone() })
    }

    async fn new_deployment(
        &self,
        target: &Target,
        poll_config: &PollConfig,
    ) -> Result<(RunningDeployment, DeploymentMonitor), StartError> {
        let (snapshot, stop) = (Snapshot::default(), self.stop.child_token());
        let uri = Uri::of(target)?;
        let tls = target.tls_files()?;
        let PollConfig { timing, collectors } = poll_config.clone();
        let (tasks, until) = (self.tasks.clone(), stop.clone());
        let monitor = DeploymentMonitor::new(uri, timing, collectors, snapshot.clone(), tasks, until).await?;
        Ok((
            RunningDeployment {
                target: target.clone(),
                poll_config: poll_config.clone(),
                tls,
                snapshot,
                check_runner: None,
                stop,
            },
            monitor,
        ))
    }

    /// Applies a plan. Deployments with an unchanged configuration go on undisturbed; a replaced deployment
    /// stays on the page until the first polls of its successor have ended, but no longer than a poll may take.
    pub(crate) async fn apply(&self, plan: DeploymentPlan) {
        let DeploymentPlan { deployments, definitions, checks } = plan;
        let mut wanted = Vec::new();
        let mut new = Vec::new();
        for (target, monitor) in deployments {
            wanted.push(match monitor {
                None => DesiredState::RunningDeployment(target),
                Some((running, monitor)) => {
                    self.tasks.spawn(monitor.run());
                    new.push(running.snapshot.clone());
                    DesiredState::New(Box::new(running))
                }
            });
        }
        let is_first = self.state.lock().await.definitions.poll_config.is_none();
        if let Some(poll_config) = definitions.poll_config.as_ref().filter(|_| !is_first) {
            let new_store = MetricStore::default();
            new_store.publish(new);
            wait_for_first_polls(&new_store, poll_config.timing.timeout + FIRST_POLL_GRACE).await;
        }

        let mut state = self.state.lock().await;
        let mut before = std::mem::take(&mut state.running);
        for wanted in wanted {
            match wanted {
                DesiredState::New(running) => state.running.push(*running),
                DesiredState::RunningDeployment(target) => {
                    let poll_config = definitions.poll_config.as_ref();
                    let same = |one: &RunningDeployment| {
                        poll_config.is_some_and(|poll_config| one.matches(&target, poll_config))
                    };
                    let index = before.iter().position(same);
                    state.running.extend(index.map(|index| before.swap_remove(index)));
                }
            }
        }
        for running in &mut state.running {
            let before = before.iter().find(|one| one.target == running.target);
            running.set_checks(checks.as_ref(), before, &self.tasks);
        }
        self.store.publish(state.running.iter().map(|running| running.snapshot.clone()).collect());
        self.store
            .set_check_results(state.running.iter().filter_map(RunningDeployment::check_results).collect());
        drop(before);
        state.definitions = definitions;
        let State { on_demand, definitions, .. } = &mut *state;
        on_demand.retain(|key, on_demand| {
            let target = definitions.target(key).ok();
            target.zip(definitions.poll_config.as_ref()).is_some_and(|(target, poll_config)| {
                on_demand.running.matches(&target, poll_config) && !on_demand.running.has_new_tls_files()
            })
        });
    }

    /// The TLS files whose contents differ from those that the clients were created with.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. Nothing changes then.
    pub(crate) async fn changed_tls_files(&self) -> Result<Vec<TlsFiles>, StartError> {
        let in_use: Vec<(Target, TlsFiles)> = {
            let state = self.state.lock().await;
            let on_demand = state.on_demand.values().map(|on_demand| &on_demand.running);
            let all = state.running.iter().chain(on_demand);
            all.map(|running| (running.target.clone(), running.tls)).collect()
        };
        // A file system that hangs must not block other tasks.
        let reading = tokio::task::spawn_blocking(move || {
            let mut changed_tls_files = Vec::new();
            for (target, tls) in in_use {
                let now = target.tls_files()?;
                changed_tls_files.extend((now != tls).then_some(now));
            }
            Ok(changed_tls_files)
        });
        reading.await.unwrap_or(Ok(Vec::new()))
    }

    /// The store of a deployment that is monitored on demand. The first probe starts the monitoring, and
    /// waits until each collector has been polled once, but no longer than its timeout: a member that hangs is
    /// down on the page.
    ///
    /// # Errors
    ///
    /// If no such target or auth module is configured.
    pub(crate) async fn probe(
        &self,
        target: &str,
        auth_module: Option<&str>,
        scrape_timeout: Option<Duration>,
    ) -> Result<MetricStore, ProbeError> {
        let key = (target.to_owned(), auth_module.map(str::to_owned));
        let (store, limit, _waiting) = {
            let mut state = self.state.lock().await;
            let State { on_demand, definitions, .. } = &mut *state;
            let target = definitions.target(&key)?;
            let poll_config = definitions.poll_config.clone().ok_or(ProbeError::Start)?;
            if !on_demand.contains_key(&key) {
                evict_idle(on_demand, &key)?;
                on_demand.insert(key.clone(), self.start_on_demand(&key, &target, &poll_config).await?);
            }
            let on_demand = on_demand.get_mut(&key).ok_or(ProbeError::Start)?;
            on_demand.last_probed = Instant::now();
            if on_demand.waiting() >= MAX_WAITING_PROBES && !on_demand.store.all_polled() {
                return Err(ProbeError::Busy);
            }
            let waiting = Arc::clone(&on_demand.waiting);
            (on_demand.store.clone(), poll_config.timing.timeout + FIRST_POLL_GRACE, waiting)
        };
        let limit = scrape_timeout.map_or(limit, |scrape_timeout| scrape_timeout.min(limit));
        wait_for_first_polls(&store, limit).await;
        // The first polls may have taken longer than the idle timeout.
        if let Some(on_demand) = self.state.lock().await.on_demand.get_mut(&key) {
            on_demand.last_probed = Instant::now();
        }
        Ok(store)
    }

    async fn start_on_demand(
        &self,
        key: &Key,
        target: &Target,
        poll_config: &PollConfig,
    ) -> Result<OnDemandDeployment, ProbeError> {
        let failed = |error: &dyn fmt::Display| {
            tracing::error!(probe = key.0, auth_module = key.1, %error, "the target cannot be monitored");
            ProbeError::Start
        };
        let (running, monitor) =
            self.new_deployment(target, poll_config).await.map_err(|error| failed(&error))?;
        let store = MetricStore::from(running.snapshot.clone()).with_revision(self.store.revision());
        tracing::info!(probe = key.0, auth_module = key.1, "monitoring a probed target");
        self.tasks.spawn(monitor.run());
        Ok(OnDemandDeployment { running, store, last_probed: Instant::now(), waiting: Arc::new(()) })
    }

    /// The permanent deployments.
    pub(crate) async fn live_targets(&self) -> Vec<LiveTarget> {
        let state = self.state.lock().await;
        let live = |running: &RunningDeployment| LiveTarget {
            target: running.target.clone(),
            timeout: running.poll_config.timing.timeout,
            backends: running.poll_config.collectors.open_by_operation.backends.clone(),
            tls: running.tls,
        };
        state.running.iter().map(live).collect()
    }

    /// The names of all targets that can be probed.
    pub(crate) async fn probe_names(&self) -> Vec<String> {
        self.state.lock().await.definitions.probes.keys().cloned().collect()
    }

    /// Stops the monitoring of targets that were not probed for the idle timeout.
    pub(crate) async fn remove_idle(self: Arc<Self>) {
        loop {
            let idle = self.state.lock().await.definitions.idle_timeout;
            tokio::time::sleep((idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(30))).await;
            let mut state = self.state.lock().await;
            let idle = state.definitions.idle_timeout;
            state.on_demand.retain(|(target, _), on_demand| {
                let wanted = on_demand.last_probed.elapsed() < idle || on_demand.waiting() > 0;
                if !wanted {
                    tracing::info!(probe = target, "the target is no longer probed");
                }
                wanted
            });
        }
    }
}

/// If a target is monitored with the maximum number of users, the one with the oldest probe is removed.
fn evict_idle(
    on_demand: &mut BTreeMap<Key, OnDemandDeployment>,
    (target, _): &Key,
) -> Result<(), ProbeError> {
    let of_target = || on_demand.iter().filter(|((name, _), _)| name == target);
    if of_target().count() < MAX_USERS_PER_TARGET {
        return Ok(());
    }
    let idle = of_target().filter(|(_, on_demand)| on_demand.waiting() == 0);
    let longest = idle.min_by_key(|(_, on_demand)| on_demand.last_probed).map(|(key, _)| key.clone());
    let longest = longest.ok_or(ProbeError::Busy)?;
    tracing::info!(probe = target, auth_module = longest.1, "replaced by a probe with another user");
    on_demand.remove(&longest);
    Ok(())
}

/// Waits until each collector has been polled once, but no longer than `limit`.
async fn wait_for_first_polls(store: &MetricStore, limit: Duration) {
    let polled = async {
        while !store.all_polled() {
            tokio::time::sleep(RECHECK_INTERVAL).await;
        }
    };
    // Members that are late appear on the page later.
    let _ = timeout(limit, polled).await;
}

impl OnDemandDeployment {
    /// The number of probes that wait for the first polls.
    fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }
}

impl RunningDeployment {
    fn matches(&self, target: &Target, poll_config: &PollConfig) -> bool {
        self.target == *target && self.poll_config == *poll_config
    }

    /// Whether its TLS files have changed and can be used.
    fn has_new_tls_files(&self) -> bool {
        self.target.tls_files().is_ok_and(|now| now != self.tls)
    }

    /// Replaces the checks that run on the deployment. Results of unchanged checks are kept, also those of a
    /// deployment that this one replaces.
    fn set_checks(&mut self, checks: Option<&Checks>, before: Option<&Self>, tasks: &TaskTracker) {
        let Some(checks) = checks else { return self.check_runner = None };
        if self.check_runner.as_ref().is_some_and(|check_runner| check_runner.runs(checks)) {
            return;
        }
        let known = self.check_runner.as_ref().or(before.and_then(|before| before.check_runner.as_ref()));
        let known = known.map(|check_runner| check_runner.results().clone()).unwrap_or_default();
        let (target, snapshot, stop) = (self.target.clone(), self.snapshot.clone(), self.stop.child_token());
        self.check_runner = Some(CheckRunner::start(checks, target, snapshot, &known, tasks, stop));
    }

    fn check_results(&self) -> Option<DeploymentCheckResults> {
        let results = self.check_runner.as_ref()?.results().clone();
        Some(DeploymentCheckResults { results, snapshot: self.snapshot.clone() })
    }
}

impl ProbeDefinitions {
    fn target(&self, (name, auth_module): &Key) -> Result<Target, ProbeError> {
        let target = self.probes.get(name).ok_or(ProbeError::Target)?;
        let credentials = match auth_module {
            None => None,
            Some(name) => {
                let found = self.auth_modules.get(name).ok_or(ProbeError::AuthModule)?;
                if !target.may_use(name) {
                    return Err(ProbeError::Forbidden);
                }
                Some(found)
            }
        };
        let target = with_credentials_if_any(target, credentials);
        // Target and credentials were validated separately with the configuration.
        target.check().map_err(|_| ProbeError::TwoUsers)?;
        Ok(target)
    }
}

/// Logs warnings about a new deployment, without any value of its URI.
fn warn_about(target: &Target, which: Option<&str>) {
    let options: Vec<_> = target.ignored_options().iter().map(ToString::to_string).collect();
    if !options.is_empty() {
        tracing::warn!(which, options = options.join(", "), "options of the URI have no effect here");
    }
    if target.key_is_readable_by_all_users() {
        tracing::warn!(which, "{EXPOSED_KEY}");
    }
}

fn with_credentials_if_any(target: &Target, credentials: Option<&Credentials>) -> Target {
    credentials
        .map_or_else(|| target.clone(), |credentials| target.clone().with_credentials(credentials.clone()))
}

fn at_target(which: Option<String>, error: StartError) -> StartError {
    match which {
        Some(which) => StartError::Target { which, error: Box::new(error) },
        None => error,
    }
}
