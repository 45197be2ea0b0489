//! Timers of an event loop, used again. Nearly no request reaches its time limit, so that a timer of its own would be
//! put among the others and taken out again for nothing: what waits already only gets a later deadline.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The most timers that are kept.
const KEPT: usize = 1024;

/// Longer than any limit that a person means: an instant has an end, which a longer time would pass.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The timers that nothing uses now.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

/// A timer in use, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Timer<'a> {
    timers: &'a Timers,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    fn kept(&self) -> MutexGuard<'_, Vec<Pin<Box<Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A timer that ends after that time.
    pub(crate) fn start(&self, after: Duration) -> Timer<'_> {
        let kept = self.kept().pop();
        match kept {
            Some(sleep) => {
                let mut timer = Timer { timers: self, sleep: Some(sleep) };
                timer.reset(after);
                timer
            }
            None => Timer { timers: self, sleep: Some(Box::pin(sleep(after))) },
        }
    }
}

impl Timer<'_> {
    /// Lets it end after that time from now.
    pub(crate) fn reset(&mut self, after: Duration) {
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(Instant::now() + after.min(FOREVER));
        }
    }
}

impl Future for Timer<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if let Some(mut sleep) = self.sleep.take() {
            // So that it holds nothing of the request that it was for.
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let mut kept = self.timers.kept();
            if kept.len() < KEPT {
                kept.push(sleep);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Held;

    impl Wake for Held {
        fn wake(self: Arc<Self>) {}
    }

    async fn ended_after(timers: &Timers, after: Duration) -> Duration {
        let begin = Instant::now();
        timers.start(after).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_is_used_again_ends_after_its_own_time() {
        let timers = Timers::default();
        for seconds in [60, 1, 90, 0, 5] {
            let after = Duration::from_secs(seconds);
            assert_eq!(ended_after(&timers, after).await.as_secs(), seconds);
            assert_eq!(timers.kept().len(), 1);
            // Given back before its end, and left for longer than that.
            drop(timers.start(after));
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        let two = tokio::join!(
            ended_after(&timers, Duration::from_secs(3)),
            ended_after(&timers, Duration::from_secs(2))
        );
        assert_eq!((two.0.as_secs(), two.1.as_secs()), (3, 2));
        assert_eq!(timers.kept().len(), 2);
        // No end of time is passed.
        drop(timers.start(Duration::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_was_given_back_holds_nothing_of_its_request() {
        let (timers, held) = (Timers::default(), Arc::new(Held));
        {
            let mut timer = pin!(timers.start(Duration::from_secs(60)));
            let waker = Waker::from(Arc::clone(&held));
            assert!(timer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert_eq!(Arc::strong_count(&held), 2, "the timer holds the waker");
        }
        assert_eq!((Arc::strong_count(&held), timers.kept().len()), (1, 1));
    }
}
