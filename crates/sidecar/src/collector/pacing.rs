//! The pauses of collectors whose polls cost the server more, the more transactions are open.

use std::time::Duration;

use tokio::time::Instant;

/// The next poll is at least this many times the duration of the last one later, which costs the server less than a
/// hundredth of a core.
pub(super) const PAUSE_FACTOR: u32 = 100;

/// How much longer than the last pause the next one may be. A poll can take long once because a machine or the network
/// was busy, and the member must not be unobserved for a hundred times as long; a server that is slow at each poll has
/// the full pause after a few of them.
const GROWTH: u32 = 4;

/// A pause that is not limited by [`GROWTH`].
const SHORT: Duration = Duration::from_secs(5);

/// When a member is polled next.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pacing {
    last: Duration,
    next: Option<Instant>,
    skipped: bool,
}

impl Pacing {
    /// Whether the pause is over.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// The time from the beginning of the last poll to the next one; zero after a skipped one.
    pub(crate) fn pause(&self) -> Duration {
        if self.skipped { Duration::ZERO } else { self.last }
    }

    /// Nothing had to be sent, so that the samples are as new as the status.
    pub(super) fn skip(&mut self) {
        self.skipped = true;
    }

    /// Sets the pause after a poll that began then, of which `pause` is what its cost requires.
    pub(crate) fn after(&mut self, began: Instant, pause: Duration) {
        self.exactly(began, pause.min((self.last * GROWTH).max(SHORT)));
    }

    /// As [`Self::after`], however short the last pause was.
    pub(crate) fn exactly(&mut self, began: Instant, pause: Duration) {
        *self = Self { last: pause, next: Some(began + pause), skipped: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(required: &[u64]) -> Vec<u64> {
        let mut pacing = Pacing::default();
        let pause = |&seconds: &u64| {
            pacing.after(Instant::now(), Duration::from_secs(seconds));
            pacing.pause().as_secs()
        };
        required.iter().map(pause).collect()
    }

    #[test]
    fn one_slow_poll_does_not_hide_a_member() {
        assert_eq!(pauses(&[1, 200, 1, 200, 1]), [1, 5, 1, 5, 1]);
    }

    #[test]
    fn slow_member_has_its_full_pause_after_a_few_polls() {
        assert_eq!(pauses(&[200, 200, 200, 200, 200, 19]), [5, 20, 80, 200, 200, 19]);
    }

    #[tokio::test(start_paused = true)]
    async fn poll_is_due_when_the_pause_is_over() {
        let mut pacing = Pacing::default();
        assert!(pacing.is_due(Instant::now()));
        pacing.exactly(Instant::now(), Duration::from_secs(60));
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert!(!pacing.is_due(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(pacing.is_due(Instant::now()));
    }
}
