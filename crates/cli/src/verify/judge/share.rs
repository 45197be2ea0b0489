//! A share before and after.

use statrs::distribution::{Discrete, Hypergeometric};

/// More than this tells no more that matters, and takes longer.
const ENOUGH: f64 = 1e9;

/// So many of so many. Prometheus extrapolates, so these are no whole numbers until they are tested.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Share {
    pub(crate) hits: f64,
    pub(crate) of: f64,
}

impl Share {
    pub(crate) fn new(hits: f64, of: f64) -> Self {
        Self { hits: hits.clamp(0.0, of.max(0.0)), of: of.max(0.0) }
    }

    pub(crate) fn ratio(self) -> Option<f64> {
        (self.of > 0.0).then(|| self.hits / self.of)
    }

    /// As if only every so many-th had been seen.
    pub(crate) fn thinned(self, by: f64) -> Self {
        Self { hits: self.hits / by, of: self.of / by }
    }
}

impl std::ops::Add for Share {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, of: self.of + other.of }
    }
}

/// How probable it is to see the second share or a larger one, if both have one cause (Fisher's exact test, one-sided).
///
/// 1 where there is nothing to compare.
pub(crate) fn risen(before: Share, after: Share) -> f64 {
    let enough = |share: Share| share.thinned((share.of / ENOUGH).max(1.0));
    let (before, after) = (enough(before), enough(after));
    let whole = |number: f64| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts of requests; what is beyond 2^53 is none"
        )]
        let whole = number.round().clamp(0.0, 9e15) as u64;
        whole
    };
    let (n0, n1) = (whole(before.of), whole(after.of));
    let (x0, x1) = (whole(before.hits).min(n0), whole(after.hits).min(n1));
    // No rise at all: the tail holds half of everything and more.
    if n0 == 0 || n1 == 0 || u128::from(x1) * u128::from(n0) <= u128::from(x0) * u128::from(n1) {
        return 1.0;
    }
    let (population, successes) = (n0 + n1, x0 + x1);
    let Ok(draws) = Hypergeometric::new(population, successes, n1) else { return 1.0 };
    // From here on upwards each term is smaller than the one before, by a factor that is known.
    let (mut term, mut tail) = (draws.ln_pmf(x1).exp(), 0.0);
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    for x in x1..=successes.min(n1) {
        tail += term;
        // So it is as well where all are too small for a float.
        if term <= tail * 1e-12 {
            break;
        }
        let (x, k, n, rest) = (x as f64, successes as f64, n1 as f64, (n0 as f64) - (successes as f64));
        term *= (k - x) * (n - x) / ((x + 1.0) * (rest + x + 1.0));
    }
    tail.min(1.0)
}

/// Whether a rise to that share would have been noticed, 19 times in 20, with an error of at most `alpha`.
pub(crate) fn would_be_noticed(before: Share, after: f64, to: f64, alpha: f64) -> bool {
    let expected = after * to;
    let unlucky = expected - 1.645 * (expected * (1.0 - to).max(0.0)).sqrt();
    unlucky > 0.0 && risen(before, Share::new(unlucky.floor(), after)) <= alpha
}

#[cfg(test)]
mod tests {
    use statrs::distribution::DiscreteCDF;

    use super::*;

    #[test]
    fn the_tail_is_that_of_the_hypergeometric_distribution() {
        for (x0, n0, x1, n1) in [(3, 100, 9, 80), (0, 50, 1, 50), (0, 1000, 12, 300), (40, 4000, 30, 1000)] {
            let exact = Hypergeometric::new(n0 + n1, x0 + x1, n1).unwrap().sf(x1 - 1);
            #[allow(clippy::cast_precision_loss, reason = "small numbers")]
            let share = |x: u64, n: u64| Share::new(x as f64, n as f64);
            let ours = risen(share(x0, n0), share(x1, n1));
            assert!((ours - exact).abs() <= 1e-9 * exact.max(1e-9), "{x0}/{n0} {x1}/{n1}: {ours} {exact}");
        }
        // The textbook's lady who tastes tea: four of four right.
        let tea = risen(Share::new(0.0, 4.0), Share::new(4.0, 4.0));
        assert!((tea - 1.0 / 70.0).abs() < 1e-12, "{tea}");
    }

    #[test]
    fn no_rise_and_nothing_to_compare_are_no_evidence() {
        for (before, after) in [
            (Share::new(1.0, 100.0), Share::new(1.0, 100.0)),
            (Share::new(5.0, 100.0), Share::new(1.0, 100.0)),
            (Share::default(), Share::new(100.0, 100.0)),
            (Share::new(1.0, 100.0), Share::default()),
            (Share::new(f64::NAN, 10.0), Share::new(f64::NAN, f64::NAN)),
        ] {
            assert_eq!(risen(before, after), 1.0, "{before:?} {after:?}");
        }
    }

    #[test]
    fn millions_are_judged_at_once() {
        let p = risen(Share::new(1e6, 1e9), Share::new(1.01e5, 1e8));
        assert!(p > 0.0 && p < 0.01, "{p}");
    }

    #[test]
    fn little_traffic_shows_little() {
        let before = Share::new(10.0, 1_000.0);
        assert!(!would_be_noticed(before, 50.0, 0.03, 0.001));
        assert!(would_be_noticed(before, 5_000.0, 0.03, 0.001));
        assert!(
            !would_be_noticed(Share::default(), 5_000.0, 0.03, 0.001),
            "there is nothing to compare with"
        );
    }
}
