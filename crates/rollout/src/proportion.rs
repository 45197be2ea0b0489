//! A proportion before and after a deployment.

use statrs::distribution::{Discrete, Hypergeometric};

/// Larger counts are scaled down to this one, since they only add computation time.
const MAX_COUNT: f64 = 1e9;

/// Hits among a number of requests. Prometheus extrapolates, so the counts are rounded only for the test.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Proportion {
    pub(crate) hits: f64,
    pub(crate) of: f64,
}

impl Proportion {
    pub(crate) fn new(hits: f64, of: f64) -> Self {
        Self { hits: hits.clamp(0.0, of.max(0.0)), of: of.max(0.0) }
    }

    pub(crate) fn ratio(self) -> Option<f64> {
        (self.of > 0.0).then(|| self.hits / self.of)
    }

    /// Divides both counts, to account for overdispersion.
    pub(crate) fn thinned(self, by: f64) -> Self {
        Self { hits: self.hits / by, of: self.of / by }
    }
}

impl std::ops::Add for Proportion {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, of: self.of + other.of }
    }
}

/// The p-value of a rise from `before` to `after` (Fisher's exact test, one-sided).
///
/// The result is 1 if there is nothing to compare.
pub(crate) fn fisher_exact_greater(before: Proportion, after: Proportion) -> f64 {
    let scale = |proportion: Proportion| proportion.thinned((proportion.of / MAX_COUNT).max(1.0));
    let (before, after) = (scale(before), scale(after));
    let whole = |number: f64| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts of requests, clamped below 2^53"
        )]
        let whole = number.round().clamp(0.0, 9e15) as u64;
        whole
    };
    let (n0, n1) = (whole(before.of), whole(after.of));
    let (x0, x1) = (whole(before.hits).min(n0), whole(after.hits).min(n1));
    // Without a rise, the p-value is at least one half.
    if n0 == 0 || n1 == 0 || u128::from(x1) * u128::from(n0) <= u128::from(x0) * u128::from(n1) {
        return 1.0;
    }
    let (population, successes) = (n0 + n1, x0 + x1);
    let Ok(draws) = Hypergeometric::new(population, successes, n1) else { return 1.0 };
    // Each term is the one before times a known factor smaller than 1.
    let (mut term, mut tail) = (draws.ln_pmf(x1).exp(), 0.0);
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    for x in x1..=successes.min(n1) {
        tail += term;
        // This also ends the loop if all terms underflow to zero.
        if term <= tail * 1e-12 {
            break;
        }
        let (x, k, n, rest) = (x as f64, successes as f64, n1 as f64, (n0 as f64) - (successes as f64));
        term *= (k - x) * (n - x) / ((x + 1.0) * (rest + x + 1.0));
    }
    tail.min(1.0)
}

/// Whether a rise to the proportion `to` would be detected with a power of 95 % at the significance level `alpha`.
pub(crate) fn has_power(before: Proportion, after: f64, to: f64, alpha: f64) -> bool {
    let expected = after * to;
    let lower_bound = expected - 1.645 * (expected * (1.0 - to).max(0.0)).sqrt();
    lower_bound > 0.0 && fisher_exact_greater(before, Proportion::new(lower_bound.floor(), after)) <= alpha
}

#[cfg(test)]
mod tests {
    use statrs::distribution::DiscreteCDF;

    use super::*;

    #[test]
    fn fisher_exact_matches_the_hypergeometric_tail() {
        for (x0, n0, x1, n1) in [(3, 100, 9, 80), (0, 50, 1, 50), (0, 1000, 12, 300), (40, 4000, 30, 1000)] {
            let exact = Hypergeometric::new(n0 + n1, x0 + x1, n1).unwrap().sf(x1 - 1);
            #[allow(clippy::cast_precision_loss, reason = "small numbers")]
            let proportion = |x: u64, n: u64| Proportion::new(x as f64, n as f64);
            let actual = fisher_exact_greater(proportion(x0, n0), proportion(x1, n1));
            assert!(
                (actual - exact).abs() <= 1e-9 * exact.max(1e-9),
                "{x0}/{n0} {x1}/{n1}: {actual} {exact}"
            );
        }
        // Fisher's lady tasting tea: four of four correct.
        let tea = fisher_exact_greater(Proportion::new(0.0, 4.0), Proportion::new(4.0, 4.0));
        assert!((tea - 1.0 / 70.0).abs() < 1e-12, "{tea}");
    }

    #[test]
    fn no_rise_and_no_data_are_no_evidence() {
        for (before, after) in [
            (Proportion::new(1.0, 100.0), Proportion::new(1.0, 100.0)),
            (Proportion::new(5.0, 100.0), Proportion::new(1.0, 100.0)),
            (Proportion::default(), Proportion::new(100.0, 100.0)),
            (Proportion::new(1.0, 100.0), Proportion::default()),
            (Proportion::new(f64::NAN, 10.0), Proportion::new(f64::NAN, f64::NAN)),
        ] {
            assert_eq!(fisher_exact_greater(before, after), 1.0, "{before:?} {after:?}");
        }
    }

    #[test]
    fn large_counts_are_compared_in_constant_time() {
        let p = fisher_exact_greater(Proportion::new(1e6, 1e9), Proportion::new(1.01e5, 1e8));
        assert!(p > 0.0 && p < 0.01, "{p}");
    }

    #[test]
    fn power_grows_with_traffic() {
        let before = Proportion::new(10.0, 1_000.0);
        assert!(!has_power(before, 50.0, 0.03, 0.001));
        assert!(has_power(before, 5_000.0, 0.03, 0.001));
        assert!(!has_power(Proportion::default(), 5_000.0, 0.03, 0.001), "there is nothing to compare with");
    }
}
