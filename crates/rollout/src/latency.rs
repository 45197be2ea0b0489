//! Quantiles from the buckets of a histogram.
//!
//! A histogram has exact counts at its bounds only. So the test does not use the quantile itself, but the proportion of
//! requests above a bound near it, which is exact. The displayed quantile is interpolated inside of its bucket.
//!
//! Prometheus interpolates linearly, as if the values of a bucket were distributed evenly. In a tail they are not: of the
//! values between 10 and 25 ms most are near 10 ms, and a doubled p99 would seem to grow by a third. Here the proportion of
//! slower requests falls by a power law inside of a bucket, which approximates the tails of latencies well.

use super::proportion::Proportion;

/// The quantile `q`, or `None` without data.
///
/// `cumulative` has one more element than `bounds`, the total count. Values above the last bound count as that bound.
pub(crate) fn quantile(bounds: &[f64], cumulative: &[f64], q: f64) -> Option<f64> {
    let total = *cumulative.last()?;
    let last = *bounds.last()?;
    if total < 1.0 || cumulative.len() != bounds.len() + 1 {
        return None;
    }
    let rank = q * total;
    let Some(index) = cumulative[..bounds.len()].iter().position(|count| *count >= rank) else {
        return Some(last);
    };
    let (high, upto) = (bounds[index], cumulative[index]);
    if index == 0 {
        // A power law does not reach zero, so the first bucket is interpolated linearly.
        return Some(high * rank / upto);
    }
    let (low, below) = (bounds[index - 1], cumulative[index - 1]);
    // If no request was slower, half a request is assumed, since the logarithm of zero is undefined.
    let slower = |count: f64| ((total - count) / total).max(0.5 / total);
    let part = (slower(below) / slower(rank)).ln() / (slower(below) / slower(upto)).ln();
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 1.0 };
    Some(low * (high / low).powf(part))
}

/// The indices of the bounds on both sides of the quantile. A shift of a tail shows at the upper bound, that of a narrow
/// distribution at the lower one, and a shift inside of one bucket at neither.
pub(crate) fn bounds_around(bounds: &[f64], cumulative: &[f64], q: f64) -> Vec<usize> {
    let Some(total) = cumulative.last().filter(|total| **total >= 1.0) else { return Vec::new() };
    let above = cumulative[..bounds.len().min(cumulative.len())].iter().position(|count| *count >= q * total);
    match above {
        Some(0) => vec![0],
        Some(index) => vec![index - 1, index],
        None => bounds.len().checked_sub(1).into_iter().collect(),
    }
}

/// The proportion of requests slower than the bound at the index `place`.
pub(crate) fn tail_proportion(cumulative: &[f64], place: usize) -> Proportion {
    let total = cumulative.last().copied().unwrap_or_default();
    Proportion::new(total - cumulative.get(place).copied().unwrap_or(total), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [0.1, 0.2, 0.4];

    #[test]
    fn quantile_interpolates_by_a_power_law() {
        let counts = [50.0, 90.0, 100.0, 100.0];
        assert_eq!(quantile(&BOUNDS, &counts, 0.5), Some(0.1));
        assert_eq!(quantile(&BOUNDS, &counts, 0.25), Some(0.05));
        // The share of slower requests falls from 10 % at 0.2 to 0.5 % at 0.4, and reaches 5 % near 0.2.
        let p95 = quantile(&BOUNDS, &counts, 0.95).unwrap();
        assert!((p95 - 0.2 * 2.0_f64.powf(2.0_f64.ln() / 20.0_f64.ln())).abs() < 1e-12, "{p95}");
        assert_eq!(quantile(&BOUNDS, &[0.0, 0.0, 1.0, 100.0], 0.5), Some(0.4));
        assert_eq!(quantile(&BOUNDS, &[0.0; 4], 0.5), None);
        assert_eq!(quantile(&[], &[], 0.5), None);
    }

    #[test]
    fn doubled_tail_across_a_bound_doubles_the_quantile() {
        // A log-normal distribution around 4 ms, and the same with requests above p95 twice as slow.
        let bounds = [0.005, 0.01, 0.025, 0.05];
        let (before, after) =
            ([6_723.0, 9_666.0, 9_998.8, 1e4, 1e4], [6_723.0, 9_500.0, 9_885.0, 9_998.8, 1e4]);
        let grown = quantile(&bounds, &after, 0.99).unwrap() / quantile(&bounds, &before, 0.99).unwrap();
        assert!((1.9..2.2).contains(&grown), "{grown}");
    }

    #[test]
    fn quantile_is_tested_at_the_bounds_around_it() {
        let counts = [50.0, 90.0, 100.0, 100.0];
        assert_eq!(bounds_around(&BOUNDS, &counts, 0.5), [0]);
        assert_eq!(bounds_around(&BOUNDS, &counts, 0.95), [1, 2]);
        assert_eq!(bounds_around(&BOUNDS, &[0.0, 0.0, 1.0, 100.0], 0.95), [2]);
        assert!(bounds_around(&BOUNDS, &[0.0; 4], 0.95).is_empty());
        assert_eq!(tail_proportion(&counts, 1), Proportion::new(10.0, 100.0));
    }
}
