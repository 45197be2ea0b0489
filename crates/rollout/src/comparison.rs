//! All comparisons of all operations, with one family-wise error rate.

use super::latency::{bounds_around, quantile, tail_proportion};
use super::overdispersion::overdispersion;
use super::proportion::{Proportion, fisher_exact_greater, has_power};

/// The counts of one operation in one window of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowCounts {
    /// Operations that ended, with any outcome.
    pub ended: f64,
    /// Operations with the outcome `failed` or `panicked`.
    pub failed: f64,
    /// Succeeded operations by duration, cumulative: one count for each bound of the histogram, and one for all.
    pub cumulative: Vec<f64>,
    /// Transaction attempts.
    pub started: f64,
    /// Transaction attempts that were aborted because of a write conflict.
    pub conflicts: f64,
    /// Transaction attempts that were aborted for any reason.
    pub aborted: f64,
}

impl WindowCounts {
    /// Adds the counts of another window.
    pub fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        self.failed += other.failed;
        self.started += other.started;
        self.conflicts += other.conflicts;
        self.aborted += other.aborted;
        if self.cumulative.len() < other.cumulative.len() {
            self.cumulative.resize(other.cumulative.len(), 0.0);
        }
        self.cumulative.iter_mut().zip(&other.cumulative).for_each(|(sum, count)| *sum += count);
    }
}

/// The counts of one operation before and after the deployment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Operation {
    /// The name of the operation.
    pub name: String,
    /// The baseline, in windows of equal length.
    pub slices: Vec<WindowCounts>,
    /// The window after the deployment.
    pub after: WindowCounts,
}

impl Operation {
    /// The sum of the baseline.
    #[must_use]
    pub fn before(&self) -> WindowCounts {
        let mut sum = WindowCounts::default();
        self.slices.iter().for_each(|slice| sum.add(slice));
        sum
    }
}

/// The limits beyond which a change is a regression, and the error rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The largest rise of the failure rate, as a difference: 0.01 is one in a hundred.
    pub failures: f64,
    /// The largest factor by which a latency quantile may grow.
    pub latency: f64,
    /// The largest rise of the write-conflict rate, as a difference.
    pub conflicts: f64,
    /// The significance level: the probability that chance alone makes any comparison `Regressed`.
    pub alpha: f64,
}

/// The quantity that a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// The share of operations that failed or panicked.
    Failures,
    /// A quantile of the duration of succeeded operations.
    Latency(f64),
    /// The share of transaction attempts that were aborted because of a write conflict.
    Conflicts,
}

/// The quantiles of latency that are compared.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not worse than the limit, with enough traffic to detect a regression.
    NotWorse,
    /// Significantly worse, and beyond the limit.
    Regressed,
    /// Too little traffic for a decision.
    Inconclusive,
}

/// The comparison of one quantity of one operation before and after the deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The name of the operation.
    pub operation: String,
    /// The quantity that is compared.
    pub measure: Measure,
    /// The proportion, or the quantile in seconds, before the deployment.
    pub before: Option<f64>,
    /// The proportion, or the quantile in seconds, after the deployment.
    pub after: Option<f64>,
    /// The p-value: the probability that chance alone explains the rise.
    pub p: f64,
    /// Whether the rise exceeds the limit.
    exceeds_limit: bool,
    /// The inputs of the power analysis: the proportion before, the number of requests after, and the proportion after a
    /// rise that must be detected.
    power: (Proportion, f64, f64),
    /// The result, set by [`analyze`].
    pub outcome: Outcome,
}

/// The comparisons of all operations, without outcomes; [`analyze`] sets these. Operations without attempts have no
/// comparison of conflicts.
#[must_use]
pub fn compare(bounds: &[f64], operations: &[Operation], limits: &Limits) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for operation in operations {
        comparisons.push(of_shares(operation, Measure::Failures, limits.failures, |counts| {
            Proportion::new(counts.failed, counts.ended)
        }));
        for q in QUANTILES {
            comparisons.push(of_quantile(bounds, operation, q, limits.latency));
        }
        if operation.before().started > 0.0 {
            comparisons.push(of_shares(operation, Measure::Conflicts, limits.conflicts, |counts| {
                Proportion::new(counts.conflicts, counts.started)
            }));
        }
    }
    comparisons
}

