//! Slow transactions from the server's log: lines with id 51802, read with `getLog`.
//!
//! The server keeps its last 1,024 lines and counts all that it has written. The difference to the previous
//! count tells which lines are new, and how many were overwritten unread.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use serde_json::Value;
use txnscope_catalog as catalog;
use txnscope_catalog::TERMINATION_CAUSES;

use super::{Collector, PollContext, Privilege, Schedule};
use crate::decode::{Field, field, number};
use crate::error::PollError;
use crate::sample_set::{Histogram, SampleSet};

/// The log id of "transaction": a transaction that ended and took longer than `slowms`.
const TRANSACTION: u64 = 51_802;

#[derive(Debug)]
pub(super) struct SlowTransactions {
    interval: Duration,
    /// How many lines the server had written at the last poll; `None` before the first.
    written: Option<u64>,
    counters: LogCounters,
}

#[async_trait]
impl Collector for SlowTransactions {
    fn name(&self) -> &'static str {
        "slow_transactions"
    }

    fn schedule(&self) -> Schedule {
        Schedule::Interval(self.interval)
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("getLog")]
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let reply = context.run(doc! {"getLog": "global"}).await?;
        self.read(&reply)?;
        Ok(Some(self.counters.samples()))
    }
}

impl SlowTransactions {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, written: None, counters: LogCounters::default() }
    }

    fn read(&mut self, reply: &Document) -> Result<(), PollError> {
        let (Field::Value(written), Field::Value(Bson::Array(lines))) =
            (number(reply, &["totalLinesWritten"]), field(reply, &["log"]))
        else {
            return Err(PollError::malformed("the reply of getLog has no totalLinesWritten or no log"));
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, not negative")]
        let written = written as u64;
        let new = match self.written.replace(written) {
            // Lines from before the first poll are not counted.
            None => 0,
            // The server was restarted, and its log with it.
            Some(before) if written < before => written,
            Some(before) => written - before,
        };
        let kept = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.counters.lost = self.counters.lost.saturating_add(new.saturating_sub(kept));
        let skip = usize::try_from(kept.saturating_sub(new)).unwrap_or(usize::MAX);
        for line in lines.iter().skip(skip).filter_map(Bson::as_str) {
            self.counters.add(line);
        }
        Ok(())
    }
}

/// Decodes a reply, and counts all its lines.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(reply: &Document) -> SampleSet {
    let mut collector = SlowTransactions { written: Some(0), ..SlowTransactions::new(Duration::ZERO) };
    let _ = collector.read(reply);
    collector.counters.samples()
}

/// Decodes one log line.
#[cfg(feature = "fuzzing")]
pub(crate) fn decode_line(line: &str) -> SampleSet {
    let mut counters = LogCounters::default();
    counters.add(line);
    counters.samples()
}

/// Counters since the start of the sidecar. A restart of the server does not reset them.
#[derive(Debug, Default)]
struct LogCounters {
    causes: [CauseCounters; TERMINATION_CAUSES.len()],
    lost: u64,
    /// Lines that could not be parsed since the last poll.
    malformed: u64,
}

#[derive(Debug, Clone)]
struct CauseCounters {
    duration: Histogram,
    inactive: f64,
}

impl Default for CauseCounters {
    fn default() -> Self {
        let buckets = catalog::MONGODB_SLOW_TRANSACTION_DURATION.buckets.len();
        Self { duration: Histogram { cumulative: vec![0; buckets], count: 0, sum: 0.0 }, inactive: 0.0 }
    }
}

