//! One poller for all viewers of the live page.
//!
//! It polls while there are viewers, and serializes each report once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::document::{ReportDocument, SidecarDocument, event};
use crate::deployments::{DeploymentManager, LiveTarget};
use crate::live::{HistoryRecorder, LiveMonitor, LiveSettings, MemberVersion};
use crate::store::MetricStore;

/// The maximum number of viewers. Each has a connection as long as the page is open.
const MAX_VIEWERS: usize = 100;

/// How often the monitors are asked whether there is something new, which is cheap.
const RECHECK_INTERVAL: Duration = Duration::from_millis(200);

/// How often members, collectors and checks are sent, and the history is recorded: the default interval of polls.
const SIDECAR_INTERVAL: Duration = Duration::from_secs(5);

/// How long polling goes on without a viewer: a page that is loaded again should not wait for new connections.
const LINGER: Duration = Duration::from_secs(5);

/// The newest events, as they are sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Events {
    report: Bytes,
    sidecar: Bytes,
}

impl Events {
    /// What a viewer lacks who has been sent the others.
    pub(super) fn since(&self, sent: &Self) -> Bytes {
        let is_new = |now: &Bytes, sent: &Bytes| now.as_ptr() != sent.as_ptr();
        match (is_new(&self.report, &sent.report), is_new(&self.sidecar, &sent.sidecar)) {
            (true, true) => [self.sidecar.as_ref(), self.report.as_ref()].concat().into(),
            (true, false) => self.report.clone(),
            (false, true) => self.sidecar.clone(),
            (false, false) => Bytes::new(),
        }
    }
}

/// The events of the live page.
#[derive(Debug)]
pub(crate) struct LiveFeed {
    deployments: Arc<DeploymentManager>,
    store: MetricStore,
    telemetry_path: String,
    history: HistoryRecorder,
    events: watch::Sender<Events>,
    /// There is a new viewer.
    viewed: Notify,
}

/// A deployment that is polled for the viewers.
#[derive(Debug)]
struct Polled {
    target: LiveTarget,
    /// `None` if it could not be started, which is logged.
    monitor: Option<LiveMonitor>,
}

impl LiveFeed {
    pub(crate) fn new(deployments: Arc<DeploymentManager>, store: MetricStore, telemetry_path: &str) -> Self {
        let telemetry_path = telemetry_path.trim_start_matches('/').to_owned();
        let (history, viewed) = (HistoryRecorder::default(), Notify::new());
        Self { deployments, store, telemetry_path, history, events: watch::Sender::default(), viewed }
    }

    /// Begins to view. `None` if there are too many viewers.
    pub(super) fn watch(&self) -> Option<watch::Receiver<Events>> {
        let mut events = self.events.subscribe();
        if self.events.receiver_count() > MAX_VIEWERS {
            return None;
        }
        events.mark_changed();
        self.viewed.notify_one();
        Some(events)
    }

    /// Polls all permanent deployments whenever there are viewers. Never ends.
    pub(crate) async fn poll(self: Arc<Self>) {
        loop {
            self.viewed.notified().await;
            if self.events.receiver_count() > 0 {
                self.poll_while_viewed().await;
            }
        }
    }

    async fn poll_while_viewed(&self) {
        tracing::debug!("the live page is viewed");
        let (mut polled, mut version) = (Vec::new(), None);
        let mut last_viewed = Instant::now();
        let mut next_sidecar = last_viewed;
        while last_viewed.elapsed() < LINGER {
            self.follow_configuration(&mut polled).await;
            let now: Vec<_> = polled.iter().map(Polled::version).collect();
            let mut events = self.events.borrow().clone();
            let is_changed = version.as_ref() != Some(&now);
            if is_changed {
                version = Some(now);
                events.report = event("report", &ReportDocument::of(polled.iter().map(Polled::monitor)));
            }
            let is_due = next_sidecar <= Instant::now();
            if is_due {
                next_sidecar = Instant::now() + SIDECAR_INTERVAL;
                events.sidecar = self.sidecar_event().await;
            }
            if is_changed || is_due {
                self.events.send_replace(events);
            }
            sleep(RECHECK_INTERVAL).await;
            if self.events.receiver_count() > 0 {
                last_viewed = Instant::now();
            }
        }
        // The next viewer must not see what is out of date by then.
        self.events.send_replace(Events::default());
        for Polled { monitor, .. } in polled {
            if let Some(monitor) = monitor {
                monitor.shutdown().await;
            }
        }
        tracing::debug!("the live page is no longer viewed");
    }

    /// Starts and stops monitors, after a reload of the configuration or new TLS files.
    async fn follow_configuration(&self, polled: &mut Vec<Polled>) {
        let targets = self.deployments.live_targets().await;
        if targets.iter().eq(polled.iter().map(|polled| &polled.target)) {
            return;
        }
        let mut before = std::mem::take(polled);
        for target in targets {
            match before.iter().position(|polled| polled.target == target) {
                Some(index) => polled.push(before.swap_remove(index)),
                None => polled.push(Polled::start(target).await),
            }
        }
    }

    async fn sidecar_event(&self) -> Bytes {
        let targets = self.deployments.probe_names().await;
        event("sidecar", &SidecarDocument::of(&self.store, &self.history, &self.telemetry_path, targets))
    }

    /// Records the history of all members, from their regular polls. Never ends.
    pub(crate) async fn record_history(self: Arc<Self>) {
        loop {
            self.history.record(&self.store.members());
            sleep(SIDECAR_INTERVAL).await;
        }
    }
}

impl Polled {
    async fn start(target: LiveTarget) -> Self {
        let settings = LiveSettings {
            timeout: target.timeout,
            backends: target.backends.clone(),
            ..LiveSettings::default()
        };
        let monitor = LiveMonitor::start(&target.target, &settings).await;
        let monitor =
            monitor.inspect_err(|error| tracing::warn!(%error, "a deployment cannot be watched live"));
        Self { target, monitor: monitor.ok() }
    }

    fn monitor(&self) -> Option<&LiveMonitor> {
        self.monitor.as_ref()
    }

    fn version(&self) -> Option<Vec<MemberVersion>> {
        self.monitor().map(LiveMonitor::version)
    }
}
