//! The deployments that are followed: those of the configuration always, those of `/probe` while somebody asks.

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

use crate::board::Board;
use crate::collector::CollectorSettings;
use crate::config::Config;
use crate::consistency::{Inspected, Inspection};
use crate::error::StartError;
use crate::export::Page;
use crate::fleet::Fleet;
use crate::poller::Pace;
use crate::snapshot::Snapshot;
use crate::target::Target;
use crate::uri::Uri;

/// How much longer than a poll a probe waits for the first one: it is to see how that ended.
const GRACE: Duration = Duration::from_millis(250);

/// How often a probe looks whether the first poll has ended. Nobody is asked then.
const LOOK: Duration = Duration::from_millis(10);

/// How many probes of one target wait for its first polls. A target that hangs is not to take the places of the others.
const MOST_WAITING: usize = 8;

/// As how many users a target is watched at once. Each is a set of connections of its own, and anybody who may probe chooses.
const USERS_AT_ONCE: usize = 2;

/// Why a probe has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    // What was asked for is not repeated: it may be anything.
    #[error("there is no target of that name in the configuration")]
    Target,
    #[error("there is no auth module of that name in the configuration")]
    AuthModule,
    #[error(
        "the configuration does not let that auth module be used for this target: see auth_modules there"
    )]
    Forbidden,
    #[error("the target says itself who to be: leave out auth_module")]
    TwoUsers,
    #[error("the target cannot be watched; see the log")]
    Start,
    #[error("the target does not answer, and enough probes wait for it already")]
    Busy,
}

/// Follows deployments, and changes which.
#[derive(Debug)]
pub(crate) struct Targets {
    state: Mutex<State>,
    board: Board,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    followed: Vec<Followed>,
    probed: BTreeMap<Key, Probed>,
    definitions: Definitions,
}

/// A target's name, and that of the auth module if there is one.
type Key = (String, Option<String>);

/// What can be probed, and how.
#[derive(Debug, Default)]
struct Definitions {
    probes: BTreeMap<String, Target>,
    auth_modules: BTreeMap<String, Credentials>,
    manner: Option<Manner>,
    idle_timeout: Duration,
}

/// How a deployment is followed: what differs here is followed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Manner {
    pace: Pace,
    collectors: CollectorSettings,
}

/// A deployment with its fleet. Dropping it ends the fleet.
#[derive(Debug)]
struct Followed {
    target: Target,
    manner: Manner,
    /// What the files of certificates held when its clients were made.
    tls: TlsFiles,
    snapshot: Snapshot,
    inspection: Option<Inspection>,
    stop: CancellationToken,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
struct Probed {
    followed: Followed,
    board: Board,
    page: Page,
    asked: Instant,
    /// Held by each probe that waits for the first polls: the target is watched for as long.
    waiting: Arc<()>,
}

/// A checked configuration that can be put in force without failing.
pub(crate) struct Plan {
    /// One for each target: a fleet, where there is none yet that does the same.
    fleets: Vec<(Target, Option<(Followed, Fleet)>)>,
    definitions: Definitions,
    /// What to ask of the data of each target.
    checks: Option<Checks>,
}

impl Plan {
    /// Whether something would be followed anew.
    pub(crate) fn is_news(&self) -> bool {
        self.fleets.iter().any(|(_, fleet)| fleet.is_some())
    }
}

/// A deployment of a plan.
enum Wanted {
    New(Box<Followed>),
    Followed(Target),
}

impl Targets {
    pub(crate) fn new(board: Board, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { state: Mutex::default(), board, tasks, stop }
    }

