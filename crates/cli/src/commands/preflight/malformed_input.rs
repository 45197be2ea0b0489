//! Findings from malformed input: a malformed reply leads to a finding, never to a panic, and is escaped for terminals.

use std::time::Duration;

use mongodb::bson::Document;
use mongodb::options::ClientOptions;
use serde_json::Value;
use txnscope_sidecar::CollectorSettings;

use super::args::Format;
use super::capacity::{self, Expected};
use super::deployment::Reply;
use super::finding::Finding;
use super::{backend, clients, concern, monitoring, output, privileges, topology, version};

/// The findings of all checks from one reply of a server.
pub(crate) fn findings_of_server(reply: &Document) -> Vec<Finding> {
    let result: Reply = Ok(reply.clone());
    let expected = Expected { concurrency: Some(1_000), processes: 3 };
    let mut settings = CollectorSettings::default();
    settings.profile.enabled = true;
    let options = ClientOptions::default();
    vec![
        topology::deployment(reply, Some("rs0")),
        topology::majority(&result, reply),
        topology::oplog(&result, false, Duration::from_secs(3_600)),
        version::version(&result, false, "2026-01-01"),
        version::engine(&result, false),
        version::compatibility(&result, &result, false),
        version::lifetime(&result, false),
        concern::default(None, &result),
        capacity::connections(&result, &options, None, expected),
        capacity::pool(&options, clients::smallest_default(&result).as_ref(), expected),
        clients::names(&result),
        capacity::tickets(&result, expected, false),
        privileges::granted(&result, &result, &settings),
        privileges::profiler(&[("shop".to_owned(), result.clone())]),
    ]
}

/// The findings from a response of Prometheus, Alertmanager or Grafana.
pub(crate) fn findings_of_service(response: &Value) -> Vec<Finding> {
    monitoring::findings_of(response)
}

/// The findings about a backend's metrics page.
pub(crate) fn findings_of_page(text: &str) -> Vec<Finding> {
    backend::findings("here", text)
}

/// The findings in both output formats.
pub(crate) fn render(findings: &[Finding]) -> String {
    output::render(Format::Json, findings) + &output::render(Format::Table, findings)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, Timestamp, doc};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A reply with all fields that any check reads.
    fn complete_reply() -> Document {
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

    fn malformed_value() -> impl Strategy<Value = Bson> {
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

    /// Replaces the value at a position, counted through the whole document.
    fn replace(document: &mut Document, place: &mut usize, new: &Bson) {
        for (_, value) in document.iter_mut() {
            if *place == 0 {
                *value = new.clone();
            }
            *place = place.wrapping_sub(1);
            match value {
                Bson::Document(inner) => replace(inner, place, new),
                Bson::Array(list) => {
                    list.iter_mut()
                        .filter_map(Bson::as_document_mut)
                        .for_each(|one| replace(one, place, new));
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
        fn reply_with_a_malformed_field_does_not_panic(mut place in 0_usize..60, value in malformed_value()) {
            let mut reply = complete_reply();
            replace(&mut reply, &mut place, &value);
            let findings = findings_of_server(&reply);
            prop_assert!(findings.iter().all(|finding| !finding.evidence.is_empty()), "{findings:?}");
            let text = render(&findings);
            prop_assert!(is_plain(&text), "{text:?}");
        }
    }

    #[test]
    fn fixtures_are_valid_before_corruption() {
        use super::super::finding::Status;
        let failed: Vec<_> = findings_of_server(&complete_reply())
            .into_iter()
            .filter(|finding| finding.status == Status::Fail)
            .map(|finding| finding.check)
            .collect();
        assert_eq!(failed, ["privileges"], "some privileges are missing, so that every grant is compared");
    }

    #[test]
    fn unexpected_service_response_has_a_remediation() {
        for response in [json!(null), json!([]), json!({"data": 7}), json!({"groups": {"rules": 1}})] {
            let findings = findings_of_service(&response);
            assert!(findings.iter().all(|finding| finding.remediation.is_some()), "{response}: {findings:?}");
        }
    }
}
