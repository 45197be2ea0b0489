//! The types of Kubernetes, as its API server checks them: an unknown field is an error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jsonschema::Validator;
use serde_json::{Value, json};

/// A version that is older than the chart's `kubeVersion` permits would accept less, a newer one more.
const VERSION: &str = "v1.37.0-local";

/// The types, with a cache of compiled ones: compiling takes much longer than validating.
pub(super) struct Kubernetes {
    types: Value,
    compiled: RefCell<BTreeMap<String, Rc<Validator>>>,
}

impl Kubernetes {
    pub(super) fn read() -> Self {
        let folder = ".tools/kubernetes-validate/kubernetes_validate/kubernetes-json-schema";
        let file = testkit::workspace().join(folder).join(VERSION).join("_definitions.json");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("{}: {error}; run `cargo xtask fetch`", file.display());
        });
        let mut types: Value = serde_json::from_str(&text).unwrap();
        for definition in types["$defs"].as_object_mut().unwrap().values_mut() {
            if definition.get("properties").is_some() && definition.get("additionalProperties").is_none() {
                definition["additionalProperties"] = false.into();
            }
        }
        Self { types, compiled: RefCell::default() }
    }

    /// All errors of a resource; resources of the Prometheus operator have no type here.
    pub(super) fn errors(&self, resource: &Value) -> Vec<String> {
        let kind = resource["kind"].as_str().unwrap();
        let version = resource["apiVersion"].as_str().unwrap();
        if version.starts_with("monitoring.coreos.com/") {
            return Vec::new();
        }
        let is_it = |definition: &Value| {
            let kinds = definition["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| {
                kinds.iter().any(|found| {
                    let [group, version_of, kind_of] =
                        ["group", "version", "kind"].map(|key| found[key].as_str().unwrap_or_default());
                    let full = if group.is_empty() {
                        version_of.to_owned()
                    } else {
                        format!("{group}/{version_of}")
                    };
                    kind_of == kind && full == version
                })
            })
        };
        let definitions = self.types["$defs"].as_object().unwrap();
        let (name, _) = definitions
            .iter()
            .find(|(_, definition)| is_it(definition))
            .unwrap_or_else(|| panic!("Kubernetes has no {version} {kind}"));
        let compile = || {
            let schema = json!({ "$ref": format!("#/$defs/{name}"), "$defs": self.types["$defs"] });
            Rc::new(jsonschema::draft202012::new(&schema).unwrap())
        };
        let validator = Rc::clone(self.compiled.borrow_mut().entry(name.clone()).or_insert_with(compile));
        validator
            .iter_errors(resource)
            .map(|error| format!("{kind}{}: {error}", error.instance_path()))
            .collect()
    }
}

#[test]
fn schema_rejects_unknown_field_and_wrong_type() {
    let kubernetes = Kubernetes::read();
    let service = |port: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [port]}});
    assert!(kubernetes.errors(&service(json!({"port": 9917}))).is_empty());
    for port in [json!({"port": "9917"}), json!({"port": 9917, "targetport": 1}), json!({})] {
        assert!(!kubernetes.errors(&service(port.clone())).is_empty(), "{port}");
    }
}
