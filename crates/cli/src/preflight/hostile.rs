//! Answers that nobody should give. What is odd makes a finding, and never a panic; nothing of it steers a terminal.

use std::time::Duration;

use mongodb::bson::Document;
use mongodb::options::ClientOptions;
use serde_json::Value;
use txnscope_sidecar::CollectorSettings;

use super::capacity::{self, Expected};
use super::deployment::Answer;
use super::finding::Finding;
use super::flags::Format;
use super::{concern, monitoring, output, privileges, topology, version};

/// What preflight makes of one reply of a server, whatever was asked.
pub(crate) fn of_server(reply: &Document) -> Vec<Finding> {
    let answer: Answer = Ok(reply.clone());
    let expected = Expected { concurrency: Some(1_000), processes: 3 };
    let mut settings = CollectorSettings::default();
    settings.profile.enabled = true;
    let options = ClientOptions::default();
    vec![
        topology::deployment(reply, Some("rs0")),
        topology::majority(&answer, reply),
        topology::oplog(&answer, false, Duration::from_secs(3_600)),
        version::version(&answer, false, "2026-01-01"),
        version::engine(&answer, false),
        version::compatibility(&answer, &answer, false),
        version::lifetime(&answer, false),
        concern::default(None, &answer),
        capacity::connections(&answer, &options, expected),
        capacity::tickets(&answer, expected, false),
        privileges::held(&answer, &answer, &settings),
        privileges::profiler(&[("shop".to_owned(), answer.clone())]),
    ]
}

/// What it makes of an answer of Prometheus, Alertmanager or Grafana.
pub(crate) fn of_service(answer: &Value) -> Vec<Finding> {
    monitoring::read(answer)
}

/// Both ways to print them.
pub(crate) fn printed(findings: &[Finding]) -> String {
    output::render(Format::Json, findings) + &output::render(Format::Table, findings)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, Timestamp, doc};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// All that any question reads, in one reply.
    fn everything() -> Document {
        let at = |time| Timestamp { time, increment: 1 };
        doc! {
            "setName": "rs0", "hosts": ["a:1", "b:1"], "passives": ["c:1"], "primary": "a:1", "msg": "isdbgrid",
            "isreplicaset": false, "writeMajorityCount": 2,
            "members": [{"name": "a:1", "stateStr": "PRIMARY", "health": 1.0}, {"name": "b:1", "stateStr": "SECONDARY"}],
            "oplog": {"earliestOptime": at(1), "latestOptime": at(9_000)},
            "version": "6.0.5", "versionArray": [6, 0, 5, 0], "storageEngine": {"name": "wiredTiger"},
            "featureCompatibilityVersion": {"version": "6.0"}, "transactionLifetimeLimitSeconds": 60,
            "defaultWriteConcern": {"w": "majority"}, "defaultWriteConcernSource": "implicit",
            "connections": {"current": 1, "available": 100_000},
            "queues": {"execution": {"write": {"totalTickets": 128}}}, "was": 1,
            "authInfo": {
                "authenticatedUsers": [{"user": "u", "db": "admin"}],
                "authenticatedUserPrivileges": [
                    {"resource": {"db": "", "collection": "", "cluster": true, "anyResource": false}, "actions": ["inprog"]},
                ],
            },
        }
    }

    fn odd() -> impl Strategy<Value = Bson> {
        prop_oneof![
            Just(Bson::Null),
            any::<bool>().prop_map(Bson::Boolean),
            any::<i32>().prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            any::<f64>().prop_map(Bson::Double),
            any::<i64>().prop_map(|millis| Bson::DateTime(mongodb::bson::DateTime::from_millis(millis))),
            "\\PC{0,10}|[\u{0}-\u{1f}]{1,3}|[0-9.]{0,9}".prop_map(Bson::String),
            Just(Bson::Array(vec![Bson::Int32(-1), Bson::String("\u{1b}[2J".to_owned())])),
            Just(Bson::Document(doc! {"version": "\u{1b}[2J", "name": 7, "w": 1.5})),
        ]
    }

    /// Puts that in the place of one value, counted through the whole document.
    fn put(document: &mut Document, place: &mut usize, new: &Bson) {
        for (_, value) in document.iter_mut() {
            if *place == 0 {
                *value = new.clone();
            }
            *place = place.wrapping_sub(1);
            match value {
                Bson::Document(inner) => put(inner, place, new),
                Bson::Array(list) => {
                    list.iter_mut().filter_map(Bson::as_document_mut).for_each(|one| put(one, place, new));
                }
                _ => {}
            }
        }
    }

    fn is_plain(text: &str) -> bool {
        text.chars().all(|c| c == '\n' || txnscope_catalog::is_printable(c))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn a_reply_with_an_odd_field_is_judged_and_shown(mut place in 0_usize..60, value in odd()) {
            let mut reply = everything();
            put(&mut reply, &mut place, &value);
            let findings = of_server(&reply);
            prop_assert!(findings.iter().all(|finding| !finding.evidence.is_empty()), "{findings:?}");
            let printed = printed(&findings);
            prop_assert!(is_plain(&printed), "{printed:?}");
        }
    }

    #[test]
    fn what_is_made_odd_is_well_to_begin_with() {
        use super::super::finding::Verdict;
        let failed: Vec<_> = of_server(&everything())
            .into_iter()
            .filter(|finding| finding.verdict == Verdict::Fail)
            .map(|finding| finding.check)
            .collect();
        assert_eq!(failed, ["privileges"], "which lack some, so that each grant is looked at");
    }

    #[test]
    fn a_service_that_answers_another_question_is_found_out() {
        for answer in [json!(null), json!([]), json!({"data": 7}), json!({"groups": {"rules": 1}})] {
            let findings = of_service(&answer);
            assert!(findings.iter().all(|finding| finding.cure.is_some()), "{answer}: {findings:?}");
        }
    }
}
