//! `locks`: lock waits by resource and mode. The server leaves out resources and modes without waits; they are
//! exported as zero, so that the first wait is visible as an increase.

use mongodb::bson::{Bson, Document};
use txnscope_catalog as catalog;
use txnscope_catalog::{LOCK_MODES, LOCK_RESOURCES, Metric};

use crate::decode::{Field, document, number};
use crate::sample_set::SampleSet;

/// Lock metrics, the server's counter, and the divisor to the metric's unit.
const COUNTERS: [(&Metric, &str, f64); 3] = [
    (&catalog::MONGODB_LOCK_WAITS, "acquireWaitCount", 1.0),
    (&catalog::MONGODB_LOCK_WAIT_SECONDS, "timeAcquiringMicros", 1e6),
    (&catalog::MONGODB_LOCK_DEADLOCKS, "deadlockCount", 1.0),
];

/// The server's names for [`LOCK_RESOURCES`], in the same order. The last of those, `other`, has all that are
/// not listed here.
const RESOURCES: [&str; 9] = [
    "ParallelBatchWriterMode",
    "FeatureCompatibilityVersion",
    "ReplicationStateTransition",
    "Global",
    "Database",
    "Collection",
    "Mutex",
    "Metadata",
    "oplog",
];

/// The server's names for [`LOCK_MODES`], in the same order.
const MODES: [&str; 4] = ["r", "w", "R", "W"];

pub(super) fn read(samples: &mut SampleSet, reply: &Document) {
    let locks = match document(reply, &["locks"]) {
        Field::Value(locks) => locks,
        Field::Invalid => return samples.count_dropped(),
        // A mongos has no locks.
        Field::Missing => return,
    };
    let others: Vec<_> =
        locks.iter().filter(|(name, _)| !RESOURCES.contains(&name.as_str())).map(|(_, of)| of).collect();
    for (metric, count, scale) in COUNTERS {
        for (name, mode) in LOCK_MODES.iter().zip(MODES) {
            for (index, resource) in LOCK_RESOURCES.iter().enumerate() {
                let found = match RESOURCES.get(index) {
                    Some(named) => or_zero(number(locks, &[named, count, mode])),
                    None => others.iter().fold(Field::Value(0.0), |sum, other| {
                        sum.combine(or_zero(unknown_resource(other, count, mode)), |sum, more| sum + more)
                    }),
                };
                samples.number(metric, &[resource, name], found.map(|number| number / scale));
            }
        }
    }
}

fn unknown_resource(resource: &Bson, count: &str, mode: &str) -> Field<f64> {
    match resource {
        Bson::Document(resource) => number(resource, &[count, mode]),
        _ => Field::Invalid,
    }
}

fn or_zero(found: Field<f64>) -> Field<f64> {
    match found {
        Field::Missing => Field::Value(0.0),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn value(samples: &SampleSet, metric: &'static Metric, labels: &[&str]) -> Option<f64> {
        samples.find(metric.name, labels)
    }

    #[test]
    fn lock_waits_start_at_zero_for_every_resource_and_mode() {
        let mut samples = SampleSet::default();
        read(&mut samples, &doc! {"locks": {}});
        assert_eq!(samples.as_slice().len(), 3 * LOCK_RESOURCES.len() * LOCK_MODES.len());
        assert!(samples.numbers().all(|(_, _, value)| value == 0.0));
        let mut samples = SampleSet::default();
        read(&mut samples, &doc! {"no": 1});
        assert_eq!((samples.as_slice().len(), samples.dropped()), (0, 0));
    }

    #[test]
    fn unknown_lock_resources_are_summed_and_invalid_fields_dropped() {
        let mut samples = SampleSet::default();
        let locks = doc! {
            "Collection": {"acquireCount": {"w": 7}, "acquireWaitCount": {"w": 2_i64, "W": "two"},
                "timeAcquiringMicros": {"w": 1_500_000}, "deadlockCount": 3},
            "DDLDatabase": {"acquireWaitCount": {"w": 4}},
            "Tenant": {"acquireWaitCount": {"w": 5}},
            "invalid": 1,
        };
        read(&mut samples, &doc! {"locks": locks});
        let waits = &catalog::MONGODB_LOCK_WAITS;
        assert_eq!(value(&samples, waits, &["collection", "intent_exclusive"]), Some(2.0));
        assert_eq!(value(&samples, waits, &["collection", "exclusive"]), None);
        assert_eq!(
            value(&samples, &catalog::MONGODB_LOCK_WAIT_SECONDS, &["collection", "intent_exclusive"]),
            Some(1.5)
        );
        assert_eq!(
            value(&samples, &catalog::MONGODB_LOCK_DEADLOCKS, &["collection", "intent_exclusive"]),
            None
        );
        assert_eq!(value(&samples, waits, &["global", "shared"]), Some(0.0));
        // An entry that is no document invalidates the sums that it belongs to.
        assert_eq!(value(&samples, waits, &["other", "intent_exclusive"]), None);
    }

    #[test]
    fn lock_resources_match_the_catalog_order() {
        let snake = |name: &str| {
            let mut word = String::new();
            for character in name.chars() {
                if character.is_ascii_uppercase() && !word.is_empty() {
                    word.push('_');
                }
                word.push(character.to_ascii_lowercase());
            }
            word
        };
        assert_eq!(RESOURCES.map(snake), LOCK_RESOURCES[..RESOURCES.len()]);
        assert_eq!(LOCK_RESOURCES.last(), Some(&"other"));
    }
}
