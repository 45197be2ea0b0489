//! A counter.

use metrics::CounterFn;

use super::shards::Counts;

/// One count. Of seconds, it holds nanoseconds.
#[derive(Debug)]
pub(crate) struct Count(Counts);

impl Count {
    pub(super) fn shared() -> Self {
        Self(Counts::shared(1))
    }

    pub(super) fn for_each_core() -> Self {
        Self(Counts::for_each_core(1))
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.add(0, more);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.sum(0)
    }
}

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    /// Raises it to that value. Whoever says how much there is must be the only one who counts, as everywhere.
    fn absolute(&self, value: u64) {
        self.add(value.saturating_sub(self.read()));
    }
}
