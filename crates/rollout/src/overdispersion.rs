//! How much a proportion varied while nothing was wrong.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::proportion::Proportion;

/// In fewer hits than this, what is expected and what comes differ too much by themselves (Cochran's rule).
const EXPECTED: f64 = 5.0;
/// The significance level of the test for overdispersion, low because many proportions are tested.
const CHANCE: f64 = 0.01;
/// Fewer slices than this give no estimate.
const FEWEST: usize = 6;

/// How many times as much as chance alone the proportion varies from slice to slice; at least 1.
///
/// Failures come in bursts, and latency follows the hours of the day: then a thousand requests tell less than a
/// thousand throws of rng. This is the dispersion of the quasi-binomial model (Pearson's X² by its degrees of
/// freedom); counts are divided by it before they are tested.
pub(crate) fn overdispersion(slices: &[Proportion]) -> f64 {
    let total = slices.iter().copied().fold(Proportion::default(), |sum, slice| sum + slice);
    let Some(ratio) = total.ratio().filter(|ratio| *ratio > 0.0 && *ratio < 1.0) else { return 1.0 };
    let seen = merged(slices, EXPECTED / ratio.min(1.0 - ratio));
    if seen.len() < FEWEST {
        return 1.0;
    }
    let off =
        |slice: &Proportion| (slice.hits - slice.of * ratio).powi(2) / (slice.of * ratio * (1.0 - ratio));
    let square: f64 = seen.iter().map(off).sum();
    #[allow(clippy::cast_precision_loss, reason = "there are some dozens of slices")]
    let freedom = (seen.len() - 1) as f64;
    let by_chance = ChiSquared::new(freedom).map_or(1.0, |chance| chance.sf(square));
    if by_chance > CHANCE { 1.0 } else { (square / freedom).max(1.0) }
}

/// Merges neighbors until each slice has at least `least` requests.
fn merged(slices: &[Proportion], least: f64) -> Vec<Proportion> {
    let (mut merged, mut open) = (Vec::new(), Proportion::default());
    for slice in slices {
        open = open + *slice;
        if open.of >= least {
            merged.push(std::mem::take(&mut open));
        }
    }
    // What is left is too little for a slice of its own.
    if let Some(last) = merged.last_mut() {
        *last = *last + open;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_overdispersed() {
        assert_eq!(overdispersion(&[Proportion::new(10.0, 1_000.0); 12]), 1.0);
        let mut bursts = [Proportion::new(0.0, 1_000.0); 12];
        bursts[3].hits = 120.0;
        assert!(overdispersion(&bursts) > 50.0, "{}", overdispersion(&bursts));
    }

    #[test]
    fn too_little_data_is_not_overdispersed() {
        assert_eq!(overdispersion(&[]), 1.0);
        assert_eq!(overdispersion(&[Proportion::new(0.0, 100.0); 12]), 1.0);
        assert_eq!(overdispersion(&[Proportion::default(); 12]), 1.0);
        assert_eq!(overdispersion(&[Proportion::new(9.0, 10.0), Proportion::new(1.0, 10.0)]), 1.0);
        let mut one = [Proportion::new(0.0, 100.0); 12];
        one[5].hits = 2.0;
        assert_eq!(overdispersion(&one), 1.0, "two hits are no burst");
    }
}