    /// Checks what the configuration wants followed, without speaking to any server.
    ///
    /// # Errors
    ///
    /// If a URI is malformed, or the driver does not accept its options.
    pub(crate) async fn plan(&self, config: &Config) -> Result<Plan, StartError> {
        let state = self.state.lock().await;
        let manner = Manner { pace: config.pace(), collectors: config.collectors.clone() };
        let mut fleets = Vec::new();
        for (index, target) in config.targets.iter().enumerate() {
            if fleets.iter().any(|(other, _)| other == target) {
                continue;
            }
            let which = (config.targets.len() > 1).then(|| format!("URI {}", index + 1));
            let tls = target.tls_files().map_err(|error| named(which.clone(), error))?;
            let is_there = state.followed.iter().any(|one| one.is(target, &manner) && one.tls == tls);
            if !state.followed.iter().any(|one| one.target == *target) {
                warn_of(target, which.as_deref());
            }
            let fleet = match is_there {
                true => None,
                false => Some(self.fleet(target, &manner).await.map_err(|error| named(which, error))?),
            };
            fleets.push((target.clone(), fleet));
        }
        for (name, target) in &config.probes {
            let which = format!("target {name:?}");
            let usable = target.check().and_then(|()| target.tls_files());
            usable.map_err(|error| named(Some(which.clone()), error))?;
            if state.definitions.probes.get(name) != Some(target) {
                warn_of(target, Some(&which));
            }
        }
        let definitions = Definitions {
            probes: config.probes.clone(),
            auth_modules: config.auth_modules.clone(),
            manner: Some(manner),
            idle_timeout: config.probe_idle_timeout,
        };
        Ok(Plan { fleets, definitions, checks: config.checks.clone() })
    }

    async fn fleet(&self, target: &Target, manner: &Manner) -> Result<(Followed, Fleet), StartError> {
        let (snapshot, stop) = (Snapshot::default(), self.stop.child_token());
        let uri = Uri::of(target)?;
        let tls = target.tls_files()?;
        let Manner { pace, collectors } = manner.clone();
        let (tasks, until) = (self.tasks.clone(), stop.clone());
        let fleet = Fleet::new(uri, pace, collectors, snapshot.clone(), tasks, until).await?;
        Ok((
            Followed {
                target: target.clone(),
                manner: manner.clone(),
                tls,
                snapshot,
                inspection: None,
                stop,
            },
            fleet,
        ))
    }

    /// Follows what the plan says. What is followed already, in the same way, goes on undisturbed; what is replaced
    /// stays on the page until what comes instead has been asked once, but no longer than a poll may take.
    pub(crate) async fn follow(&self, plan: Plan) {
        let Plan { fleets, definitions, checks } = plan;
        let mut wanted = Vec::new();
        let mut new = Vec::new();
        for (target, fleet) in fleets {
            wanted.push(match fleet {
                None => Wanted::Followed(target),
                Some((followed, fleet)) => {
                    self.tasks.spawn(fleet.run());
                    new.push(followed.snapshot.clone());
                    Wanted::New(Box::new(followed))
                }
            });
        }
        let is_first = self.state.lock().await.definitions.manner.is_none();
        if let Some(manner) = definitions.manner.as_ref().filter(|_| !is_first) {
            let arrivals = Board::default();
            arrivals.show(new);
            first_polls(&arrivals, manner.pace.timeout + GRACE).await;
        }

        let mut state = self.state.lock().await;
        let mut before = std::mem::take(&mut state.followed);
        for wanted in wanted {
            match wanted {
                Wanted::New(followed) => state.followed.push(*followed),
                Wanted::Followed(target) => {
                    let manner = definitions.manner.as_ref();
                    let same = |one: &Followed| manner.is_some_and(|manner| one.is(&target, manner));
                    let index = before.iter().position(same);
                    state.followed.extend(index.map(|index| before.swap_remove(index)));
                }
            }
        }
        for followed in &mut state.followed {
            let before = before.iter().find(|one| one.target == followed.target);
            followed.inspect(checks.as_ref(), before, &self.tasks);
        }
        self.board.show(state.followed.iter().map(|followed| followed.snapshot.clone()).collect());
        self.board.inspect(state.followed.iter().filter_map(Followed::inspected).collect());
        drop(before);
        state.definitions = definitions;
        let State { probed, definitions, .. } = &mut *state;
        probed.retain(|key, probed| {
            let target = definitions.target(key).ok();
            target.zip(definitions.manner.as_ref()).is_some_and(|(target, manner)| {
                probed.followed.is(&target, manner) && !probed.followed.is_renewed()
            })
        });
    }

