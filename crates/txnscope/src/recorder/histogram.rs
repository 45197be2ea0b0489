//! A histogram of fixed buckets.
//!
//! The exporter's own histograms keep every sample (16 bytes) until they are drained, allocate a block for each 512
//! of them and read the clock once more for each. The catalog's buckets are known at compile time, so that two
//! additions do: no allocation, no upkeep, nothing to lose.

use metrics::HistogramFn;

use super::shards::ShardedCounters;

/// The histogram of one series.
#[derive(Debug)]
pub(crate) struct FixedHistogram {
    bounds: &'static [f64],
    /// The sum in nanoseconds, then one count for each bound and one for what is above them all; not cumulative. A
    /// request that is not slow finds the sum and its bucket next to one another.
    counts: ShardedCounters,
}

const SUM: usize = 0;
const FIRST_BUCKET: usize = 1;

/// What a scrape reads.
#[derive(Debug, PartialEq)]
pub(crate) struct HistogramSnapshot {
    /// Cumulative counts, one for each bound.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl FixedHistogram {
    pub(super) fn shared(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: ShardedCounters::shared(FIRST_BUCKET + bounds.len() + 1) }
    }

    pub(super) fn per_core(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: ShardedCounters::per_core(FIRST_BUCKET + bounds.len() + 1) }
    }

    /// The count is the sum of the buckets, so that a snapshot agrees with itself while others record.
    pub(crate) fn read(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (index, bound) in self.bounds.iter().enumerate() {
            count += self.counts.sum(FIRST_BUCKET + index);
            buckets.push((*bound, count));
        }
        count += self.counts.sum(FIRST_BUCKET + self.bounds.len());
        #[allow(
            clippy::cast_precision_loss,
            reason = "2^53 ns are 104 days of work; then the last digit rounds"
        )]
        let sum = self.counts.sum(SUM) as f64 / 1e9;
        HistogramSnapshot { buckets, count, sum }
    }
}

impl HistogramFn for FixedHistogram {
    /// Records seconds. What is not a number is not recorded: one NaN would poison the sum for ever.
    fn record(&self, seconds: f64) {
        if seconds.is_nan() {
            return;
        }
        let index = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        self.counts.add_each([(FIRST_BUCKET + index, 1), (SUM, (seconds * 1e9) as u64)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_that_bucket() {
        let histogram = FixedHistogram::shared(&[0.1, 0.25]);
        for value in [0.05, 0.1, 0.25, 0.26, 100.0] {
            histogram.record(value);
        }
        let snapshot = histogram.read();
        assert_eq!(snapshot.buckets, [(0.1, 2), (0.25, 3)]);
        assert_eq!(snapshot.count, 5);
        assert!((snapshot.sum - 100.66).abs() < 1e-6, "{}", snapshot.sum);
    }

    #[test]
    fn nonsense_does_not_poison_the_sum() {
        let histogram = FixedHistogram::shared(&[1.0]);
        for value in [f64::NAN, -1.0, 0.5] {
            histogram.record(value);
        }
        assert_eq!(histogram.read(), HistogramSnapshot { buckets: vec![(1.0, 2)], count: 2, sum: 0.5 });
    }
}
