//! Grafana's own types (`dashboards/schema`), and proof that they are strict enough to find errors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::page::{Page, list, pages, text};

/// The fields of a Prometheus query.
const TARGET: &[&str] = &["datasource", "expr", "format", "instant", "legendFormat", "range", "refId"];

/// The fields that Prometheus adds to an annotation and that Grafana's type does not name.
const ANNOTATION: &[&str] = &["expr", "step", "tagKeys", "target", "textFormat", "titleFormat"];
const ANNOTATION_TYPE: &[&str] = &["datasource", "enable", "iconColor", "name"];

/// Standard properties, which all panels have.
const PROPERTIES: &[&str] = &["color", "decimals", "links", "mappings", "max", "min", "thresholds", "unit"];

/// Grafana's types, with a cache of compiled ones, because compiling takes longer than validating.
struct Grafana {
    types: Value,
    made: RefCell<BTreeMap<String, Rc<Validator>>>,
}

impl Grafana {
    fn read() -> Self {
        let file = testkit::workspace().join("dashboards/schema/grafana.json");
        let types = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        Self { types, made: RefCell::default() }
    }

    /// The type at that path of the schema.
    fn of(&self, pointer: &str) -> Option<Rc<Validator>> {
        self.types.pointer(pointer)?;
        let make = || {
            let mut root = self.types.clone();
            for key in ["type", "additionalProperties"] {
                root.as_object_mut().unwrap().remove(key);
            }
            root["$ref"] = format!("#{pointer}").into();
            Rc::new(jsonschema::draft7::new(&root).unwrap())
        };
        Some(Rc::clone(self.made.borrow_mut().entry(pointer.to_owned()).or_insert_with(make)))
    }

    /// All validation errors of a dashboard.
    fn complaints(&self, page: &Page) -> Vec<String> {
        let mut wrong = Vec::new();
        let (nothing, target) = (Rc::new(nothing()), only(TARGET));
        let mut check = |place: &str, validator: &Validator, value: &Value| {
            wrong.extend(
                validator
                    .iter_errors(value)
                    .map(|error| format!("{place}{}: {error}", error.instance_path())),
            );
        };
        let mut shell = page.json.clone();
        shell["panels"] = json!([]);
        check(&page.uid, &self.of("/properties/dashboard").unwrap(), &shell);
        let (row, panel) = (self.of("/properties/row").unwrap(), self.of("/properties/panel").unwrap());
        for item in page.boxes() {
            let place = format!("{}: {}", page.uid, text(&item["title"]));
            if item["type"] == "row" {
                check(&place, &row, item);
                continue;
            }
            check(&place, &panel, item);
            let kind = text(&item["type"]);
            let part = |part: &str| self.of(&format!("/properties/{kind}/properties/{part}"));
            match part("options") {
                Some(options) => check(&place, &options, &item["options"]),
                None => check(&place, &nothing, &item["type"]),
            }
            let custom = part("custom").unwrap_or_else(|| Rc::clone(&nothing));
            let defaults = self.of("/definitions/FieldConfig").unwrap();
            check(&place, &custom, item["fieldConfig"]["defaults"].get("custom").unwrap_or(&json!({})));
            for property in list(&item["fieldConfig"]["overrides"]).flat_map(|each| list(&each["properties"]))
            {
                let id = text(&property["id"]);
                let place = format!("{place}: override {id}");
                match id.split_once('.') {
                    Some(("custom", name)) => check(&place, &custom, &json!({name: property["value"]})),
                    _ if PROPERTIES.contains(&id) => {
                        check(&place, &defaults, &json!({id: property["value"]}))
                    }
                    _ => check(&place, &nothing, &property["id"]),
                }
            }
            for query in list(&item["targets"]) {
                check(&place, &target, query);
            }
        }
        for annotation in page.annotations() {
            check(&page.uid, &only(&[ANNOTATION, ANNOTATION_TYPE].concat()), annotation);
        }
        wrong
    }
}

/// The schema of an object with these members and no others.
fn only(names: &[&str]) -> Validator {
    let properties: serde_json::Map<_, _> = names.iter().map(|&name| (name.to_owned(), json!({}))).collect();
    jsonschema::draft7::new(&json!({"properties": properties, "additionalProperties": false})).unwrap()
}

