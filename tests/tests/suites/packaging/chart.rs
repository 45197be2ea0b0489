//! The Helm chart, rendered by the real Helm.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::chart_values::{combinations, refused};
use super::kubernetes::Kubernetes;
use super::{groups, output};

const FILES: [&str; 6] = ["consistency", "mongodb", "objectives", "recording", "transactions", "txnscope"];

fn helm(arguments: &[&str]) -> Command {
    let mut command = Command::new(testkit::workspace().join(".tools/helm"));
    command.current_dir(testkit::workspace().join("packaging/helm")).args(arguments);
    command
}

/// Renders the chart as the release `shop` in the namespace `monitoring`.
fn render(values: &Value) -> Result<Vec<Value>, String> {
    render_as("shop", "monitoring", values)
}

/// Renders the chart. A key that is twice in a map is an error.
fn render_as(release: &str, namespace: &str, values: &Value) -> Result<Vec<Value>, String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    let namespace = format!("--namespace={namespace}");
    let text = output(helm(&["template", release, "txnscope", &namespace, "--values"]).arg(file))?;
    let documents = text.split("\n---\n").filter(|document| document.contains("kind:"));
    Ok(documents
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"))
        })
        .collect())
}

fn find<'a>(resources: &'a [Value], kind: &str) -> &'a Value {
    resources.iter().find(|resource| resource["kind"] == kind).unwrap_or_else(|| panic!("there is no {kind}"))
}

#[test]
fn lint_reports_nothing_to_correct() {
    let text =
        output(&mut helm(&["lint", "txnscope", "--strict", "--set=mongodb.uri=mongodb://db/"])).unwrap();
    assert!(text.contains("0 chart(s) failed") && !text.contains("[WARNING]"), "{text}");
}

#[test]
fn every_combination_of_values_is_valid_and_restricted() {
    let kubernetes = Kubernetes::read();
    let combinations = combinations();
    assert!(combinations.len() >= 20);
    for (name, values) in combinations {
        let resources = render(&values).unwrap_or_else(|error| panic!("{name}: {error}"));
        for resource in &resources {
            let errors = kubernetes.errors(resource);
            assert!(errors.is_empty(), "{name}: {errors:#?}");
            assert_eq!(resource["metadata"]["namespace"], "monitoring", "{name}");
        }
        let deployment = &find(&resources, "Deployment")["spec"];
        selects_its_pod(name, deployment);
        let pod = &deployment["template"]["spec"];
        let container = &pod["containers"][0];
        // The restricted profile of the pod security standards.
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL", "{name}");
        // And more than it requires.
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            let mode = &volume["secret"]["defaultMode"];
            assert!(volume.get("secret").is_none() || mode == 0o440, "{name}: {volume}");
        }
    }
}

/// The selector of a Deployment cannot change: an upgrade with another one, such as one with a version, would fail.
fn selects_its_pod(name: &str, deployment: &Value) {
    let selector = deployment["selector"]["matchLabels"].as_object().unwrap();
    let keys: Vec<_> = selector.keys().collect();
    assert_eq!(keys, ["app.kubernetes.io/instance", "app.kubernetes.io/name"], "{name}");
    let labels = &deployment["template"]["metadata"]["labels"];
    assert!(selector.iter().all(|(key, value)| &labels[key] == value), "{name}: {labels}");
}

#[test]
fn every_volume_is_mounted_and_named_by_an_argument() {
    for (name, values) in combinations() {
        let resources = render(&values).unwrap();
        let pod = &find(&resources, "Deployment")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let names = |list: &Value| -> Vec<String> {
            let list = list.as_array().into_iter().flatten();
            list.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&pod["volumes"]), names(&container["volumeMounts"]), "{name}");
        let arguments = container["args"].to_string() + values["mongodb"]["uri"].as_str().unwrap_or_default();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let path = mount["mountPath"].as_str().unwrap();
            // The URI names the files of its TLS, which only the user knows.
            assert!(arguments.contains(path) || path.ends_with("/tls"), "{name}: {path}");
        }
    }
}

