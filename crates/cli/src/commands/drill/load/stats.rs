//! Statistics of each operation: outcomes and latencies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::commands::drill::backend::Reply;
use crate::commands::drill::load::arrivals::Event;
use crate::commands::drill::load::schedule::Schedule;
use crate::commands::drill::scenario::load::{Load, LoadRequest};

/// The maximum latency of the histograms; a longer one counts as this.
const MAX_LATENCY: Duration = Duration::from_secs(3_600);
/// A request that is sent later than this measures the generator instead of the backend.
const LATE_THRESHOLD: Duration = Duration::from_millis(10);

/// The outcome of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Succeeded,
    /// A business rule rejected the request.
    Rejected,
    /// An error status.
    Failed,
    /// There was no complete response.
    Unanswered,
    /// The request was not sent, since too many were in flight.
    Dropped,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] =
        [Self::Succeeded, Self::Rejected, Self::Failed, Self::Unanswered, Self::Dropped];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Unanswered => "unanswered",
            Self::Dropped => "dropped",
        }
    }

    fn of(reply: &Reply, load: &Load) -> Self {
        match reply {
            Reply::Received(status, _) if load.success_status.contains(*status) => Self::Succeeded,
            Reply::Received(status, _) if load.rejected_status.contains(*status) => Self::Rejected,
            Reply::Received(..) => Self::Failed,
            Reply::Missing(_) => Self::Unanswered,
        }
    }
}

/// The statistics of one operation.
#[derive(Debug)]
pub(crate) struct OperationStats {
    /// Latencies in microseconds, from the scheduled time to the response or the end of the wait for it. Dropped requests
    /// have none.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
}

impl OperationStats {
    fn new() -> Result<Self> {
        let max_latency = u64::try_from(MAX_LATENCY.as_micros())?;
        let latencies = Histogram::new_with_bounds(1, max_latency, 3)
            .context("the histogram cannot have these bounds")?;
        Ok(Self { latencies, outcomes: BTreeMap::new() })
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// A quantile of the latencies in seconds.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        seconds(self.latencies.value_at_quantile(part))
    }
}

/// The statistics of all operations.
#[derive(Debug)]
pub(crate) struct LoadStats {
    /// The name of each request of the scenario file, and its statistics.
    pub(crate) of: Vec<(String, OperationStats)>,
    load: Arc<Load>,
    schedule: Schedule,
    /// The number of requests that were sent more than ten milliseconds late, and the maximum delay.
    pub(crate) late: u64,
    pub(crate) latest: Duration,
    pub(crate) statuses: BTreeMap<String, u64>,
}

impl LoadStats {
    pub(crate) fn new(load: Arc<Load>) -> Result<Self> {
        let of =
            load.request.iter().map(|request| Ok((request.name.get_ref().clone(), OperationStats::new()?)));
        let of = of.collect::<Result<_>>()?;
        let schedule = Schedule::new(&load.request.iter().map(LoadRequest::weight).collect::<Vec<_>>());
        Ok(Self { of, load, schedule, late: 0, latest: Duration::ZERO, statuses: BTreeMap::new() })
    }

    /// Records the result of one arrival. An abandoned one counts with the drain timeout as its latency.
    pub(crate) fn record(&mut self, arrival: u64, event: &Event<Reply>, drain_timeout: Duration) {
        let Some((_, operation_stats)) = self.of.get_mut(self.schedule.request(arrival)) else { return };
        let (outcome, took) = match event {
            Event::Ended { outcome, took, sent_late_by } => {
                self.late += u64::from(*sent_late_by > LATE_THRESHOLD);
                self.latest = self.latest.max(*sent_late_by);
                let status = match outcome {
                    Reply::Received(status, _) => status.as_u16().to_string(),
                    Reply::Missing(cause) => cause.as_str().to_owned(),
                };
                *self.statuses.entry(status).or_default() += 1;
                (Outcome::of(outcome, &self.load), Some(*took))
            }
            Event::Abandoned => (Outcome::Unanswered, Some(drain_timeout)),
            Event::Dropped => (Outcome::Dropped, None),
        };
        *operation_stats.outcomes.entry(outcome).or_default() += 1;
        if let Some(took) = took {
            let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            operation_stats.latencies.saturating_record(microseconds);
        }
    }