/// The schema of an empty object.
fn nothing() -> Validator {
    jsonschema::draft7::new(&json!({"type": "object", "maxProperties": 0})).unwrap()
}

#[test]
fn dashboards_match_grafana_schema() {
    let grafana = Grafana::read();
    for page in pages() {
        let wrong = grafana.complaints(&page);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(page.json["schemaVersion"], 41, "newer ones are not known to Grafana 10 and 11");
        assert_eq!(page.json.get("id"), None, "an id is one Grafana's own");
    }
}

/// Dashboards with one error each, of a kind that occurs in practice.
#[test]
fn schema_check_rejects_unknown_fields() {
    let grafana = Grafana::read();
    type Mutation = (&'static str, fn(&mut Value));
    let mutations: &[Mutation] = &[
        ("an unknown key of the dashboard", |page| page["tittle"] = json!("x")),
        ("a wrong type of the dashboard", |page| page["schemaVersion"] = json!("41")),
        ("a wrong enum of the dashboard", |page| page["graphTooltip"] = json!(7)),
        ("an unknown key of a variable", |page| page["templating"]["list"][1]["multiple"] = json!(true)),
        ("a wrong enum of a variable", |page| page["templating"]["list"][1]["refresh"] = json!(9)),
        ("an unknown key of a link", |page| page["links"][0]["keepTimes"] = json!(true)),
        ("an unknown key of an annotation", |page| page["annotations"]["list"][0]["color"] = json!("red")),
        ("an unknown key of a row", |page| page["panels"][0]["colapsed"] = json!(true)),
        ("an unknown key of a panel", |page| panel(page, "stat")["span"] = json!(4)),
        ("a wrong type of a panel", |page| panel(page, "stat")["title"] = json!(4)),
        ("a wrong type of a place", |page| panel(page, "stat")["gridPos"]["w"] = json!("4")),
        ("an unknown kind of panel", |page| panel(page, "stat")["type"] = json!("singlestat")),
        ("an unknown option", |page| panel(page, "stat")["options"]["unknown"] = json!("value")),
        ("a wrong enum of an option", |page| panel(page, "stat")["options"]["colorMode"] = json!("text")),
        ("an option of another kind", |page| {
            panel(page, "timeseries")["options"]["graphMode"] = json!("area")
        }),
        ("a wrong enum of a legend", |page| {
            panel(page, "timeseries")["options"]["legend"]["displayMode"] = json!("tabular");
        }),
        ("a wrong type of a custom field", |page| {
            panel(page, "timeseries")["fieldConfig"]["defaults"]["custom"]["lineWidth"] = json!("1");
        }),
        ("an unknown custom field", |page| {
            panel(page, "timeseries")["fieldConfig"]["defaults"]["custom"]["lineWith"] = json!(1);
        }),
        ("a wrong threshold", |page| {
            panel(page, "stat")["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] = json!("0");
        }),
        ("a wrong mapping", |page| {
            panel(page, "state-timeline")["fieldConfig"]["defaults"]["mappings"][0]["options"]["0"]["unknown"] =
                json!("red");
        }),
        ("an unknown override", |page| {
            let of = &mut panel(page, "table")["fieldConfig"]["overrides"][0]["properties"][0];
            of["id"] = json!("units");
        }),
        ("a wrong value of an override", |page| {
            let of = &mut panel(page, "table")["fieldConfig"]["overrides"][0]["properties"][0];
            of["value"] = json!(4);
        }),
        ("an unknown key of a query", |page| panel(page, "stat")["targets"][0]["legend"] = json!("x")),
    ];
    for (what, mutate) in mutations {
        let mut page = pages().into_iter().next().unwrap();
        let before = page.json.clone();
        mutate(&mut page.json);
        assert_ne!(before, page.json, "{what}");
        assert!(!grafana.complaints(&page).is_empty(), "{what} is accepted");
    }
}

/// The first panel of that type.
fn panel<'a>(page: &'a mut Value, kind: &str) -> &'a mut Value {
    let mut panels = page["panels"].as_array_mut().unwrap().iter_mut();
    panels.find(|panel| panel["type"] == kind).unwrap()
}
