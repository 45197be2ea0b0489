//! The monitoring mixin, rendered by the real jsonnet.

use std::process::Command;

use serde_json::Value;

use super::{groups, output};

/// jsonnet is a Python package; its program is only in other distributions of it.
const EVALUATE: &str = "import _jsonnet, sys; print(_jsonnet.evaluate_snippet('test', sys.argv[1]))";

fn jsonnet(snippet: &str) -> Result<Value, String> {
    let mut command = Command::new("python3");
    command.current_dir(testkit::workspace()).args(["-c", EVALUATE, snippet]);
    command
        .env("PYTHONPATH", testkit::workspace().join(".tools/jsonnet"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    output(&mut command).map(|text| serde_json::from_str(&text).unwrap())
}

fn mixin(config: &str, part: &str) -> Result<Value, String> {
    jsonnet(&format!("((import 'packaging/mixin/mixin.libsonnet') + {{ _config+:: {config} }}).{part}"))
}

#[test]
fn mixin_equals_the_rules_and_dashboards_of_the_repository() {
    let rules = mixin("{}", "prometheusRules.groups").unwrap();
    assert_eq!(rules.as_array().unwrap(), &groups(&["objectives", "recording"]));
    let alerts = mixin("{}", "prometheusAlerts.groups").unwrap();
    assert_eq!(alerts.as_array().unwrap(), &groups(&["transactions", "mongodb", "consistency", "txnscope"]));
    let dashboards = mixin("{}", "grafanaDashboards").unwrap();
    for (name, dashboard) in dashboards.as_object().unwrap() {
        let text = std::fs::read_to_string(testkit::workspace().join("dashboards").join(name)).unwrap();
        assert_eq!(dashboard, &serde_json::from_str::<Value>(&text).unwrap(), "{name}");
    }
    assert_eq!(dashboards.as_object().unwrap().len(), 5);
}

#[test]
fn configuration_changes_objectives_jobs_and_links() {
    let config = "{ objectives: { success_ratio: 0.999 }, jobs: [{ job: 'shop', kind: 'backend' }],
                    grafanaUrl: 'https://grafana.example.net', runbookUrl: 'https://wiki.example.net' }";
    let rules = mixin(config, "prometheusRules.groups").unwrap();
    let rules = rules[0]["rules"].as_array().unwrap().clone();
    let objective = rules.iter().find(|rule| rule["record"] == "txnscope:objective:success_ratio").unwrap();
    assert_eq!(objective["expr"], "vector(0.999)");
    let jobs: Vec<_> = rules.iter().filter(|rule| rule["record"] == "txnscope:expected:job").collect();
    assert!(jobs.len() == 1 && jobs[0]["labels"]["job"] == "shop", "{jobs:?}");
    let alerts = mixin(config, "prometheusAlerts").unwrap().to_string();
    assert!(
        alerts.contains("https://grafana.example.net/d/") && alerts.contains("https://wiki.example.net/")
    );
    assert!(!alerts.contains("grafana.example.com") && !alerts.contains("blob/main/alerts/runbooks"));
}

#[test]
fn unknown_objective_is_an_error() {
    let error = mixin("{ objectives: { unknown_ratio: 1 } }", "prometheusRules").unwrap_err();
    assert!(error.contains("no objective or threshold unknown_ratio"), "{error}");
}

/// What an import from grafana.com asks for, and what it requires.
#[test]
fn published_dashboards_name_their_input_and_all_their_panels() {
    let dashboards = jsonnet("import 'packaging/mixin/grafana-com.libsonnet'").unwrap();
    for (name, dashboard) in dashboards.as_object().unwrap() {
        assert_eq!(dashboard["__inputs"][0]["pluginId"], "prometheus", "{name}");
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!(variable["current"]["value"], "${DS_PROMETHEUS}", "{name}");
        let required = dashboard["__requires"].to_string();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        for panel in panels
            .flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        {
            let kind = panel["type"].as_str().unwrap();
            assert!(
                kind == "row" || required.contains(&format!("\"{kind}\"")),
                "{name} does not require {kind}"
            );
        }
    }
    assert_eq!(dashboards.as_object().unwrap().len(), 5);
}
