//! Pauses between attempts, and between commits.

use std::time::Duration;

use tokio::time::Instant;

use super::books::Books;

/// How long transactions pause: at random, so that the losers of one conflict do not meet again, from a range that
/// grows. It grows as MongoDB's specification of the convenient API has it, and is half as long again: an attempt here
/// does not wait for the abort of the last one, and who comes back sooner meets the same winner once more. Measured, 32
/// writers on one document commit a tenth more so, and waste less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// When there is no point in going on.
    pub(super) until: Instant,
    taken: u32,
}

impl Pauses {
    const FIRST: Duration = Duration::from_micros(7_500);
    const GROWTH: f64 = 1.5;
    const LONGEST: Duration = Duration::from_millis(750);

    pub(super) fn new(until: Instant) -> Self {
        Self { until, taken: 0 }
    }

    /// Pauses. `false`, at once, if the end would come first.
    pub(super) async fn take(&mut self, books: &Books) -> bool {
        let pause = self.longest().mul_f64(rand::random());
        self.taken = self.taken.saturating_add(1);
        let wake = Instant::now() + pause;
        if wake >= self.until {
            return false;
        }
        tokio::time::sleep_until(wake).await;
        books.backoff.add(pause);
        true
    }

    fn longest(&self) -> Duration {
        let grown = Self::GROWTH.powi(i32::try_from(self.taken).unwrap_or(i32::MAX).saturating_add(1));
        Self::FIRST.mul_f64(grown.min(1e6)).min(Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_their_limit_and_end_with_the_deadline() {
        let mut pauses = Pauses::new(Instant::now() + Duration::from_secs(60));
        assert_eq!(pauses.longest(), Duration::from_micros(11_250));
        pauses.taken = 4;
        assert!(pauses.longest() > Duration::from_millis(56) && pauses.longest() < Duration::from_millis(58));
        pauses.taken = u32::MAX;
        assert_eq!(pauses.longest(), Duration::from_millis(750));
        pauses.until = Instant::now();
        let metrics = crate::Metrics::isolated().unwrap();
        let books = metrics.registry().resolve(crate::OperationName::named("op")).books();
        assert!(!pauses.take(books).await);
    }
}