/// Sets the outcomes of all comparisons by Holm's procedure: if nothing changed, the probability that any of them is
/// `Regressed` is at most `alpha`. The function can be called again with a different `alpha`.
pub fn analyze(comparisons: &mut [Comparison], alpha: f64) {
    let mut order: Vec<usize> = (0..comparisons.len()).collect();
    order.sort_by(|one, other| comparisons[*one].p.total_cmp(&comparisons[*other].p));
    let mut significant = vec![false; comparisons.len()];
    #[allow(clippy::cast_precision_loss, reason = "there are some hundreds of comparisons")]
    let level = |left: usize| alpha / left.max(1) as f64;
    for (place, index) in order.iter().enumerate() {
        if comparisons[*index].p > level(comparisons.len() - place) {
            break;
        }
        significant[*index] = true;
    }
    // The strictest level of the procedure, so that a rise is detected in any order of the comparisons.
    let strict = level(comparisons.len());
    for (comparison, significant) in comparisons.iter_mut().zip(significant) {
        let (before, after, to) = comparison.power;
        comparison.outcome = if significant && comparison.exceeds_limit {
            Outcome::Regressed
        } else if has_power(before, after, to, strict) {
            Outcome::NotWorse
        } else {
            Outcome::Inconclusive
        };
    }
}

fn of_shares(
    operation: &Operation,
    measure: Measure,
    limit: f64,
    of: impl Fn(&WindowCounts) -> Proportion,
) -> Comparison {
    let slices: Vec<Proportion> = operation.slices.iter().map(&of).collect();
    let (before, after) = (of(&operation.before()), of(&operation.after));
    let overdispersion = overdispersion(&slices);
    let (thin_before, thin_after) = (before.thinned(overdispersion), after.thinned(overdispersion));
    let rise = after.ratio().zip(before.ratio()).map(|(after, before)| after - before);
    // A rise of twice the limit must be detected.
    let to = (before.ratio().unwrap_or_default() + 2.0 * limit).min(1.0);
    Comparison {
        operation: operation.name.clone(),
        measure,
        before: before.ratio(),
        after: after.ratio(),
        p: fisher_exact_greater(thin_before, thin_after),
        exceeds_limit: rise.is_some_and(|rise| rise > limit),
        power: (thin_before, thin_after.of, to),
        outcome: Outcome::Inconclusive,
    }
}

