//! The variation of a proportion before the deployment, beyond binomial noise.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::proportion::Proportion;

/// The minimum number of expected hits in a slice (Cochran's rule).
const MIN_EXPECTED: f64 = 5.0;
/// The significance level of the test for overdispersion, low because many proportions are tested.
const SIGNIFICANCE: f64 = 0.01;
/// The minimum number of slices for an estimate.
const MIN_SLICES: usize = 6;

/// The dispersion of a proportion over the slices: the ratio of its variance to that of binomial noise; at least 1.
///
/// Failures come in bursts, and latency follows the time of day, so requests are not independent. This is the dispersion of
/// the quasi-binomial model (Pearson's X² divided by its degrees of freedom); counts are divided by it before they are
/// tested.
pub(crate) fn overdispersion(slices: &[Proportion]) -> f64 {
    let total = slices.iter().copied().fold(Proportion::default(), |sum, slice| sum + slice);
    let Some(ratio) = total.ratio().filter(|ratio| *ratio > 0.0 && *ratio < 1.0) else { return 1.0 };
    let merged = merge_small(slices, MIN_EXPECTED / ratio.min(1.0 - ratio));
    if merged.len() < MIN_SLICES {
        return 1.0;
    }
    let deviation =
        |slice: &Proportion| (slice.hits - slice.of * ratio).powi(2) / (slice.of * ratio * (1.0 - ratio));
    let square: f64 = merged.iter().map(deviation).sum();
    #[allow(clippy::cast_precision_loss, reason = "there are some dozens of slices")]
    let freedom = (merged.len() - 1) as f64;
    let p = ChiSquared::new(freedom).map_or(1.0, |distribution| distribution.sf(square));
    if p > SIGNIFICANCE { 1.0 } else { (square / freedom).max(1.0) }
}

/// Merges neighbors until each slice has at least `least` requests.
fn merge_small(slices: &[Proportion], least: f64) -> Vec<Proportion> {
    let (mut merged, mut open) = (Vec::new(), Proportion::default());
    for slice in slices {
        open = open + *slice;
        if open.of >= least {
            merged.push(std::mem::take(&mut open));
        }
    }
    // The rest is too small for a slice of its own.
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
        assert_eq!(overdispersion(&one), 1.0, "two hits are not a burst");
    }
}
