//! Simulated traffic, to measure the error rates of the comparison. A seed reproduces a run.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Binomial, Distribution, StandardNormal};
use statrs::distribution::{ContinuousCDF, LogNormal};

use super::{Comparison, Limits, Operation, Outcome, WindowCounts, analyze, compare};

/// The default limits of `txnscope verify`.
pub const LIMITS: Limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };

/// The normal behavior of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The failure rate.
    pub failures: f64,
    /// The median of its durations, in seconds, which are log-normal.
    pub median: f64,
    /// The shape of the log-normal distribution.
    pub sigma: f64,
}

/// Kinds of operations, from a fast one that rarely fails to a slow one that often fails.
pub const KINDS: [Kind; 5] = [
    Kind { failures: 0.001, median: 0.004, sigma: 0.5 },
    Kind { failures: 0.002, median: 0.007, sigma: 0.7 },
    Kind { failures: 0.005, median: 0.015, sigma: 0.6 },
    Kind { failures: 0.0, median: 0.040, sigma: 0.8 },
    Kind { failures: 0.02, median: 0.060, sigma: 0.9 },
];

/// The normal variation of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Binomial noise alone.
    Even,
    /// From slice to slice, the failure rate varies by a factor of two, and durations by 10 %.
    Bursty,
}

/// The effect of a deployment on the first operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Nothing changed.
    None,
    /// The failure rate rose by this difference.
    Failures(f64),
    /// Requests slower than p95 take this many times as long, and p99 grows with it.
    Tail(f64),
    /// All requests take this many times as long.
    Slower(f64),
}

/// A simulated rollout.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The noise in both windows.
    pub noise: Noise,
    /// The effect of the deployment on the first operation.
    pub change: Change,
    /// The number of operations.
    pub operations: usize,
    /// The number of windows in the baseline.
    pub slices: usize,
    /// Requests for each operation, in a slice and in the window.
    pub requests: u32,
}

/// The decision that follows from the comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No comparison regressed, and all had enough traffic.
    Go,
    /// A comparison regressed.
    NoGo,
    /// A comparison had too little traffic.
    Inconclusive,
}

impl Scenario {
    /// Generates the baseline.
    fn baseline(&self, bounds: &[f64], rng: &mut StdRng) -> Vec<Operation> {
        let one = |index: usize, rng: &mut StdRng| Operation {
            name: format!("operation {index}"),
            slices: (0..self.slices)
                .map(|_| self.counts(bounds, KINDS[index], Change::None, self.requests, rng))
                .collect(),
            after: WindowCounts::default(),
        };
        (0..self.operations).map(|index| one(index, rng)).collect()
    }

    /// Adds requests to the window after the deployment.
    fn add_after(&self, bounds: &[f64], operations: &mut [Operation], requests: u32, rng: &mut StdRng) {
        for (index, operation) in operations.iter_mut().enumerate() {
            let change = if index == 0 { self.change } else { Change::None };
            let more = self.counts(bounds, KINDS[index], change, requests, rng);
            operation.after.add(&more);
        }
    }

    fn counts(
        &self,
        bounds: &[f64],
        kind: Kind,
        change: Change,
        requests: u32,
        rng: &mut StdRng,
    ) -> WindowCounts {
        let (mut failures, mut median) = (kind.failures, kind.median);
        if self.noise == Noise::Bursty {
            failures *= (0.7 * normal(rng)).exp().clamp(0.5, 2.0);
            median *= (0.05 * normal(rng)).exp().clamp(0.9, 1.1);
        }
        if let Change::Failures(more) = change {
            failures += more;
        }
        let requests = (f64::from(requests) * rng.random_range(0.9..1.1)).round();
        let failed = draw(requests, failures, rng);
        let mut counts = WindowCounts { ended: requests, failed, ..WindowCounts::default() };
        // One bucket after the other, each with the remaining requests.
        let durations = Durations::new(median, kind.sigma, change);
        let (mut left, mut below, mut sum) = (requests - failed, 0.0, 0.0);
        for bound in bounds {
            let at_most = durations.at_most(*bound);
            let count = draw(left, (at_most - below) / (1.0 - below).max(f64::MIN_POSITIVE), rng);
            (left, below, sum) = (left - count, at_most, sum + count);
            counts.cumulative.push(sum);
        }
        counts.cumulative.push(requests - failed);
        counts
    }

    /// Analyzes once, at the end of the window.
    #[must_use]
    pub fn run(&self, bounds: &[f64], seed: u64) -> Decision {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut operations = self.baseline(bounds, &mut rng);
        self.add_after(bounds, &mut operations, self.requests, &mut rng);
        decision(&outcome(bounds, &operations, LIMITS.alpha))
    }