#[test]
fn monitors_and_network_policy_select_the_pod_and_its_port() {
    let all = combinations();
    let (_, values) = all.iter().find(|(name, _)| *name == "everything").unwrap();
    for (kind, endpoints) in [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")] {
        let mut values = values.clone();
        values["monitor"]["kind"] = if kind == "PodMonitor" { "pod".into() } else { "service".into() };
        let resources = render(&values).unwrap();
        let deployment = find(&resources, "Deployment");
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0];
        let monitor = find(&resources, kind);
        let endpoint = &monitor["spec"][endpoints][0];
        assert_eq!(endpoint["port"], ports["name"]);
        let labeled = endpoint["relabelings"].to_string();
        assert!(
            ["\"txnscope\"", "\"eu\"", "\"shop\""].iter().all(|value| labeled.contains(value)),
            "{labeled}"
        );
        let selectors = [
            &monitor["spec"]["selector"]["matchLabels"],
            &find(&resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
            &find(&resources, "Service")["spec"]["selector"],
            &deployment["spec"]["selector"]["matchLabels"],
        ];
        for selector in selectors {
            let selector = selector.as_object().unwrap();
            assert!(!selector.is_empty() && selector.iter().all(|(name, value)| &labels[name] == value));
        }
        assert_eq!(
            find(&resources, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"],
            ports["name"]
        );
    }
}

#[test]
fn further_labels_and_settings_replace_those_of_the_chart() {
    let all = combinations();
    let (_, values) = all.iter().find(|(name, _)| *name == "keys that the chart sets as well").unwrap();
    let resources = render(values).unwrap();
    let metadata = &find(&resources, "Deployment")["spec"]["template"]["metadata"];
    assert_eq!(metadata["annotations"]["prometheus.io/scrape"], "false");
    assert_eq!(metadata["labels"]["a.b/c.d"], "e");
    let rule = find(&resources, "PrometheusRule");
    assert_eq!(rule["metadata"]["labels"]["app.kubernetes.io/instance"], "kube-prometheus");
    for kind in ["service", "pod"] {
        let mut values = values.clone();
        values["monitor"]["kind"] = kind.into();
        let resources = render(&values).unwrap();
        let (kind, endpoints) = match kind {
            "pod" => ("PodMonitor", "podMetricsEndpoints"),
            _ => ("ServiceMonitor", "endpoints"),
        };
        let endpoint = &find(&resources, kind)["spec"][endpoints][0];
        assert_eq!((&endpoint["interval"], &endpoint["scrapeTimeout"]), (&"5s".into(), &"4s".into()));
    }
}

/// A preview of a pull request is often named after its number, or after a commit such as 1e10.
#[test]
fn release_and_namespace_can_have_any_name_that_helm_allows() {
    let kubernetes = Kubernetes::read();
    let values = combinations().into_iter().find(|(name, _)| *name == "everything").unwrap().1;
    let mut plain = values.clone();
    for name in ["nameOverride", "fullnameOverride"] {
        plain[name] = "".into();
    }
    let long = format!("a{}", ".b".repeat(26));
    for (release, namespace) in [("1e10", "123"), ("shop.v1.2", "0x1f"), (&long, "on"), ("txnscope", "1e3")] {
        for resource in render_as(release, namespace, &plain).unwrap_or_else(|error| panic!("{error}")) {
            let errors = kubernetes.errors(&resource);
            assert!(errors.is_empty(), "{release}: {errors:#?}");
            assert_eq!(resource["metadata"]["namespace"], namespace);
            let name = resource["metadata"]["name"].as_str().unwrap();
            let is_label = |name: &str| {
                name.len() <= 63
                    && !name.starts_with('-')
                    && !name.ends_with('-')
                    && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            };
            // That of a ConfigMap can be longer.
            assert!(is_label(name) || resource["kind"] == "ConfigMap", "{release}: {name}");
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{release}: {name}");
            for (key, value) in resource["metadata"]["labels"].as_object().unwrap() {
                assert!(value.as_str().unwrap().len() <= 63, "{release}: {key}");
            }
        }
    }
}

#[test]
fn refused_values_are_explained_and_not_repeated() {
    for (values, expected) in refused() {
        let error = render(&values).expect_err(expected);
        assert!(error.contains(expected) && !error.contains("hunter2"), "{values}: {error}");
    }
}

/// Equal rules have equal tests: promtool runs those of `alerts/tests` on the files.
#[tokio::test]
async fn rules_are_those_of_the_repository() {
    let rules = |name: &str| {
        let values = combinations().into_iter().find(|(found, _)| *found == name).unwrap().1;
        find(&render(&values).unwrap(), "PrometheusRule")["spec"].clone()
    };
    assert_eq!(rules("rules")["groups"].as_array().unwrap(), &groups(&FILES));

    let changed = rules("objectives");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.yml");
    // YAML includes JSON.
    std::fs::write(&file, changed.to_string()).unwrap();
    testkit::promtool::check_rules(&[file]).await.unwrap();
    let expressions = |record: &str| -> Vec<(Value, Value)> {
        let groups = changed["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .filter(|rule| rule["record"] == record)
            .map(|rule| (rule["expr"].clone(), rule["labels"].clone()))
            .collect()
    };
    assert_eq!(expressions("txnscope:objective:success_ratio")[0].0, "vector(0.999)");
    assert_eq!(expressions("txnscope:threshold:concurrent_operations")[0].0, "vector(45)");
    let jobs: Vec<_> =
        expressions("txnscope:expected:job").into_iter().map(|(_, labels)| labels["job"].clone()).collect();
    assert_eq!(jobs, ["shop", "txnscope"]);
}

#[test]
fn dashboards_are_those_of_the_repository() {
    let values = combinations().into_iter().find(|(name, _)| *name == "dashboards").unwrap().1;
    let resources = render(&values).unwrap();
    let mut found = 0;
    for map in resources.iter().filter(|resource| resource["metadata"]["labels"]["grafana_dashboard"] == "1")
    {
        for (name, text) in map["data"].as_object().unwrap() {
            let file = testkit::workspace().join("dashboards").join(name);
            assert_eq!(text.as_str().unwrap(), std::fs::read_to_string(file).unwrap(), "{name}");
            // The limit of a ConfigMap.
            assert!(text.as_str().unwrap().len() < 1 << 20, "{name}");
            found += 1;
        }
    }
    assert_eq!(found, 5);
}
