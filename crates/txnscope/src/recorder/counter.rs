//! A counter that threads can share without contention.

use metrics::CounterFn;

use super::shards::ShardedCounters;

/// One counter. Counters of seconds hold nanoseconds.
#[derive(Debug)]
pub(crate) struct ShardedCounter(ShardedCounters);

impl ShardedCounter {
    pub(super) fn shared() -> Self {
        Self(ShardedCounters::shared(1))
    }

    pub(super) fn per_core() -> Self {
        Self(ShardedCounters::per_core(1))
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.add(0, amount);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.sum(0)
    }
}

impl CounterFn for ShardedCounter {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    /// Raises the counter to `value`. Correct only if the caller is the counter's only writer, as with any absolute
    /// counter.
    fn absolute(&self, value: u64) {
        self.add(value.saturating_sub(self.read()));
    }
}
