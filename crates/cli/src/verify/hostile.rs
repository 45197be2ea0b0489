//! Counts that no Prometheus should have. They are judged, and told in every form; no sum of them is a panic, and none
//! takes for ever.

use super::books::{self, Span};
use super::flags::Format;
use super::{output, report};
use crate::services::prometheus::Sample;
use txnscope_rollout::Limits;

/// What is said of those samples, in all forms together.
pub(crate) fn judged(samples: &[Sample]) -> String {
    let limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };
    let (before, after) = (Span { start: 0.0, end: 3_600.0 }, Span { start: 3_600.0, end: 7_200.0 });
    let report = report::report((before, after), &books::of_samples(samples), &limits, None);
    let forms = [Format::Table, Format::Json, Format::Markdown];
    forms.map(|format| output::render(format, &report)).concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(kind: &str, place: Option<usize>, bound: &str, outcome: &str, value: f64) -> Sample {
        let slice = place.map_or(String::new(), |place| place.to_string());
        let labels =
            [("operation", "a"), ("kind", kind), ("slice", &slice), ("le", bound), ("outcome", outcome)];
        Sample {
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
            value,
        }
    }

    /// Counts as they are, and as nobody has them.
    fn count() -> impl Strategy<Value = f64> {
        prop_oneof![0.0..1e4_f64, 0.0..1e16_f64, Just(f64::MAX), Just(f64::MIN_POSITIVE), any::<f64>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn any_counts_are_judged(
            rows in prop::collection::vec(
                (
                    prop::sample::select(vec!["ended", "buckets", "started", "aborted", "conflicts"]),
                    prop::option::of(0_usize..12),
                    prop::sample::select(vec!["0.1", "0.5", "2.5", "1e300", "+Inf", "NaN"]),
                    prop::sample::select(vec!["succeeded", "failed"]),
                    count(),
                ),
                0..120,
            )
        ) {
            let samples: Vec<Sample> = rows
                .into_iter()
                .map(|(kind, place, bound, outcome, value)| sample(kind, place, bound, outcome, value))
                .collect();
            prop_assert!(judged(&samples).contains("CRITERION"));
        }
    }

    /// The terms of the test for so many are too small for a float: zeros were once added up for a day and more.
    #[test]
    fn a_rise_beyond_any_doubt_is_found_at_once() {
        let counts = [
            (Some(0), "succeeded", 1e15),
            (Some(0), "failed", 1e14),
            (None, "failed", 5e14),
            (None, "succeeded", 5e14),
        ];
        let samples = counts.map(|(place, outcome, value)| sample("ended", place, "", outcome, value));
        assert!(judged(&samples).contains("no-go"));
    }
}
