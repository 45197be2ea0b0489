//! Traffic that never was, to see how often the judgement errs. Every run is known by its seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Binomial, Distribution, StandardNormal};
use statrs::distribution::{ContinuousCDF, LogNormal};

use super::judge::{Claim, Judged, Limits, Operation, Stretch, claims, judge};

/// The defaults of the command.
pub(crate) const LIMITS: Limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };

/// How an operation behaves while nothing is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) failures: f64,
    /// The median of its durations, in seconds, which are log-normal.
    pub(crate) median: f64,
    pub(crate) sigma: f64,
}

/// From a quick one that hardly fails to a slow one that often does.
pub(crate) const KINDS: [Kind; 5] = [
    Kind { failures: 0.001, median: 0.004, sigma: 0.5 },
    Kind { failures: 0.002, median: 0.007, sigma: 0.7 },
    Kind { failures: 0.005, median: 0.015, sigma: 0.6 },
    Kind { failures: 0.0, median: 0.040, sigma: 0.8 },
    Kind { failures: 0.02, median: 0.060, sigma: 0.9 },
];

/// What varies while nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    /// Chance alone.
    Even,
    /// From slice to slice, failures come half as often or twice, and all takes a tenth more or less.
    Bursty,
}

/// What the deployment did to the first operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    None,
    /// So many more of all fail.
    Failures(f64),
    /// What is slower than its p95 takes so many times as long, and p99 with it.
    Tail(f64),
    /// Everything takes so many times as long.
    Slower(f64),
}

/// One way things may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) noise: Noise,
    pub(crate) change: Change,
    pub(crate) operations: usize,
    pub(crate) slices: usize,
    /// Requests for each operation, in a slice and in the window.
    pub(crate) requests: u32,
}

/// What is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    NoGo,
    Inconclusive,
}

impl Scene {
    /// The baseline, with nothing after it yet.
    fn before(&self, bounds: &[f64], dice: &mut StdRng) -> Vec<Operation> {
        let one = |index: usize, dice: &mut StdRng| Operation {
            name: format!("operation {index}"),
            slices: (0..self.slices)
                .map(|_| self.stretch(bounds, KINDS[index], Change::None, self.requests, dice))
                .collect(),
            after: Stretch::default(),
        };
        (0..self.operations).map(|index| one(index, dice)).collect()
    }

    /// More of what comes after.
    fn go_on(&self, bounds: &[f64], operations: &mut [Operation], requests: u32, dice: &mut StdRng) {
        for (index, operation) in operations.iter_mut().enumerate() {
            let change = if index == 0 { self.change } else { Change::None };
            let more = self.stretch(bounds, KINDS[index], change, requests, dice);
            operation.after.add(&more);
        }
    }

    fn stretch(
        &self,
        bounds: &[f64],
        kind: Kind,
        change: Change,
        requests: u32,
        dice: &mut StdRng,
    ) -> Stretch {
        let (mut failures, mut median) = (kind.failures, kind.median);
        if self.noise == Noise::Bursty {
            failures *= (0.7 * normal(dice)).exp().clamp(0.5, 2.0);
            median *= (0.05 * normal(dice)).exp().clamp(0.9, 1.1);
        }
        if let Change::Failures(more) = change {
            failures += more;
        }
        let requests = (f64::from(requests) * dice.random_range(0.9..1.1)).round();
        let failed = draw(requests, failures, dice);
        let mut stretch = Stretch { ended: requests, failed, ..Stretch::default() };
        // Bucket after bucket, each with what those before have left.
        let durations = Durations::new(median, kind.sigma, change);
        let (mut left, mut below, mut sum) = (requests - failed, 0.0, 0.0);
        for bound in bounds {
            let at_most = durations.at_most(*bound);
            let count = draw(left, (at_most - below) / (1.0 - below).max(f64::MIN_POSITIVE), dice);
            (left, below, sum) = (left - count, at_most, sum + count);
            stretch.cumulative.push(sum);
        }
        stretch.cumulative.push(requests - failed);
        stretch
    }

    /// One look at the end of the window.
    pub(crate) fn run(&self, bounds: &[f64], seed: u64) -> Verdict {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut operations = self.before(bounds, &mut dice);
        self.go_on(bounds, &mut operations, self.requests, &mut dice);
        verdict(&judged(bounds, &operations, LIMITS.alpha))
    }