    /// What the files of certificates hold that hold something else than when the clients were made that use them.
    ///
    /// # Errors
    ///
    /// If one cannot be used. What is in force stays in force.
    pub(crate) async fn renewed(&self) -> Result<Vec<TlsFiles>, StartError> {
        let made: Vec<(Target, TlsFiles)> = {
            let state = self.state.lock().await;
            let probed = state.probed.values().map(|probed| &probed.followed);
            let all = state.followed.iter().chain(probed);
            all.map(|followed| (followed.target.clone(), followed.tls)).collect()
        };
        // A disk that hangs holds up nobody else.
        let looking = tokio::task::spawn_blocking(move || {
            let mut renewed = Vec::new();
            for (target, tls) in made {
                let now = target.tls_files()?;
                renewed.extend((now != tls).then_some(now));
            }
            Ok(renewed)
        });
        looking.await.unwrap_or(Ok(Vec::new()))
    }

    /// The page of a deployment that is watched on demand. The first probe begins to watch it, and waits until each
    /// member has been asked once, but no longer than that: a member that hangs is down on the page.
    ///
    /// # Errors
    ///
    /// If no such target or auth module is configured.
    pub(crate) async fn probe(
        &self,
        target: &str,
        auth_module: Option<&str>,
        patience: Option<Duration>,
    ) -> Result<Page, ProbeError> {
        let key = (target.to_owned(), auth_module.map(str::to_owned));
        let (page, board, limit, _waiting) = {
            let mut state = self.state.lock().await;
            let State { probed, definitions, .. } = &mut *state;
            let target = definitions.target(&key)?;
            let manner = definitions.manner.clone().ok_or(ProbeError::Start)?;
            if !probed.contains_key(&key) {
                make_place(probed, &key)?;
                probed.insert(key.clone(), self.start(&key, &target, &manner).await?);
            }
            let probed = probed.get_mut(&key).ok_or(ProbeError::Start)?;
            probed.asked = Instant::now();
            if probed.waiting() >= MOST_WAITING && !probed.board.polled() {
                return Err(ProbeError::Busy);
            }
            let waiting = Arc::clone(&probed.waiting);
            (probed.page.clone(), probed.board.clone(), manner.pace.timeout + GRACE, waiting)
        };
        let limit = patience.map_or(limit, |patience| patience.min(limit));
        first_polls(&board, limit).await;
        // The first polls may have taken longer than a target is watched that nobody probes.
        if let Some(probed) = self.state.lock().await.probed.get_mut(&key) {
            probed.asked = Instant::now();
        }
        Ok(page)
    }

    async fn start(&self, key: &Key, target: &Target, manner: &Manner) -> Result<Probed, ProbeError> {
        let failed = |error: &dyn fmt::Display| {
            tracing::error!(probe = key.0, auth_module = key.1, %error, "the target cannot be watched");
            ProbeError::Start
        };
        let (followed, fleet) = self.fleet(target, manner).await.map_err(|error| failed(&error))?;
        let board = Board::from(followed.snapshot.clone());
        let page = Page::new(board.clone()).map_err(|error| failed(&error))?;
        tracing::info!(probe = key.0, auth_module = key.1, "watching a target that is probed");
        self.tasks.spawn(fleet.run());
        Ok(Probed { followed, board, page, asked: Instant::now(), waiting: Arc::new(()) })
    }

    /// The names that can be probed.
    pub(crate) async fn names(&self) -> Vec<String> {
        self.state.lock().await.definitions.probes.keys().cloned().collect()
    }

