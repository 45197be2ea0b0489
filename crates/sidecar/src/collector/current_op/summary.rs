//! Decoding of the aggregation: sums by state and by application.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::bson::{Bson, Document};
use txnscope_catalog as catalog;
use txnscope_catalog::{AGE_BUCKETS, Metric, OVERFLOW};

use crate::collector::label_limiter::CardinalityLimiter;
use crate::decode::{Field, documents, field, number, text};
use crate::sample_set::SampleSet;

const STATES: [(&str, bool); 2] = [("active", true), ("inactive", false)];

/// Gauges that are the sum of both states.
const SUMS: [(&Metric, &[&str], &str); 5] = [
    (&catalog::MONGODB_TRANSACTIONS_WAITING_FOR_LOCK, &[], "waiting"),
    (&catalog::MONGODB_OPERATIONS_BLOCKED_BY_PREPARED, &[], "blocked"),
    (&catalog::MONGODB_TRANSACTIONS_LONG_RUNNING, &[], "long_running"),
    (&catalog::MONGODB_TRANSACTIONS_FINISHING, &["commit"], "commit"),
    (&catalog::MONGODB_TRANSACTIONS_FINISHING, &["abort"], "abort"),
];

/// Gauges that are the maximum of both states, in microseconds.
const OLDEST: [(&Metric, &[&str], &str); 3] = [
    (&catalog::MONGODB_TRANSACTIONS_OLDEST_PREPARED, &[], "oldest_prepared"),
    (&catalog::MONGODB_TRANSACTIONS_OLDEST_FINISHING, &["commit"], "oldest_commit"),
    (&catalog::MONGODB_TRANSACTIONS_OLDEST_FINISHING, &["abort"], "oldest_abort"),
];

/// Decodes one group for each state that has transactions. A state without transactions has age zero.
pub(super) fn decode(
    groups: &[&Document],
    long_running: Duration,
    limiter: &mut CardinalityLimiter,
) -> SampleSet {
    let mut samples = SampleSet::default();
    for (state, active) in STATES {
        let is = |group: &&&Document| matches!(field(group, &["_id"]), Field::Value(Bson::Boolean(id)) if *id == active);
        let oldest = groups.iter().find(is).map_or(Field::Value(0.0), |group| or_zero(group, "oldest"));
        let oldest = oldest.map(|micros| micros / 1e6);
        samples.number(&catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN, &[state], oldest);
    }
    for (metric, labels, name) in SUMS {
        samples.number(metric, labels, combine_groups(groups, name, |sum, more| sum + more));
    }
    for (metric, labels, name) in OLDEST {
        samples.number(metric, labels, combine_groups(groups, name, f64::max).map(|micros| micros / 1e6));
    }
    let threshold = Field::Value(long_running.as_secs_f64());
    samples.number(&catalog::MONGODB_TRANSACTIONS_LONG_RUNNING_THRESHOLD, &[], threshold);
    count_by_age(&mut samples, groups);
    applications(&mut samples, groups, limiter);
    samples
}

