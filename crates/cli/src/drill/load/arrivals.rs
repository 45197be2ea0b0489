//! Requests that arrive at a fixed rate, whatever becomes of the earlier ones.
//!
//! Callers in life do not wait for each other. A generator whose workers wait for an answer before they send the next
//! request sends fewer while the backend stalls, and so never measures what those callers would have met (this is
//! known as coordinated omission). Here each arrival has its time beforehand, and how long it took is counted from
//! that time, also when it was sent late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// How many arrive, how fast, and how many may be under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Each second; not zero.
    pub(crate) rate: u32,
    pub(crate) arrivals: u64,
    pub(crate) max_in_flight: u32,
    /// How long the last ones are waited for.
    pub(crate) patience: Duration,
}

/// What became of one arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<O> {
    /// It is over, so long after it was to be sent.
    Ended { outcome: O, took: Duration, sent_late_by: Duration },
    /// It was not sent: as many as may be were under way.
    Dropped,
    /// It was under way when patience ended.
    Abandoned,
}

impl Plan {
    /// When an arrival is due, after the first.
    fn due(&self, arrival: u64) -> Duration {
        let nanoseconds = u128::from(arrival) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Sends them until all have arrived or `stop` is ready, waits for the last answers, and tells `events` of each.
    /// Returns how many arrived.
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
        let room = Arc::new(Semaphore::new(self.max_in_flight as usize));
        let began = Instant::now();
        let mut under_way = JoinSet::new();
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
            match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => {
                    let (request, events) = (send(number), events.clone());
                    under_way.spawn(async move {
                        let mut told = Told { number, events: Some(events) };
                        let sent_late_by = due.elapsed();
                        let outcome = request.await;
                        drop(place);
                        told.tell(Event::Ended { outcome, took: due.elapsed(), sent_late_by });
                    });
                }
                Err(_) => _ = events.send((number, Event::Dropped)),
            }
            while under_way.try_join_next().is_some() {}
        }
        let _ = timeout(self.patience, async { while under_way.join_next().await.is_some() {} }).await;
        under_way.shutdown().await;
        arrived
    }
}

/// Tells of an arrival once, also if it is given up.
struct Told<O> {
    number: u64,
    events: Option<mpsc::UnboundedSender<(u64, Event<O>)>>,
}

impl<O> Told<O> {
    fn tell(&mut self, event: Event<O>) {
        if let Some(events) = self.events.take() {
            // Nobody listens any more: then nobody wants to know.
            let _ = events.send((self.number, event));
        }
    }
}

impl<O> Drop for Told<O> {
    fn drop(&mut self) {
        self.tell(Event::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    const PLAN: Plan =
        Plan { rate: 100, arrivals: 300, max_in_flight: 1_000, patience: Duration::from_secs(30) };

    async fn run<F>(plan: Plan, send: impl FnMut(u64) -> F) -> Vec<(u64, Event<()>)>
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

    /// A backend that answers nobody during its second second.
    #[tokio::test(start_paused = true)]
    async fn each_arrival_during_a_stall_is_measured_from_when_it_was_to_be_sent() {
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
            // The clock of the runtime goes by milliseconds.
            assert!(took(&event).abs_diff(expected) <= Duration::from_millis(2), "{number}: {event:?}");
        }
    }

    /// The machine of the generator has a second in which it does nothing: what was to be sent then is sent late, and
    /// its callers would have waited all the while.
    #[tokio::test(start_paused = true)]
    async fn what_is_sent_late_is_measured_from_when_it_was_to_be_sent() {
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

    /// All are under way before the first is answered: nobody waits for anybody.
    #[tokio::test(start_paused = true)]
    async fn arrivals_do_not_wait_for_answers() {
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, seen) = (Arc::clone(&under_way), Arc::clone(&most));
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
    async fn what_finds_no_room_is_dropped_and_what_does_not_end_is_abandoned() {
        let plan = Plan { max_in_flight: 5, ..PLAN };
        let events = run(plan, |_| pending()).await;
        let count = |wanted| events.iter().filter(|(_, event)| *event == wanted).count();
        assert_eq!((count(Event::Abandoned), count(Event::Dropped)), (5, 295));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_it_is_told_to_and_waits_for_what_is_under_way() {
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
