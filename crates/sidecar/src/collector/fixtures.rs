//! Fixtures: replies of server versions that are not run in the tests; `fixtures/README.md` describes each.

use mongodb::bson::{Document, serialize_to_document};

use super::{server_status, storage_engine};
use crate::sample_set::SampleSet;

const NAMES: [&str; 5] = ["mongod-4.2", "mongod-7.0", "mongod-8.0", "mongod-8.3", "mongos"];

pub(super) fn fixture(name: &str) -> Document {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
    let value: serde_json::Value = serde_json::from_str(&text).expect("the fixture is JSON");
    serialize_to_document(&value).expect("the fixture is a document")
}

fn read(name: &str) -> [SampleSet; 2] {
    let reply = fixture(name);
    [server_status::decode(&reply), storage_engine::decode(&reply)]
}

fn value(sample_sets: &[SampleSet], name: &str, labels: &[&str]) -> Option<f64> {
    sample_sets.iter().find_map(|samples| samples.find(name, labels))
}

#[test]
fn every_server_version_is_decoded_without_drops() {
    for name in NAMES {
        let sample_sets = read(name);
        // Kinds of operations without a histogram are missing, not invalid.
        assert_eq!(sample_sets.iter().map(SampleSet::dropped).sum::<u64>(), 0, "{name}");
        let started = value(&sample_sets, "mongodb_transactions_started_total", &[]);
        assert_eq!(started, Some(if name == "mongos" { 20.0 } else { 10.0 }), "{name}");
    }
}

#[test]
fn tickets_have_one_metric_in_all_versions() {
    for (name, queue) in [("mongod-4.2", None), ("mongod-7.0", Some(5.0)), ("mongod-8.0", Some(5.0))] {
        let sample_sets = read(name);
        assert_eq!(value(&sample_sets, "mongodb_tickets_in_use", &["write"]), Some(2.0), "{name}");
        assert_eq!(value(&sample_sets, "mongodb_ticket_queue", &["write"]), queue, "{name}");
        let waited = value(&sample_sets, "mongodb_ticket_wait_seconds_total", &["write"]);
        assert_eq!(waited, queue.map(|_| 2.5), "{name}");
    }
}

#[test]
fn unknown_lock_resource_is_counted_as_other() {
    let waits = "mongodb_lock_waits_total";
    assert_eq!(value(&read("mongod-7.0"), waits, &["other", "exclusive"]), Some(2.0));
    assert_eq!(value(&read("mongod-4.2"), waits, &["collection", "exclusive"]), Some(6.0));
}

#[test]
fn unrequested_histograms_are_exported_once() {
    let [status, _] = read("mongod-8.3");
    let histograms = status.as_slice().iter().filter(|sample| !sample.metric.buckets.is_empty());
    let histograms: Vec<_> = histograms.map(|sample| (sample.metric.name, sample.labels.join(","))).collect();
    let of = |kind: &str| ("mongodb_operation_latency_seconds", kind.to_owned());
    let transactions = ("mongodb_transaction_duration_seconds", String::new());
    assert_eq!(histograms, [transactions, of("reads"), of("writes"), of("commands")]);
}

#[test]
fn mongos_exports_commit_types_and_abort_causes() {
    let sample_sets = read("mongos");
    let of = |name, labels: &[&str]| value(&sample_sets, name, labels);
    assert_eq!(of("mongodb_info", &["7.0.14", "mongos", ""]), Some(1.0));
    assert_eq!(of("mongodb_transaction_commits_initiated_total", &["two_phase_commit"]), Some(4.0));
    assert_eq!(of("mongodb_transaction_commits_successful_total", &["two_phase_commit"]), Some(3.0));
    assert_eq!(of("mongodb_transaction_commits_successful_seconds_total", &["single_shard"]), Some(1.5));
    assert_eq!(of("mongodb_transaction_aborts_by_cause_total", &["NoSuchTransaction"]), Some(2.0));
    assert_eq!(of("mongodb_transaction_requests_targeted_total", &[]), Some(77.0));
    assert_eq!(of("mongodb_lock_waits_total", &["global", "shared"]), None, "a mongos has no locks");
}