/// The server's counts are cumulative from the oldest down; each bucket is the difference to the next.
fn count_by_age(samples: &mut SampleSet, groups: &[&Document]) {
    let from = |index: usize| match AGE_BUCKETS.get(index) {
        None => Field::Value(0.0),
        Some(_) if index == 0 => combine_groups(groups, "open", |sum, more| sum + more),
        Some((_, name)) => combine_groups(groups, name, |sum, more| sum + more),
    };
    for (index, (_, name)) in AGE_BUCKETS.iter().enumerate() {
        let of_bucket = from(index).combine(from(index + 1), |these, older| (these - older).max(0.0));
        samples.number(&catalog::MONGODB_TRANSACTIONS_OPEN_BY_AGE, &[name], of_bucket);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Application {
    open: f64,
    oldest: f64,
}

/// Applications with the label values of the limiter; all others are the rest of the sums. An application
/// without transactions is exported as zero, so that its series does not end at its last value.
fn applications(samples: &mut SampleSet, groups: &[&Document], limiter: &mut CardinalityLimiter) {
    let mut applications: BTreeMap<String, Application> = BTreeMap::new();
    let mut named = 0.0;
    for group in groups {
        for application in documents(group, &["applications"]).ok().unwrap_or_default() {
            let (Field::Value(open), Field::Value(oldest)) =
                (number(application, &["open"]), or_zero(application, "oldest"))
            else {
                samples.count_dropped();
                continue;
            };
            if open == 0.0 {
                continue;
            }
            named += open;
            let name = limiter.label_for(text(application, &["name"]).ok().unwrap_or_default());
            let of = applications.entry(name.into_owned()).or_default();
            of.open += open;
            of.oldest = of.oldest.max(oldest / 1e6);
        }
    }
    for name in limiter.tracked() {
        applications.entry(name.to_owned()).or_default();
    }
    let unnamed = combine_groups(groups, "open", |sum, more| sum + more).ok().unwrap_or_default() - named;
    applications.entry(OVERFLOW.to_owned()).or_default().open += unnamed.max(0.0);
    for (name, Application { open, oldest }) in applications {
        let label = || vec![name.clone().into()];
        samples.labeled(&catalog::MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION, label(), Field::Value(open));
        let metric = &catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN_BY_APPLICATION;
        samples.labeled(metric, label(), Field::Value(oldest));
    }
}

/// The number of commits and aborts in progress.
pub(super) fn finishing(groups: &[&Document]) -> f64 {
    let sum = |name| combine_groups(groups, name, |sum, more| sum + more).ok().unwrap_or_default();
    sum("commit") + sum("abort")
}

/// The number of long-running transactions.
pub(super) fn long_running(groups: &[&Document]) -> f64 {
    combine_groups(groups, "long_running", |sum, more| sum + more).ok().unwrap_or_default()
}

fn combine_groups(groups: &[&Document], name: &str, with: fn(f64, f64) -> f64) -> Field<f64> {
    groups.iter().fold(Field::Value(0.0), |sum, group| sum.combine(or_zero(group, name), with))
}

/// The maximum of nothing is null.
fn or_zero(group: &Document, name: &str) -> Field<f64> {
    match number(group, &[name]) {
        Field::Missing => Field::Value(0.0),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;
    use txnscope_catalog::MAX_APPLICATIONS;

    use super::*;

    fn read(groups: &[Document]) -> SampleSet {
        let mut limiter = CardinalityLimiter::new(MAX_APPLICATIONS);
        decode(&groups.iter().collect::<Vec<_>>(), Duration::from_secs(30), &mut limiter)
    }

    fn values(samples: &SampleSet, metric: &Metric) -> Vec<(String, f64)> {
        let of = samples.numbers().filter(|(found, _, _)| found.name == metric.name);
        of.map(|(_, labels, value)| (labels.join(","), value)).collect()
    }

    fn value(samples: &SampleSet, metric: &Metric, labels: &str) -> Option<f64> {
        values(samples, metric).into_iter().find(|(of, _)| of == labels).map(|found| found.1)
    }

    #[test]
    fn no_transactions_export_zeros() {
        let samples = read(&[]);
        assert_eq!(samples.dropped(), 0);
        let all_zero = samples
            .numbers()
            .filter(|(metric, _, _)| *metric != &catalog::MONGODB_TRANSACTIONS_LONG_RUNNING_THRESHOLD)
            .all(|(_, _, value)| value == 0.0);
        assert!(all_zero);
        assert_eq!(values(&samples, &catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN).len(), 2);
        assert_eq!(
            values(&samples, &catalog::MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION),
            [("overflow".into(), 0.0)]
        );
    }

    #[test]
    fn states_are_aggregated_by_sum_and_maximum() {
        let samples = read(&[
            doc! {"_id": false, "open": 5, "oldest": 70_500_000_i64, "waiting": 0, "long_running": 1,
            "from_1s_to_5s": 3, "from_5s_to_15s": 1, "from_15s_to_60s": 1, "over_60s": 1, "oldest_commit": Bson::Null},
            doc! {"_id": true, "open": 2, "oldest": 1_500_000_i64, "waiting": 3, "from_1s_to_5s": 1,
            "commit": 1, "oldest_commit": 750_000},
        ]);
        let oldest = values(&samples, &catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN);
        assert_eq!(oldest, [("active".into(), 1.5), ("inactive".into(), 70.5)]);
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_WAITING_FOR_LOCK, ""), Some(3.0));
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_LONG_RUNNING, ""), Some(1.0));
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_FINISHING, "commit"), Some(1.0));
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_OLDEST_FINISHING, "commit"), Some(0.75));
        let count_by_age: Vec<_> = values(&samples, &catalog::MONGODB_TRANSACTIONS_OPEN_BY_AGE)
            .into_iter()
            .map(|age| age.1)
            .collect();
        assert_eq!(count_by_age, [3.0, 3.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn applications_over_the_limit_overflow() {
        let all: Vec<_> = (0..MAX_APPLICATIONS + 2)
            .map(|index| doc! {"name": format!("app{index}"), "open": 1, "oldest": 2_000_000_i64})
            .collect();
        let mut named = all.clone();
        named.push(doc! {"name": Bson::Null, "open": "two"});
        named.push(doc! {"name": "only a commit", "open": 0, "oldest": Bson::Null});
        let samples = read(&[doc! {"_id": false, "open": 30, "applications": named}]);
        let open = values(&samples, &catalog::MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION);
        assert_eq!(open.len(), MAX_APPLICATIONS + 1);
        // Two over the limit, and eight that the server counted without a name.
        assert_eq!(open.iter().find(|(name, _)| name == OVERFLOW), Some(&(OVERFLOW.to_owned(), 10.0)));
        assert_eq!(open.iter().map(|(_, open)| open).sum::<f64>(), 30.0);
        assert_eq!(samples.dropped(), 1);
    }

    #[test]
    fn application_without_transactions_is_zero() {
        let mut limiter = CardinalityLimiter::new(MAX_APPLICATIONS);
        let group =
            doc! {"_id": false, "open": 1, "applications": [{"name": "shop", "open": 1, "oldest": 1}]};
        decode(&[&group], Duration::ZERO, &mut limiter);
        let samples = decode(&[], Duration::ZERO, &mut limiter);
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION, "shop"), Some(0.0));
    }

    #[test]
    fn invalid_group_costs_its_own_numbers() {
        let samples = read(&[
            doc! {"_id": false, "open": 1, "oldest": "long", "waiting": 1},
            doc! {"_id": true, "open": 1, "oldest": 1_000_000, "waiting": 1},
        ]);
        assert_eq!(values(&samples, &catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN), [("active".into(), 1.0)]);
        assert_eq!(value(&samples, &catalog::MONGODB_TRANSACTIONS_WAITING_FOR_LOCK, ""), Some(2.0));
        assert_eq!(samples.dropped(), 1);
    }
}
