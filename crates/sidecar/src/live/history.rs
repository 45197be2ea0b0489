//! The last fifteen minutes of one member, in memory.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::rates::Rates;

/// How far the history goes back.
pub const HISTORY: Duration = Duration::from_secs(15 * 60);

/// The maximum number of points, whatever the interval is: one per second, and some.
const MAX_POINTS: usize = 1_000;

/// One poll of a member.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistoryPoint {
    /// When it was polled.
    pub at: Instant,
    /// The number of open transactions.
    pub open: usize,
    /// The number of waiting operations.
    pub waiting: usize,
    /// Rates since the poll before, if they are known.
    pub rates: Option<Rates>,
}

/// The points of one member, the oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History(VecDeque<HistoryPoint>);

impl History {
    pub(super) fn push(&mut self, point: HistoryPoint) {
        self.0.push_back(point);
        while self.0.len() > MAX_POINTS
            || self.0.front().is_some_and(|oldest| point.at.duration_since(oldest.at) > HISTORY)
        {
            self.0.pop_front();
        }
    }

    /// The points, the oldest first.
    #[must_use]
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &HistoryPoint> + ExactSizeIterator {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: Instant) -> HistoryPoint {
        HistoryPoint { at, open: 1, waiting: 0, rates: None }
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_bounded_in_time_and_in_points() {
        let mut history = History::default();
        let began = Instant::now();
        for second in 0..2_000 {
            history.push(point(began + Duration::from_secs(second)));
        }
        assert_eq!(history.points().len(), 901);
        assert_eq!(history.points().next().unwrap().at, began + Duration::from_secs(1_099));
        for milliseconds in 0..5_000 {
            history.push(point(began + Duration::from_secs(2_000) + Duration::from_millis(milliseconds)));
        }
        assert_eq!(history.points().len(), MAX_POINTS);
    }
}