    /// Analyzes the growing window `analyses` times, and stops at the first no-go. Returns the decision and the number of the
    /// analysis that made it.
    pub fn watch(
        &self,
        bounds: &[f64],
        seed: u64,
        analyses: u32,
        spent: impl Fn(u32) -> f64,
    ) -> (Decision, u32) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut operations = self.baseline(bounds, &mut rng);
        let mut last = Decision::Inconclusive;
        for analysis in 1..=analyses {
            self.add_after(bounds, &mut operations, self.requests / analyses, &mut rng);
            last = decision(&outcome(bounds, &operations, spent(analysis)));
            if last == Decision::NoGo {
                return (last, analysis);
            }
        }
        (last, analyses)
    }
}

fn outcome(bounds: &[f64], operations: &[Operation], alpha: f64) -> Vec<Comparison> {
    let mut comparisons = compare(bounds, operations, &LIMITS);
    analyze(&mut comparisons, alpha);
    comparisons
}

fn decision(comparisons: &[Comparison]) -> Decision {
    if comparisons.iter().any(|comparison| comparison.outcome == Outcome::Regressed) {
        Decision::NoGo
    } else if comparisons.iter().all(|comparison| comparison.outcome == Outcome::NotWorse) {
        Decision::Go
    } else {
        Decision::Inconclusive
    }
}

/// Log-normal durations with the effect of the deployment.
struct Durations {
    plain: LogNormal,
    p95: f64,
    change: Change,
}

impl Durations {
    fn new(median: f64, sigma: f64, change: Change) -> Self {
        let plain = LogNormal::new(median.ln(), sigma).expect("the kinds are distributions");
        Self { p95: plain.inverse_cdf(0.95), plain, change }
    }

    /// The proportion of requests that take at most this time.
    fn at_most(&self, seconds: f64) -> f64 {
        match self.change {
            Change::None | Change::Failures(_) => self.plain.cdf(seconds),
            Change::Slower(by) => self.plain.cdf(seconds / by),
            Change::Tail(_) if seconds <= self.p95 => self.plain.cdf(seconds),
            Change::Tail(by) => self.plain.cdf((seconds / by).max(self.p95)),
        }
    }
}

/// Draws the number of hits among `of` requests with this probability.
fn draw(of: f64, probability: f64, rng: &mut StdRng) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
    let of = of as u64;
    let hits = Binomial::new(of, probability.clamp(0.0, 1.0)).expect("a probability").sample(rng);
    #[allow(clippy::cast_precision_loss, reason = "a number of requests")]
    let hits = hits as f64;
    hits
}

fn normal(rng: &mut StdRng) -> f64 {
    StandardNormal.sample(rng)
}

#[cfg(test)]
mod tests {
    use txnscope_catalog::DURATION_BUCKETS;

    use super::*;
    use crate::alpha_spent;

    const RUNS: u64 = 50;

    fn scenario(noise: Noise, change: Change) -> Scenario {
        Scenario { noise, change, operations: 3, slices: 12, requests: 5_000 }
    }

    fn all(scenario: Scenario, expected: Decision) {
        for seed in 0..RUNS {
            assert_eq!(scenario.run(DURATION_BUCKETS, seed), expected, "seed {seed} of {scenario:?}");
        }
    }

    #[test]
    fn even_noise_is_always_a_go() {
        all(scenario(Noise::Even, Change::None), Decision::Go);
    }

    #[test]
    fn bursty_noise_is_never_a_no_go() {
        for seed in 0..RUNS {
            let decision = scenario(Noise::Bursty, Change::None).run(DURATION_BUCKETS, seed);
            assert_ne!(decision, Decision::NoGo, "seed {seed}");
        }
    }

    #[test]
    fn failure_rise_of_two_percentage_points_is_always_detected() {
        all(scenario(Noise::Even, Change::Failures(0.02)), Decision::NoGo);
    }

    #[test]
    fn doubled_p99_is_always_detected() {
        all(scenario(Noise::Even, Change::Tail(2.0)), Decision::NoGo);
        all(scenario(Noise::Even, Change::Slower(2.0)), Decision::NoGo);
    }

    #[test]
    fn little_traffic_is_always_inconclusive() {
        let scenario = Scenario { requests: 50, ..scenario(Noise::Even, Change::None) };
        all(scenario, Decision::Inconclusive);
    }

    #[test]
    fn interim_analyses_of_noise_are_never_a_no_go() {
        let scenario = scenario(Noise::Even, Change::None);
        for seed in 0..RUNS {
            let spent = |analysis| alpha_spent(LIMITS.alpha, 10, analysis == 10);
            assert_ne!(scenario.watch(DURATION_BUCKETS, seed, 10, spent).0, Decision::NoGo, "seed {seed}");
        }
    }
}