    pub(crate) fn total(&self, outcome: Outcome) -> u64 {
        self.of.iter().map(|(_, operation_stats)| operation_stats.count(outcome)).sum()
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.of.iter().map(|(_, operation_stats)| operation_stats.arrivals()).sum()
    }

    /// The sum of all operations.
    pub(crate) fn all(&self) -> Result<OperationStats> {
        let mut all = OperationStats::new()?;
        for (_, operation_stats) in &self.of {
            all.latencies.add(&operation_stats.latencies).context("the histograms have different bounds")?;
            for (outcome, count) in &operation_stats.outcomes {
                *all.outcomes.entry(*outcome).or_default() += count;
            }
        }
        Ok(all)
    }
}

impl OperationStats {
    pub(crate) fn json(&self) -> Value {
        let outcomes = Outcome::ALL.map(|outcome| (outcome.as_str().to_owned(), json!(self.count(outcome))));
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];
        let mut latency: serde_json::Map<String, Value> =
            quantiles.into_iter().map(|(name, part)| (name.to_owned(), json!(self.quantile(part)))).collect();
        latency.insert("mean".to_owned(), json!(self.latencies.mean() / 1e6));
        latency.insert("max".to_owned(), json!(seconds(self.latencies.max())));
        // The recorded buckets, so that results of several runs can be added.
        let recorded = self.latencies.iter_recorded();
        let buckets: Vec<_> = recorded
            .map(|step| json!([seconds(step.value_iterated_to()), step.count_since_last_iteration()]))
            .collect();
        json!({
            "arrivals": self.arrivals(),
            "outcomes": outcomes.into_iter().collect::<serde_json::Map<_, _>>(),
            "latency_seconds": latency,
            "histogram_seconds": buckets,
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "an hour in microseconds is exact in a double")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::commands::drill::backend::MissingReply;
    use crate::commands::drill::scenario::file::ScenarioFile;

    #[test]
    fn each_arrival_is_counted_once() {
        let load = ScenarioFile::load(None).unwrap().load.unwrap();
        let mut stats = LoadStats::new(Arc::new(load)).unwrap();
        let ended = |outcome, milliseconds| Event::Ended {
            outcome,
            took: Duration::from_millis(milliseconds),
            sent_late_by: Duration::from_millis(milliseconds / 10),
        };
        let received = |status| Reply::Received(StatusCode::from_u16(status).unwrap(), Value::Null);
        for (arrival, event) in (0..).step_by(5).zip([
            ended(received(200), 10),
            ended(received(400), 20),
            ended(received(503), 30),
            ended(Reply::Missing(MissingReply::Timeout), 2_000),
            Event::Dropped,
            Event::Abandoned,
        ]) {
            stats.record(arrival, &event, Duration::from_secs(5));
        }
        let operation_stats = stats.all().unwrap();
        assert_eq!(Outcome::ALL.map(|outcome| operation_stats.count(outcome)), [1, 1, 1, 2, 1]);
        assert_eq!((operation_stats.arrivals(), operation_stats.latencies.len()), (6, 5));
        assert!(
            (operation_stats.quantile(0.5) - 0.03).abs() < 1e-4
                && (operation_stats.quantile(1.0) - 5.0).abs() < 5e-3
        );
        assert_eq!((stats.late, stats.latest), (1, Duration::from_millis(200)));
        let json = operation_stats.json();
        let buckets = json["histogram_seconds"].as_array().unwrap();
        assert_eq!(buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum::<u64>(), 5);
    }
}
