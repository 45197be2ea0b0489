//! The JSON schema in the documentation.

use serde_json::{Value, json};

fn schema() -> Value {
    let path = testkit::workspace().join("docs/live.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The schema lets fields be added later; what is printed today has none that it does not describe.
fn strict(mut schema: Value) -> Value {
    fn forbid_others(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("properties") {
                    fields.insert("additionalProperties".to_owned(), json!(false));
                }
                fields.values_mut().for_each(forbid_others);
            }
            Value::Array(values) => values.iter_mut().for_each(forbid_others),
            _ => {}
        }
    }
    forbid_others(&mut schema);
    schema
}

/// Asserts that a report is as the documentation says.
pub(super) fn assert_valid(report: &Value) {
    for schema in [schema(), strict(schema())] {
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(report).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{report:#}");
    }
}

#[test]
fn schema_is_valid_and_rejects_ambiguous_references() {
    jsonschema::meta::validate(&schema()).unwrap();
    let validator = jsonschema::draft202012::new(&strict(schema())).unwrap();
    let empty = json!({"replica_set": null, "members": [], "transactions": [], "waiting": [], "running": [], "queues": [], "pools": []});
    assert!(validator.is_valid(&empty));
    let mut waiting = json!({
        "member": "db1:27017", "opid": 7, "command": "update", "namespace": null, "application": null,
        "client": null, "driver": null, "transaction": null, "waits_for": {"kind": "document"},
        "waiting_seconds": 0.5, "running_seconds": 1, "write_conflicts": 0, "blocked_by": [{"waiting": 2}],
        "candidates": [], "more_blockers": 0,
    });
    let with = |waiting: &Value| {
        let mut report = empty.clone();
        report["waiting"] = json!([waiting]);
        report
    };
    assert!(validator.is_valid(&with(&waiting)));
    for ambiguous in [json!(2), json!({"waiting": 2, "transaction": 0}), json!({}), json!({"waiting": -1})] {
        waiting["blocked_by"] = json!([ambiguous]);
        assert!(!validator.is_valid(&with(&waiting)), "{waiting}");
    }
}
