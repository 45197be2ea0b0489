use mongodb::bson::doc;

use super::stages::{keep_each, made, strict, watched};
use super::*;

#[test]
fn constants_and_conditions_produce_no_findings() {
    for expression in [
        Bson::from(1),
        doc! {"$literal": "$a"}.into(),
        doc! {"$concat": ["$a", "-"]}.into(),
        doc! {"$size": "$a"}.into(),
        doc! {"$sum": [1, 2]}.into(),
    ] {
        assert_eq!(findings(&expression, Limits::Finite), none(), "{expression}");
    }
    assert_ne!(findings(&doc! {"$sum": "$a"}.into(), Limits::Finite), none());
}

#[test]
fn stages_that_drop_or_duplicate_documents_are_detected() {
    for stages in [
        vec![doc! {"$lookup": {"from": "c", "localField": "_id", "foreignField": "a", "as": "lines"}}],
        vec![doc! {"$set": {"a": 1}}, doc! {"$unset": ["b"]}, doc! {"$project": {"a": 1}}],
    ] {
        assert!(keep_each(&stages), "{stages:?}");
    }
    for stage in [
        doc! {"$unwind": "$lines"},
        doc! {"$match": {"a": 1}},
        doc! {"$limit": 1},
        doc! {"$group": {"_id": "$_id"}},
        doc! {"$project": {"_id": 0}},
        doc! {"$project": {"_id": "$a"}},
        doc! {"$set": {"_id": "$a"}},
        doc! {"$unset": "_id"},
        doc! {"$replaceWith": "$a"},
        doc! {"$unionWith": "c"},
    ] {
        assert!(!keep_each(std::slice::from_ref(&stage)), "{stage}");
    }
}

#[test]
fn stage_without_sums_is_unchanged() {
    let stages = [
        doc! {"$lookup": {"from": "c", "localField": "_id", "foreignField": "a", "as": "lines"}},
        doc! {"$group": {"_id": "$_id", "count": {"$sum": 1}, "last": {"$last": "$at"}}},
        doc! {"$set": {"a": {"$literal": {"$sum": "$b"}}}},
    ];
    assert_eq!(strict(&stages, Limits::Finite), stages);
    assert_eq!(watched(&stages, Limits::Exact).len(), 4, "one additional stage for the one lookup");
    assert_eq!(made(&stages), ["lines", "_id", "count", "last", "a"]);
}