impl LogCounters {
    fn add(&mut self, line: &str) {
        // Most lines have other ids: a text search is much cheaper than parsing.
        if !line.contains("51802") {
            return;
        }
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            // Either a truncated line, or another one that contains the number.
            self.malformed += u64::from(line.contains("\"id\":51802"));
            return;
        };
        if line["id"].as_u64() != Some(TRANSACTION) {
            return;
        }
        let attributes = &line["attr"];
        let seconds = |field: &str, per: f64| {
            attributes[field].as_f64().filter(|number| *number >= 0.0).map(|number| number / per)
        };
        let cause = TERMINATION_CAUSES
            .iter()
            .position(|cause| attributes["terminationCause"].as_str() == Some(*cause));
        let (Some(cause), Some(duration)) = (cause, seconds("durationMillis", 1e3)) else {
            self.malformed += 1;
            return;
        };
        let cause_counters = &mut self.causes[cause];
        let buckets = catalog::MONGODB_SLOW_TRANSACTION_DURATION.buckets.iter();
        for (bound, cumulative) in buckets.zip(&mut cause_counters.duration.cumulative) {
            *cumulative += u64::from(duration <= *bound);
        }
        cause_counters.duration.count += 1;
        cause_counters.duration.sum += duration;
        cause_counters.inactive += seconds("timeInactiveMicros", 1e6).unwrap_or_default();
    }

    #[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
    fn samples(&mut self) -> SampleSet {
        let mut samples = SampleSet::default();
        (0..std::mem::take(&mut self.malformed)).for_each(|_| samples.count_dropped());
        for (cause, cause_counters) in TERMINATION_CAUSES.iter().zip(&self.causes) {
            samples.histogram(
                &catalog::MONGODB_SLOW_TRANSACTION_DURATION,
                &[cause],
                Field::Value(cause_counters.duration.clone()),
            );
            samples.number(
                &catalog::MONGODB_SLOW_TRANSACTION_INACTIVE_SECONDS,
                &[cause],
                Field::Value(cause_counters.inactive),
            );
        }
        samples.number(&catalog::MONGODB_LOG_LINES_LOST, &[], Field::Value(self.lost as f64));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cause: &str, millis: u64) -> String {
        format!(
            r#"{{"t":{{"$date":"2026-01-01T00:00:00.000+00:00"}},"s":"I","c":"TXN","id":51802,"ctx":"conn1","msg":"transaction","attr":{{"parameters":{{"txnNumber":1}},"terminationCause":"{cause}","timeActiveMicros":100,"timeInactiveMicros":2000000,"durationMillis":{millis}}}}}"#
        )
    }

    fn log(written: i64, lines: &[String]) -> Document {
        doc! {"totalLinesWritten": written, "log": lines.to_vec()}
    }

    #[test]
    fn new_log_lines_are_counted_once_and_lost_lines_reported() {
        let mut collector = SlowTransactions::new(Duration::ZERO);
        let old = vec![line("committed", 200), "{}".to_owned()];
        collector.read(&log(2, &old)).unwrap();
        assert_eq!(collector.counters.causes[0].duration.count, 0, "it was there before us");

        let mut more = old.clone();
        more.extend([line("committed", 200), line("aborted", 40_000), line("committed", 100)]);
        collector.read(&log(5, &more)).unwrap();
        collector.read(&log(5, &more)).unwrap();
        let committed = &collector.counters.causes[0];
        assert_eq!((committed.duration.count, committed.inactive), (2, 4.0));
        // Both bounds of a bucket: 100 ms is no more than 0.1 s.
        assert_eq!(committed.duration.cumulative[..2], [1, 2]);
        assert_eq!(collector.counters.causes[1].duration.cumulative[7..], [0, 1, 1]);

        collector.read(&log(20, &more)).unwrap();
        assert_eq!(collector.counters.lost, 10);
        // After a restart of the server, all of its lines are new.
        collector.read(&log(2, &old)).unwrap();
        assert_eq!((collector.counters.causes[0].duration.count, collector.counters.lost), (6, 10));
        let samples = collector.counters.samples();
        assert_eq!((samples.as_slice().len(), samples.dropped()), (5, 0));
    }

    #[test]
    fn malformed_log_line_is_skipped() {
        let mut counters = LogCounters::default();
        let cut = line("committed", 200).split_at(150).0.to_owned();
        let quoted = r#"{"id": 1, "msg": "51802"}"#.to_owned();
        for malformed in [cut, quoted, line("vanished", 200), line("aborted", 3)] {
            counters.add(&malformed);
        }
        assert_eq!(counters.causes[1].duration.count, 1);
        assert_eq!((counters.samples().dropped(), counters.samples().dropped()), (2, 0));
        assert!(SlowTransactions::new(Duration::ZERO).read(&doc! {"log": "none"}).is_err());
    }
}
