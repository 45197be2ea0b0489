//! Alpha spending: the error rate does not depend on the number of interim analyses.

use std::time::Duration;

/// The significance level of one of `analyses`.
///
/// The last analysis gets half of `alpha`. The earlier ones, which can only end in a no-go, share the other half. The sum
/// over all analyses is at most `alpha`, independent of their number.
#[must_use]
pub fn alpha_spent(alpha: f64, analyses: u32, last: bool) -> f64 {
    match analyses {
        0 | 1 => alpha,
        analyses if !last => alpha / 2.0 / f64::from(analyses - 1),
        _ => alpha / 2.0,
    }
}

/// The number of analyses within `wait`: one at the start, one after each `interval`, and at least one at the end.
#[must_use]
pub fn interim_analyses(wait: Duration, interval: Duration) -> u32 {
    let analyses = wait.as_secs_f64() / interval.as_secs_f64().max(1e-3);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of u32")]
    let analyses = analyses.ceil().clamp(1.0, 100_000.0) as u32;
    analyses + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_analyses_keep_the_error_rate() {
        for analyses in [1, 2, 30, 1_000] {
            let spent: f64 =
                (1..=analyses).map(|analysis| alpha_spent(0.01, analyses, analysis == analyses)).sum();
            assert!(spent <= 0.01 * (1.0 + 1e-9), "{analyses}: {spent}");
        }
        assert_eq!(interim_analyses(Duration::from_secs(1_800), Duration::from_secs(60)), 31);
        assert_eq!(interim_analyses(Duration::from_secs(1), Duration::from_secs(60)), 2);
    }
}
