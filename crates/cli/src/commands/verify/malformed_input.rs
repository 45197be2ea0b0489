//! Reports from malformed counts: no count leads to a panic, or to a computation that does not end.

use super::args::Format;
use super::traffic::{TimeRange, counts_of_samples};
use super::{output, report};
use crate::client::services::prometheus::Sample;
use txnscope_rollout::Limits;

/// The report on these samples, in all output formats.
pub(crate) fn render_report(samples: &[Sample]) -> String {
    let limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };
    let (before, after) =
        (TimeRange { start: 0.0, end: 3_600.0 }, TimeRange { start: 3_600.0, end: 7_200.0 });
    let report = report::report((before, after), &counts_of_samples(samples), &limits, None);
    let formats = [Format::Table, Format::Json, Format::Markdown];
    formats.map(|format| output::render(format, &report)).concat()
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

    /// Valid and malformed counts.
    fn count() -> impl Strategy<Value = f64> {
        prop_oneof![0.0..1e4_f64, 0.0..1e16_f64, Just(f64::MAX), Just(f64::MIN_POSITIVE), any::<f64>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn arbitrary_counts_do_not_panic(
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
            prop_assert!(render_report(&samples).contains("CRITERION"));
        }
    }

    /// With large counts, the terms of the exact test underflow to zero: adding them up once took more than a day.
    #[test]
    fn significant_rise_of_large_counts_is_found_quickly() {
        let counts = [
            (Some(0), "succeeded", 1e15),
            (Some(0), "failed", 1e14),
            (None, "failed", 5e14),
            (None, "succeeded", 5e14),
        ];
        let samples = counts.map(|(place, outcome, value)| sample("ended", place, "", outcome, value));
        assert!(render_report(&samples).contains("no-go"));
    }
}