    /// So many looks, each at more of the window, with what each may spend; ends with the first no-go. Tells at which
    /// look it ended.
    pub(crate) fn watch(
        &self,
        bounds: &[f64],
        seed: u64,
        looks: u32,
        spent: impl Fn(u32) -> f64,
    ) -> (Verdict, u32) {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut operations = self.before(bounds, &mut dice);
        let mut last = Verdict::Inconclusive;
        for look in 1..=looks {
            self.go_on(bounds, &mut operations, self.requests / looks, &mut dice);
            last = verdict(&judged(bounds, &operations, spent(look)));
            if last == Verdict::NoGo {
                return (last, look);
            }
        }
        (last, looks)
    }
}

fn judged(bounds: &[f64], operations: &[Operation], alpha: f64) -> Vec<Claim> {
    let mut claims = claims(bounds, operations, &LIMITS);
    judge(&mut claims, alpha);
    claims
}

fn verdict(claims: &[Claim]) -> Verdict {
    if claims.iter().any(|claim| claim.judged == Judged::Worse) {
        Verdict::NoGo
    } else if claims.iter().all(|claim| claim.judged == Judged::Same) {
        Verdict::Go
    } else {
        Verdict::Inconclusive
    }
}

/// Log-normal durations, and what the deployment made of them.
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

    /// Which share takes at most so long.
    fn at_most(&self, seconds: f64) -> f64 {
        match self.change {
            Change::None | Change::Failures(_) => self.plain.cdf(seconds),
            Change::Slower(by) => self.plain.cdf(seconds / by),
            Change::Tail(_) if seconds <= self.p95 => self.plain.cdf(seconds),
            Change::Tail(by) => self.plain.cdf((seconds / by).max(self.p95)),
        }
    }
}

/// How many of so many, each with that probability.
fn draw(of: f64, probability: f64, dice: &mut StdRng) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
    let of = of as u64;
    let hits = Binomial::new(of, probability.clamp(0.0, 1.0)).expect("a probability").sample(dice);
    #[allow(clippy::cast_precision_loss, reason = "a number of requests")]
    let hits = hits as f64;
    hits
}

fn normal(dice: &mut StdRng) -> f64 {
    StandardNormal.sample(dice)
}

#[cfg(test)]
mod tests {
    use txnscope_catalog::DURATION_BUCKETS;

    use super::*;
    use crate::verify::report::spent;

    const RUNS: u64 = 50;

    fn scene(noise: Noise, change: Change) -> Scene {
        Scene { noise, change, operations: 3, slices: 12, requests: 5_000 }
    }

    fn all(scene: Scene, expected: Verdict) {
        for seed in 0..RUNS {
            assert_eq!(scene.run(DURATION_BUCKETS, seed), expected, "seed {seed} of {scene:?}");
        }
    }

    #[test]
    fn fifty_runs_of_noise_alone_are_a_go_each() {
        all(scene(Noise::Even, Change::None), Verdict::Go);
    }

    #[test]
    fn fifty_runs_of_noise_in_bursts_are_no_no_go() {
        for seed in 0..RUNS {
            let verdict = scene(Noise::Bursty, Change::None).run(DURATION_BUCKETS, seed);
            assert_ne!(verdict, Verdict::NoGo, "seed {seed}");
        }
    }

    #[test]
    fn fifty_rises_of_failures_by_two_in_a_hundred_are_found_each() {
        all(scene(Noise::Even, Change::Failures(0.02)), Verdict::NoGo);
    }

    #[test]
    fn fifty_doubled_p99_are_found_each() {
        all(scene(Noise::Even, Change::Tail(2.0)), Verdict::NoGo);
        all(scene(Noise::Even, Change::Slower(2.0)), Verdict::NoGo);
    }

    #[test]
    fn fifty_runs_with_little_traffic_are_neither() {
        let scene = Scene { requests: 50, ..scene(Noise::Even, Change::None) };
        all(scene, Verdict::Inconclusive);
    }

    #[test]
    fn fifty_watches_of_noise_alone_end_with_their_time() {
        let scene = scene(Noise::Even, Change::None);
        for seed in 0..RUNS {
            let spent = |look| spent(LIMITS.alpha, 10, look == 10);
            assert_ne!(scene.watch(DURATION_BUCKETS, seed, 10, spent).0, Verdict::NoGo, "seed {seed}");
        }
    }
}
