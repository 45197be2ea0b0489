//! Counters that threads increment without contention.
//!
//! Two cores that add to the same cache line send it back and forth, and an addition of 5 ns takes 50. So a counter
//! that every request increments is kept once for each core: each thread adds to its own shard, and a reader sums the
//! shards. Nothing is buffered: every addition before a scrape is included in it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

const COUNTERS_PER_LINE: usize = 16;

/// The maximum number of shards, beyond which threads share one: rendering sums all shards, and each series has its
/// memory in each shard.
const MAX_SHARDS: usize = 32;

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CacheLine([AtomicU64; COUNTERS_PER_LINE]);

/// A group of counters, in one shard or in many.
#[derive(Debug)]
pub(super) struct ShardedCounters {
    /// The shards, one after the other.
    lines: Box<[CacheLine]>,
    /// Cache lines of each shard.
    lines_per_shard: usize,
    /// The number of shards less one; it is a power of two.
    mask: usize,
}

impl ShardedCounters {
    /// Creates counters in one shard, for rare increments.
    pub(super) fn shared(counters: usize) -> Self {
        Self::new(counters, 1)
    }

    /// Creates counters with a shard for each core, for increments of every request.
    pub(super) fn per_core(counters: usize) -> Self {
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = CORES.get_or_init(|| available_parallelism().map_or(1, usize::from));
        Self::new(counters, cores.next_power_of_two().min(MAX_SHARDS))
    }

    fn new(counters: usize, shards: usize) -> Self {
        let lines_per_shard = counters.div_ceil(COUNTERS_PER_LINE);
        Self {
            lines: (0..shards * lines_per_shard).map(|_| CacheLine::default()).collect(),
            lines_per_shard,
            mask: shards - 1,
        }
    }

    /// Adds to the counter at an index. A reader that sees the addition sees everything that this thread did before.
    pub(super) fn add(&self, counter: usize, amount: u64) {
        self.add_each([(counter, amount)]);
    }

    /// Adds to several counters, in this order.
    pub(super) fn add_each<const N: usize>(&self, additions: [(usize, u64); N]) {
        let shard = if self.mask == 0 { 0 } else { thread_number() & self.mask };
        for (counter, amount) in additions {
            let line = &self.lines[shard * self.lines_per_shard + counter / COUNTERS_PER_LINE];
            line.0[counter % COUNTERS_PER_LINE].fetch_add(amount, Ordering::Release);
        }
    }

    /// Returns the sum of all threads' additions at an index.
    pub(super) fn sum(&self, counter: usize) -> u64 {
        let shards = self.lines.chunks_exact(self.lines_per_shard);
        let counts = shards.map(|shard| {
            shard[counter / COUNTERS_PER_LINE].0[counter % COUNTERS_PER_LINE].load(Ordering::Acquire)
        });
        counts.fold(0, u64::wrapping_add)
    }
}

/// Returns the number of the current thread, in the order in which threads first count: a runtime's workers get
/// separate shards as long as there are no more workers than cores.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|thread_number| match thread_number.get() {
        Some(number) => number,
        None => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            thread_number.set(Some(number));
            number
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_includes_every_thread() {
        for counts in
            [ShardedCounters::new(COUNTERS_PER_LINE + 2, 4), ShardedCounters::shared(COUNTERS_PER_LINE + 2)]
        {
            std::thread::scope(|threads| {
                for _ in 0..9 {
                    threads.spawn(|| {
                        for counter in 0..COUNTERS_PER_LINE + 2 {
                            counts.add(counter, counter as u64);
                        }
                    });
                }
            });
            for counter in 0..COUNTERS_PER_LINE + 2 {
                assert_eq!(counts.sum(counter), 9 * counter as u64);
            }
        }
    }

    #[test]
    fn consecutive_threads_use_different_shards() {
        let counts = ShardedCounters::new(1, 2);
        let numbers: Vec<_> = (0..2)
            .map(|_| std::thread::scope(|threads| threads.spawn(thread_number).join().unwrap()))
            .collect();
        assert_ne!(numbers[0], numbers[1]);
        std::thread::scope(|threads| threads.spawn(|| counts.add(0, 1)).join().unwrap());
        let of_each: Vec<_> = counts.lines.iter().map(|line| line.0[0].load(Ordering::Relaxed)).collect();
        assert_eq!(of_each.iter().sum::<u64>(), 1, "{of_each:?}");
        assert!(of_each.contains(&0), "{of_each:?}");
    }
}
