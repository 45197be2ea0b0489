//! What is counted of each operation: how it ended, and how long it took.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::drill::backend::Answer;
use crate::drill::load::arrivals::Event;
use crate::drill::load::world::Operation;

/// The longest that is told apart; what takes longer counts as this.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Sent so much later than it was to be, the generator and not the backend is what is measured.
const LATE: Duration = Duration::from_millis(10);

/// How an arrival ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Succeeded,
    /// A business rule said no.
    Rejected,
    /// An error status.
    Failed,
    /// No answer, or not a whole one.
    Unanswered,
    /// Not sent: too many were under way.
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

    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Came(status, _) => match status.as_u16() {
                200 | 201 => Self::Succeeded,
                400 | 409 | 422 => Self::Rejected,
                _ => Self::Failed,
            },
            Answer::None(_) => Self::Unanswered,
        }
    }
}

/// The books of one operation.
#[derive(Debug)]
pub(crate) struct Book {
    /// Microseconds from when it was to be sent to its answer, or to when that was given up. What was dropped took
    /// no time, and is not in it.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
}

impl Book {
    fn new() -> Result<Self> {
        let longest = u64::try_from(LONGEST.as_micros())?;
        let latencies =
            Histogram::new_with_bounds(1, longest, 3).context("the histogram has no such bounds")?;
        Ok(Self { latencies, outcomes: BTreeMap::new() })
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Seconds below which that part of the latencies lies.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        seconds(self.latencies.value_at_quantile(part))
    }
}

/// The books of all of them.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) of: BTreeMap<Operation, Book>,
    /// How many were sent later than they were to be by more than ten milliseconds, and by how much at most.
    pub(crate) late: u64,
    pub(crate) latest: Duration,
    pub(crate) statuses: BTreeMap<String, u64>,
}

impl Books {
    pub(crate) fn new() -> Result<Self> {
        let of = Operation::ALL.into_iter().map(|operation| Ok((operation, Book::new()?)));
        let of = of.collect::<Result<_>>()?;
        Ok(Self { of, late: 0, latest: Duration::ZERO, statuses: BTreeMap::new() })
    }

    /// Takes one arrival down. `patience` is how long an abandoned one was waited for.
    pub(crate) fn note(&mut self, arrival: u64, event: &Event<Answer>, patience: Duration) {
        let Some(book) = self.of.get_mut(&Operation::of(arrival)) else { return };
        let (outcome, took) = match event {
            Event::Ended { outcome, took, sent_late_by } => {
                self.late += u64::from(*sent_late_by > LATE);
                self.latest = self.latest.max(*sent_late_by);
                let status = match outcome {
                    Answer::Came(status, _) => status.as_u16().to_string(),
                    Answer::None(none) => none.as_str().to_owned(),
                };
                *self.statuses.entry(status).or_default() += 1;
                (Outcome::of(outcome), Some(*took))
            }
            Event::Abandoned => (Outcome::Unanswered, Some(patience)),
            Event::Dropped => (Outcome::Dropped, None),
        };
        *book.outcomes.entry(outcome).or_default() += 1;
        if let Some(took) = took {
            let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            book.latencies.saturating_record(microseconds);
        }
    }

    pub(crate) fn total(&self, outcome: Outcome) -> u64 {
        self.of.values().map(|book| book.count(outcome)).sum()
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.of.values().map(Book::arrivals).sum()
    }

    /// All operations in one.
    pub(crate) fn all(&self) -> Result<Book> {
        let mut all = Book::new()?;
        for book in self.of.values() {
            all.latencies.add(&book.latencies).context("histograms of the same bounds")?;
            for (outcome, count) in &book.outcomes {
                *all.outcomes.entry(*outcome).or_default() += count;
            }
        }
        Ok(all)
    }
}

impl Book {
    pub(crate) fn json(&self) -> Value {
        let outcomes = Outcome::ALL.map(|outcome| (outcome.as_str().to_owned(), json!(self.count(outcome))));
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];
        let mut latency: serde_json::Map<String, Value> =
            quantiles.into_iter().map(|(name, part)| (name.to_owned(), json!(self.quantile(part)))).collect();
        latency.insert("mean".to_owned(), json!(self.latencies.mean() / 1e6));
        latency.insert("max".to_owned(), json!(seconds(self.latencies.max())));
        // As they were recorded, so that others can add them up.
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

#[allow(
    clippy::cast_precision_loss,
    reason = "an hour in microseconds is far from where a double is inexact"
)]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::drill::backend::NoAnswer;

    #[test]
    fn each_arrival_is_in_the_books_once() {
        let mut books = Books::new().unwrap();
        let ended = |outcome, milliseconds| Event::Ended {
            outcome,
            took: Duration::from_millis(milliseconds),
            sent_late_by: Duration::from_millis(milliseconds / 10),
        };
        let came = |status| Answer::Came(StatusCode::from_u16(status).unwrap(), Value::Null);
        for (arrival, event) in (0..).step_by(5).zip([
            ended(came(200), 10),
            ended(came(400), 20),
            ended(came(503), 30),
            ended(Answer::None(NoAnswer::Timeout), 2_000),
            Event::Dropped,
            Event::Abandoned,
        ]) {
            books.note(arrival, &event, Duration::from_secs(5));
        }
        let book = books.all().unwrap();
        assert_eq!(Outcome::ALL.map(|outcome| book.count(outcome)), [1, 1, 1, 2, 1]);
        assert_eq!((book.arrivals(), book.latencies.len()), (6, 5));
        assert!((book.quantile(0.5) - 0.03).abs() < 1e-4 && (book.quantile(1.0) - 5.0).abs() < 5e-3);
        assert_eq!((books.late, books.latest), (1, Duration::from_millis(200)));
        let json = book.json();
        let buckets = json["histogram_seconds"].as_array().unwrap();
        assert_eq!(buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum::<u64>(), 5);
    }
}
