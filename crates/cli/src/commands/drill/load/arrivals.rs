//! An open workload: requests at a fixed rate, independent of the responses to earlier ones.
//!
//! Real clients do not wait for each other. A generator that waits for a response before it sends the next request sends
//! fewer requests while the backend stalls, and does not measure the latency that clients would have had (coordinated
//! omission). Here every arrival has a scheduled time, and its latency is measured from that time, even if it was sent late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// The schedule of the arrivals and the limit on requests in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalPlan {
    /// Arrivals per second; not zero.
    pub(crate) rate: u32,
    pub(crate) arrivals: u64,
    pub(crate) max_in_flight: u32,
    /// The maximum time to wait for the last responses.
    pub(crate) drain_timeout: Duration,
}

/// The result of one arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<O> {
    /// The request completed; `took` is measured from its scheduled time.
    Ended { outcome: O, took: Duration, sent_late_by: Duration },
    /// The request was not sent, since the maximum number was in flight.
    Dropped,
    /// The request was still in flight after the drain timeout.
    Abandoned,
}

impl ArrivalPlan {
    /// The scheduled time of an arrival, relative to the first one.
    fn due(&self, arrival: u64) -> Duration {
        let nanoseconds = u128::from(arrival) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Sends the requests until all have arrived or `stop` is ready, waits for the last responses, and reports each result
    /// to `events`. Returns the number of arrivals.
    pub(crate) async fn run<O, F>(
        self,
        mut send: impl FnMut(u64) -> F,
        events: mpsc::UnboundedSender<(u64, Event<O>)>,
        stop: impl Future<Output = ()>,
    ) -> u64
    where
        O: Send + 'static,
        F: Future<Output = O> + Send + 'static,
    {
        let permits = Arc::new(Semaphore::new(self.max_in_flight as usize));
        let began = Instant::now();
        let mut in_flight = JoinSet::new();
        let mut arrived = 0;
        tokio::pin!(stop);
        while arrived < self.arrivals {
            let due = began + self.due(arrived);
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = sleep_until(due) => {}
            }
            let number = arrived;
            arrived += 1;
            match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => {
                    let (request, events) = (send(number), events.clone());
                    in_flight.spawn(async move {
                        let mut guard = EventGuard { number, events: Some(events) };
                        let sent_late_by = due.elapsed();
                        let outcome = request.await;
                        drop(permit);
                        guard.report(Event::Ended { outcome, took: due.elapsed(), sent_late_by });
                    });
                }
                Err(_) => _ = events.send((number, Event::Dropped)),
            }
            while in_flight.try_join_next().is_some() {}
        }
        let _ = timeout(self.drain_timeout, async { while in_flight.join_next().await.is_some() {} }).await;
        in_flight.shutdown().await;
        arrived
    }
}

/// Reports the result of an arrival exactly once, even if its task is aborted.
struct EventGuard<O> {
    number: u64,
    events: Option<mpsc::UnboundedSender<(u64, Event<O>)>>,
}

impl<O> EventGuard<O> {
    fn report(&mut self, event: Event<O>) {
        if let Some(events) = self.events.take() {
            // If the receiver was dropped, the run is over.
            let _ = events.send((self.number, event));
        }
    }
}

impl<O> Drop for EventGuard<O> {
    fn drop(&mut self) {
        self.report(Event::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    const PLAN: ArrivalPlan = ArrivalPlan {
        rate: 100,
        arrivals: 300,
        max_in_flight: 1_000,
        drain_timeout: Duration::from_secs(30),
    };

    async fn run<F>(plan: ArrivalPlan, send: impl FnMut(u64) -> F) -> Vec<(u64, Event<()>)>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        plan.run(send, sender, pending()).await;
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events.sort_by_key(|(number, _)| *number);
        events
    }

    fn took(event: &Event<()>) -> Duration {
        match event {
            Event::Ended { took, .. } => *took,
            other => panic!("{other:?}"),
        }
    }

    /// The backend responds to no request during the second second.
    #[tokio::test(start_paused = true)]
    async fn latency_during_a_stall_is_measured_from_the_scheduled_time() {
        let began = Instant::now();
        let events = run(PLAN, |_| async move {
            let now = began.elapsed();
            if (Duration::from_secs(1)..Duration::from_secs(2)).contains(&now) {
                sleep_until(began + Duration::from_secs(2)).await;
            }
        })
        .await;
        assert_eq!(events.len(), 300);
        for (number, event) in events {
            let due = Duration::from_millis(number * 10);
            let stalled = (Duration::from_secs(1)..Duration::from_secs(2)).contains(&due);
            let expected = if stalled { Duration::from_secs(2) - due } else { Duration::ZERO };
            // The clock of the runtime has a resolution of one millisecond.
            assert!(took(&event).abs_diff(expected) <= Duration::from_millis(2), "{number}: {event:?}");
        }
    }

    /// The machine of the generator is suspended for a second: requests of that second are sent late, and real clients
    /// would have waited.
    #[tokio::test(start_paused = true)]
    async fn latency_of_late_requests_is_measured_from_the_scheduled_time() {
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(1_001)).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        });
        let events = run(PLAN, |_| std::future::ready(())).await;
        for (number, event) in events {
            let due = Duration::from_millis(number * 10);
            let resumed = Duration::from_millis(2_001);
            let missed = (Duration::from_millis(1_002)..resumed).contains(&due);
            let expected = if missed { resumed - due } else { Duration::ZERO };
            let Event::Ended { sent_late_by, .. } = event else { panic!("{event:?}") };
            for late in [took(&event), sent_late_by] {
                assert!(late.abs_diff(expected) <= Duration::from_millis(3), "{number}: {event:?}");
            }
        }
    }

    /// All requests are in flight before the first response.
    #[tokio::test(start_paused = true)]
    async fn arrivals_do_not_wait_for_responses() {
        let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, seen) = (Arc::clone(&in_flight), Arc::clone(&most));
        run(PLAN, move |_| {
            let (counted, seen) = (Arc::clone(&counted), Arc::clone(&seen));
            async move {
                seen.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_secs(10)).await;
                counted.fetch_sub(1, SeqCst);
            }
        })
        .await;
        assert_eq!(most.load(SeqCst), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn excess_requests_are_dropped_and_unfinished_ones_abandoned() {
        let plan = ArrivalPlan { max_in_flight: 5, ..PLAN };
        let events = run(plan, |_| pending()).await;
        let count = |wanted| events.iter().filter(|(_, event)| *event == wanted).count();
        assert_eq!((count(Event::Abandoned), count(Event::Dropped)), (5, 295));
    }

    #[tokio::test(start_paused = true)]
    async fn stop_signal_ends_the_load_after_requests_in_flight() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let stop = tokio::time::sleep(Duration::from_millis(1_005));
        let send = |_| tokio::time::sleep(Duration::from_secs(5));
        assert_eq!(PLAN.run(send, sender, stop).await, 101);
        let mut ended = 0;
        while let Some((_, event)) = receiver.recv().await {
            assert!(took(&event) >= Duration::from_secs(5));
            ended += 1;
        }
        assert_eq!(ended, 101);
    }
}
