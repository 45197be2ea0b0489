//! The data of the events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use crate::checks::{CheckStatus, statuses};
use crate::live::{HistoryColumns, HistoryRecorder, LiveMonitor, LiveReport, TreeRow, blocker_tree};
use crate::snapshot::{CollectorState, MemberState};
use crate::store::MetricStore;

/// The event `report`: what the members report now.
#[derive(Debug, Serialize)]
pub(super) struct ReportDocument {
    deployments: Vec<Deployment>,
}

#[derive(Debug, Default, Serialize)]
struct Deployment {
    /// `docs/live.schema.json` describes it.
    report: LiveReport,
    /// The rows of the tree of blockers, whose entries are references into the lists of the report.
    tree: Vec<TreeRow>,
}

/// The event `sidecar`: what the sidecar knows from its regular polls.
#[derive(Debug, Serialize)]
pub(super) struct SidecarDocument<'a> {
    version: &'static str,
    /// Relative to the page.
    telemetry_path: &'a str,
    /// The targets of `/probe`.
    targets: Vec<String>,
    members: Vec<Member>,
    checks: Vec<CheckStatus>,
}

#[derive(Debug, Serialize)]
struct Member {
    member: String,
    /// Empty while it is unknown.
    replica_set: String,
    /// `None` before its first poll has ended.
    up: Option<bool>,
    collectors: Vec<Collector>,
    history: Option<HistoryColumns>,
}

#[derive(Debug, Serialize)]
struct Collector {
    collector: &'static str,
    /// When its last poll ended, in seconds since 1970.
    polled_at: Option<f64>,
    /// Why its last poll has failed.
    failure: Option<&'static str>,
}

impl ReportDocument {
    pub(super) fn of<'a>(monitors: impl Iterator<Item = Option<&'a LiveMonitor>>) -> Self {
        let deployment = |monitor: Option<&LiveMonitor>| {
            let report = monitor.map(LiveMonitor::report).unwrap_or_default();
            Deployment { tree: blocker_tree(&report), report }
        };
        Self { deployments: monitors.map(deployment).collect() }
    }
}

impl<'a> SidecarDocument<'a> {
    pub(super) fn of(
        store: &MetricStore,
        history: &HistoryRecorder,
        telemetry_path: &'a str,
        targets: Vec<String>,
    ) -> Self {
        let now = Instant::now();
        let member = |state: &std::sync::Arc<MemberState>| Member {
            member: state.address().to_owned(),
            replica_set: state.rs(),
            up: state.up(now),
            collectors: state.collectors().map(|collector| Collector::of(collector, now)).collect(),
            history: history.columns(state.address()),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            telemetry_path,
            targets,
            members: store.members().iter().map(member).collect(),
            checks: statuses(&store.check_results()),
        }
    }
}

impl Collector {
    fn of(state: &CollectorState, now: Instant) -> Self {
        let last = state.history().last;
        Self {
            collector: state.name(),
            polled_at: last.map(|last| unix_time(now.saturating_duration_since(last.ended))),
            failure: last.and_then(|last| last.failure).map(|reason| reason.as_str()),
        }
    }
}

/// A time in the past, in seconds since 1970.
fn unix_time(ago: Duration) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.saturating_sub(ago).as_secs_f64() * 10.0).round() / 10.0
}

/// A server-sent event. JSON has its line breaks escaped, so that the data is one line.
pub(super) fn event(name: &str, data: &impl Serialize) -> Bytes {
    // Names of fields are text, and numbers are finite: nothing can fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
