//! `opLatencies` with histograms: durations of operations and of transactions.

use mongodb::bson::Document;
use txnscope_catalog as catalog;
use txnscope_catalog::SERVER_DURATION_BUCKETS;

use crate::decode::{Field, documents, number};
use crate::sample_set::{Histogram, SampleSet};

const MICROS: f64 = 1e6;

pub(super) fn read(samples: &mut SampleSet, reply: &Document) {
    samples.histogram(&catalog::MONGODB_TRANSACTION_DURATION, &[], histogram(reply, "transactions"));
    for kind in ["reads", "writes", "commands"] {
        samples.histogram(&catalog::MONGODB_OPERATION_LATENCY, &[kind], histogram(reply, kind));
    }
}

/// The server names each bucket by its lower bound and leaves out empty ones. Each exported bound is also one of
/// the server's, so each of its buckets lies on one side of it.
fn histogram(reply: &Document, kind: &str) -> Field<Histogram> {
    let at = |field| ["opLatencies", kind, field];
    let buckets = match documents(reply, &at("histogram")) {
        Field::Value(buckets) => buckets,
        Field::Missing => return Field::Missing,
        Field::Invalid => return Field::Invalid,
    };
    let mut cumulative = vec![0_u64; SERVER_DURATION_BUCKETS.len()];
    let mut all = 0_u64;
    for bucket in buckets {
        let (Field::Value(micros), Field::Value(count)) =
            (number(bucket, &["micros"]), number(bucket, &["count"]))
        else {
            return Field::Invalid;
        };
        let count = to_count(count);
        all = all.saturating_add(count);
        let begins_below = SERVER_DURATION_BUCKETS.partition_point(|bound| *bound <= micros / MICROS);
        for of_bound in &mut cumulative[begins_below..] {
            *of_bound = of_bound.saturating_add(count);
        }
    }
    number(reply, &at("latency")).map(|micros| Histogram { cumulative, count: all, sum: micros / MICROS })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, not negative")]
fn to_count(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, doc};

    use super::*;

    fn reply() -> Document {
        doc! {"opLatencies": {"transactions": {
            "histogram": [{"micros": 64_i64, "count": 1_i64}, {"micros": 128, "count": 2}, {"micros": 3072, "count": 4.0}],
            "latency": 2_500_000_i64, "ops": 7_i64,
        }}}
    }

    #[test]
    fn server_histogram_buckets_are_merged() {
        let Field::Value(histogram) = histogram(&reply(), "transactions") else { panic!("no histogram") };
        // 64 µs lies below 128 µs; what begins at 128 µs lies below 256 µs; 3072 µs below 4096 µs.
        assert_eq!(histogram.cumulative[..6], [1, 3, 3, 3, 3, 7]);
        assert_eq!((histogram.count, histogram.sum), (7, 2.5));
    }

    #[test]
    fn invalid_histogram_is_dropped_and_counts_saturate() {
        let mut reply = reply();
        let kinds = reply.get_document_mut("opLatencies").unwrap();
        let huge = doc! {"histogram": [{"micros": 1, "count": 1e300}, {"micros": 2, "count": i64::MAX}], "latency": 1};
        kinds.insert("reads", huge);
        kinds.insert("writes", Bson::Array(vec![]));
        kinds.insert("commands", doc! {"histogram": [{"micros": "1", "count": 1}], "latency": 1});
        let mut samples = SampleSet::default();
        read(&mut samples, &reply);
        assert_eq!((samples.as_slice().len(), samples.dropped()), (2, 2));
    }
}