    /// Forgets, from time to time, the targets that nobody probes any longer.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            let idle = self.state.lock().await.definitions.idle_timeout;
            tokio::time::sleep((idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(30))).await;
            let mut state = self.state.lock().await;
            let idle = state.definitions.idle_timeout;
            state.probed.retain(|(target, _), probed| {
                let wanted = probed.asked.elapsed() < idle || probed.waiting() > 0;
                if !wanted {
                    tracing::info!(probe = target, "nobody probes the target any longer");
                }
                wanted
            });
        }
    }
}

/// Where the target is watched as as many users as may be, the one whose probe was the longest ago makes place.
fn make_place(probed: &mut BTreeMap<Key, Probed>, (target, _): &Key) -> Result<(), ProbeError> {
    let of_target = || probed.iter().filter(|((name, _), _)| name == target);
    if of_target().count() < USERS_AT_ONCE {
        return Ok(());
    }
    let idle = of_target().filter(|(_, probed)| probed.waiting() == 0);
    let longest = idle.min_by_key(|(_, probed)| probed.asked).map(|(key, _)| key.clone());
    let longest = longest.ok_or(ProbeError::Busy)?;
    tracing::info!(probe = target, auth_module = longest.1, "another user is probed for instead");
    probed.remove(&longest);
    Ok(())
}

/// Waits until each collector has been asked once, but no longer than that.
async fn first_polls(board: &Board, limit: Duration) {
    let polled = async {
        while !board.polled() {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Who is late is on the page when he comes.
    let _ = timeout(limit, polled).await;
}

impl Probed {
    /// How many probes wait for the first polls.
    fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }
}

impl Followed {
    fn is(&self, target: &Target, manner: &Manner) -> bool {
        self.target == *target && self.manner == *manner
    }

    /// Whether its files of certificates hold something else now, that can be used.
    fn is_renewed(&self) -> bool {
        self.target.tls_files().is_ok_and(|now| now != self.tls)
    }

    /// Puts it under these checks and no others. What it, or the one that it replaces, knows of them goes on.
    fn inspect(&mut self, checks: Option<&Checks>, before: Option<&Self>, tasks: &TaskTracker) {
        let Some(checks) = checks else { return self.inspection = None };
        if self.inspection.as_ref().is_some_and(|inspection| inspection.is_of(checks)) {
            return;
        }
        let known = self.inspection.as_ref().or(before.and_then(|before| before.inspection.as_ref()));
        let known = known.map(|inspection| inspection.books().clone()).unwrap_or_default();
        let (target, snapshot, stop) = (self.target.clone(), self.snapshot.clone(), self.stop.child_token());
        self.inspection = Some(Inspection::start(checks, target, snapshot, &known, tasks, stop));
    }

    fn inspected(&self) -> Option<Inspected> {
        let books = self.inspection.as_ref()?.books().clone();
        Some(Inspected { books, snapshot: self.snapshot.clone() })
    }
}

impl Definitions {
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
        let target = with(target, credentials);
        // Each by itself was accepted with the configuration.
        target.check().map_err(|_| ProbeError::TwoUsers)?;
        Ok(target)
    }
}

/// Once for each deployment that is new, in one line, without any value.
fn warn_of(target: &Target, which: Option<&str>) {
    let options: Vec<_> = target.ignored_options().iter().map(ToString::to_string).collect();
    if !options.is_empty() {
        tracing::warn!(which, options = options.join(", "), "options of the URI have no effect here");
    }
    if target.key_is_readable_by_everybody() {
        tracing::warn!(which, "{EXPOSED_KEY}");
    }
}

fn with(target: &Target, credentials: Option<&Credentials>) -> Target {
    credentials
        .map_or_else(|| target.clone(), |credentials| target.clone().with_credentials(credentials.clone()))
}

fn named(which: Option<String>, error: StartError) -> StartError {
    match which {
        Some(which) => StartError::Target { which, error: Box::new(error) },
        None => error,
    }
}