fn of_quantile(bounds: &[f64], operation: &Operation, q: f64, limit: f64) -> Comparison {
    let (before, after) = (operation.before(), &operation.after);
    let of = |counts: &WindowCounts| quantile(bounds, &counts.cumulative, q);
    let (was, is) = (of(&before), of(after));
    let places = bounds_around(bounds, &before.cumulative, q);
    // With two bounds, two tests are made (Bonferroni correction).
    #[allow(clippy::cast_precision_loss, reason = "one or two")]
    let tests = places.len() as f64;
    let (mut p, mut max_overdispersion) = (1.0_f64, 1.0_f64);
    for place in places {
        let at = |counts: &WindowCounts| tail_proportion(&counts.cumulative, place);
        let slices: Vec<Proportion> = operation.slices.iter().map(at).collect();
        let overdispersion = overdispersion(&slices);
        max_overdispersion = max_overdispersion.max(overdispersion);
        p = p.min(
            tests
                * fisher_exact_greater(
                    at(&before).thinned(overdispersion),
                    at(after).thinned(overdispersion),
                ),
        );
    }
    let total =
        |counts: &WindowCounts| counts.cumulative.last().copied().unwrap_or_default() / max_overdispersion;
    let tail = Proportion::new((1.0 - q) * total(&before), total(&before));
    Comparison {
        operation: operation.name.clone(),
        measure: Measure::Latency(q),
        before: was,
        after: is,
        p: p.min(1.0),
        exceeds_limit: was.zip(is).is_some_and(|(was, is)| is > was * limit),
        // A tail that is three times as heavy must be detected; for the median, three quarters instead of half.
        power: (tail, total(after), (3.0 * (1.0 - q)).min(0.75)),
        outcome: Outcome::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };
    const BOUNDS: [f64; 3] = [0.01, 0.1, 1.0];

    fn counts(ended: f64, failed: f64) -> WindowCounts {
        let fast = ended * 0.9;
        let cumulative = vec![fast, ended * 0.995, ended, ended];
        WindowCounts { ended, failed, cumulative, ..WindowCounts::default() }
    }

    fn operation(slices: usize, each: WindowCounts, after: WindowCounts) -> Operation {
        Operation { name: "a".to_owned(), slices: vec![each; slices], after }
    }

    fn outcome(operations: &[Operation]) -> Vec<(Measure, Outcome)> {
        let mut comparisons = compare(&BOUNDS, operations, &LIMITS);
        analyze(&mut comparisons, LIMITS.alpha);
        comparisons.iter().map(|comparison| (comparison.measure, comparison.outcome)).collect()
    }

    #[test]
    fn equal_counts_are_not_worse_and_a_rise_is_a_regression() {
        let same = operation(12, counts(2_000.0, 10.0), counts(4_000.0, 20.0));
        assert!(outcome(&[same]).iter().all(|(_, outcome)| *outcome == Outcome::NotWorse));
        let worse = operation(12, counts(2_000.0, 10.0), counts(4_000.0, 100.0));
        let outcome = outcome(&[worse]);
        assert_eq!(outcome[0], (Measure::Failures, Outcome::Regressed));
        assert!(outcome[1..].iter().all(|(_, outcome)| *outcome == Outcome::NotWorse), "{outcome:?}");
    }

    #[test]
    fn significant_rise_below_the_limit_is_not_worse() {
        let little = operation(12, counts(1e6, 1_000.0), counts(1e6, 3_000.0));
        assert_eq!(outcome(&[little])[0].1, Outcome::NotWorse);
    }

    #[test]
    fn little_traffic_is_inconclusive() {
        let rare = operation(12, counts(2.0, 0.0), counts(3.0, 1.0));
        assert!(outcome(&[rare]).iter().all(|(_, outcome)| *outcome == Outcome::Inconclusive));
        let broken = operation(12, counts(20.0, 0.0), counts(30.0, 30.0));
        assert_eq!(
            outcome(&[broken])[0].1,
            Outcome::Regressed,
            "all of a few requests failed, which is significant"
        );
        let silent = operation(12, counts(2_000.0, 10.0), WindowCounts::default());
        assert!(outcome(&[silent]).iter().all(|(_, outcome)| *outcome == Outcome::Inconclusive));
        let new = operation(0, WindowCounts::default(), counts(2_000.0, 10.0));
        assert!(outcome(&[new]).iter().all(|(_, outcome)| *outcome == Outcome::Inconclusive));
    }

    #[test]
    fn bursts_in_the_baseline_widen_the_test() {
        let mut bursty = operation(12, counts(1_000.0, 0.0), counts(1_000.0, 60.0));
        let even = {
            let mut even = bursty.clone();
            even.slices.iter_mut().for_each(|slice| slice.failed = 10.0);
            even
        };
        bursty.slices[3].failed = 60.0;
        bursty.slices[9].failed = 60.0;
        assert_eq!(outcome(&[even])[0].1, Outcome::Regressed);
        assert_ne!(outcome(&[bursty])[0].1, Outcome::Regressed);
    }

    #[test]
    fn heavier_tail_is_a_regression_at_its_quantile() {
        let mut slow = operation(12, counts(2_000.0, 0.0), counts(4_000.0, 0.0));
        slow.after.cumulative = vec![3_600.0, 3_800.0, 4_000.0, 4_000.0];
        let outcome = outcome(&[slow]);
        assert!(outcome.contains(&(Measure::Latency(0.99), Outcome::Regressed)), "{outcome:?}");
        assert!(outcome.contains(&(Measure::Latency(0.5), Outcome::NotWorse)), "{outcome:?}");
    }

    #[test]
    fn write_conflicts_are_compared_where_there_are_attempts() {
        let mut contended = operation(12, counts(2_000.0, 0.0), counts(4_000.0, 0.0));
        contended.slices.iter_mut().for_each(|slice| (slice.started, slice.conflicts) = (2_100.0, 100.0));
        (contended.after.started, contended.after.conflicts) = (8_000.0, 4_000.0);
        assert_eq!(outcome(&[contended]).last(), Some(&(Measure::Conflicts, Outcome::Regressed)));
    }
}
