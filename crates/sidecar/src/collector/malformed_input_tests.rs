//! Malformed replies: an invalid field costs what is read from it, and nothing else.

use mongodb::bson::{Bson, DateTime, Decimal128, Document, Timestamp, doc, oid::ObjectId};
use proptest::prelude::*;

use super::decode_all::decode_all;
use super::fixtures::fixture;

fn anything() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::Null),
        Just(Bson::Undefined),
        Just(Bson::MaxKey),
        any::<bool>().prop_map(Bson::Boolean),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<f64>().prop_map(Bson::Double),
        any::<[u8; 16]>().prop_map(|bytes| Bson::Decimal128(Decimal128::from_bytes(bytes))),
        any::<i64>().prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        any::<(u32, u32)>().prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(ObjectId::from_bytes(bytes))),
        ".{0,40}".prop_map(Bson::String),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Bson::Array),
            prop::collection::vec(("[a-zA-Z$. ]{0,12}", inner), 0..6)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

/// One reply with all fields that any collector reads.
fn everything() -> Document {
    let mut reply = fixture("mongod-8.0");
    for (name, value) in
        fixture("mongos").into_iter().chain(fixture("mongod-4.2")).chain(fixture("mongod-8.3"))
    {
        match (reply.get_mut(&name), value) {
            (Some(Bson::Document(known)), Bson::Document(more)) => known.extend(more),
            (_, value) => {
                reply.insert(name, value);
            }
        }
    }
    let at = DateTime::from_millis(100_000);
    reply.extend(doc! {
        "myState": 1, "term": 3, "optimes": {"lastAppliedWallTime": at, "lastCommittedWallTime": at},
        "members": [
            {"name": "db1:1", "health": 1.0, "state": 1, "optimeDate": at, "self": true},
            {"name": "db2:1", "health": 1.0, "state": 2, "optimeDate": at},
        ],
        "oplog": {"latestOptime": Timestamp { time: 9, increment: 1 }, "earliestOptime": Timestamp { time: 1, increment: 1 }},
        "electionMetrics": {"stepUpCmd": {"called": 1, "successful": 1}, "numStepDownsCausedByHigherTerm": 1},
        "transactionLifetimeLimitSeconds": 60,
        "totalLinesWritten": 2, "log": ["{\"id\":51802,\"attr\":{}}", "{}"],
        "cursor": {"firstBatch": [
            {"_id": true, "open": 1, "oldest": 5, "applications": [{"name": "a", "open": 1, "oldest": 5}],
             "ts": at, "ns": "a.b", "millis": 5, "planSummary": "COLLSCAN"},
        ]},
    });
    reply
}

/// The paths of all fields in a document.
fn places(document: &Document) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (name, value) in document {
        all.push(vec![name.clone()]);
        let inner = match value {
            Bson::Document(inner) => places(inner),
            Bson::Array(elements) => {
                let numbered = elements.iter().enumerate();
                let inner = numbered.map(|(index, element)| (index.to_string(), element.clone()));
                places(&inner.collect())
            }
            _ => Vec::new(),
        };
        all.extend(inner.into_iter().map(|path| [vec![name.clone()], path].concat()));
    }
    all
}

fn put(value: &mut Bson, path: &[String], new: Bson) {
    let Some((first, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    let inner = match value {
        Bson::Document(document) => document.get_mut(first),
        Bson::Array(elements) => first.parse().ok().and_then(|index: usize| elements.get_mut(index)),
        _ => None,
    };
    put(inner.expect("the place is there"), rest, new);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn invalid_field_costs_only_its_own_samples(
        place in any::<prop::sample::Index>(),
        value in anything(),
    ) {
        let good = everything();
        let places = places(&good);
        let place = place.get(&places);
        let mut bad = Bson::Document(good.clone());
        put(&mut bad, place, value);
        let Bson::Document(bad) = bad else { unreachable!("the whole is still a document") };
        for (before, after) in decode_all(&good).into_iter().zip(decode_all(&bad)) {
            for sample in before.as_slice() {
                // The catalog says which section each metric comes from.
                let section = place[0].as_str();
                let of_batch = ["cursor", "log", "totalLinesWritten"].contains(&section);
                let of_section = sample.metric.source.contains(section) || of_batch;
                prop_assert!(
                    of_section || after.as_slice().contains(sample),
                    "{place:?} has cost {}{:?}", sample.metric.name, sample.labels
                );
            }
        }
    }

    #[test]
    fn arbitrary_reply_does_not_panic(reply in prop::collection::vec(("[a-zA-Z]{0,12}", anything()), 0..8)) {
        decode_all(&reply.into_iter().collect());
    }
}

/// Guards the tests above against a reply of which nothing is read.
#[test]
fn uncorrupted_reply_is_read_by_every_collector() {
    for samples in decode_all(&everything()) {
        assert!(!samples.as_slice().is_empty());
    }
}
