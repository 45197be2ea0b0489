//! Combinations of values, which the chart is rendered with. Each is JSON, as in a values file.

use serde_json::{Value, json};

/// All valid combinations, each with its name.
pub(super) fn combinations() -> Vec<(&'static str, Value)> {
    let uri = "mongodb://db-0.db,db-1.db,db-2.db/?replicaSet=rs0";
    let mut all = vec![
        ("URI", json!({"mongodb": {"uri": uri}})),
        ("URI of DNS", json!({"mongodb": {"uri": "mongodb+srv://cluster.example.net/"}})),
        ("secret with URI", json!({"mongodb": {"uriSecret": {"name": "shop", "key": "connection"}}})),
        (
            "password",
            json!({"mongodb": {"uri": uri, "username": "txnscope", "passwordSecret": {"name": "shop"}}}),
        ),
        ("TLS to MongoDB", json!({"mongodb": {"uri": format!("{uri}&tls=true"), "tlsSecret": "mongodb-ca"}})),
        (
            "configuration",
            json!({"config": "[mongodb]\nuri = [\"mongodb://db/\"]\n[poll]\ninterval = \"10s\"\n"}),
        ),
        ("targets", json!({"config": "[targets.shop]\nuri = \"mongodb://db/\"\n"})),
        ("collectors", json!({"config": "[collector]\nslow_transactions = { enabled = true }\n"})),
        ("checks", json!({"checks": "[[checks]]\nname = \"a\\\"b\"\n"})),
        ("web configuration", json!({"webConfigSecret": "web"})),
        ("arguments", json!({"extraArgs": ["--log.level=debug"], "extraEnv": [{"name": "A", "value": "b"}]})),
        ("port", json!({"service": {"port": 12345}})),
        ("annotations", json!({"monitor": {"kind": "annotations"}})),
        (
            "ServiceMonitor",
            json!({"monitor": {"kind": "service", "labels": {"release": "prometheus"}, "cluster": "eu", "deployment": "shop"}}),
        ),
        (
            "PodMonitor with TLS",
            json!({"webConfigSecret": "web", "monitor": {"kind": "pod", "interval": "30s", "endpoint": {
                "scheme": "https", "tlsConfig": {"insecureSkipVerify": true}}}}),
        ),
        ("rules", json!({"prometheusRule": {"enabled": true, "labels": {"role": "alerts"}}})),
        (
            "objectives",
            json!({"prometheusRule": {"enabled": true, "objectives": {"success_ratio": 0.999, "concurrent_operations": 45},
                "jobs": [{"job": "shop", "kind": "backend"}, {"job": "txnscope", "kind": "sidecar"}]}}),
        ),
        (
            "dashboards",
            json!({"dashboards": {"enabled": true, "annotations": {"grafana_folder": "txnscope"}}}),
        ),
        (
            "network policy",
            json!({"networkPolicy": {"enabled": true, "from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
                "egress": [{"ports": [{"port": 27017, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}]}}),
        ),
        ("network policy of the cluster", json!({"networkPolicy": {"enabled": true}})),
        ("no service account", json!({"serviceAccount": {"create": false}})),
        ("image", json!({"image": {"digest": format!("sha256:{}", "0".repeat(64)), "pullPolicy": "Always"}})),
        (
            "placement",
            json!({"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}], "priorityClassName": "high",
                "affinity": {"nodeAffinity": {}}, "imagePullSecrets": [{"name": "registry"}], "resources": {},
                "podLabels": {"team": "shop"}, "podAnnotations": {"a": "b"}}),
        ),
        ("names", json!({"nameOverride": "exporter", "fullnameOverride": "a-name"})),
        // The release decides about `enabled` in a chart that depends on this one.
        ("dependency", json!({"enabled": true, "global": {"imageRegistry": "registry"}})),
        (
            "URI in a variable",
            json!({"mongodb": {}, "extraEnv": [{"name": "MONGODB_URI", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b.c"}}}]}),
        ),
        (
            "further files",
            json!({"extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
                "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/txnscope/ca/tls", "readOnly": true}]}),
        ),
        (
            "user by the cluster",
            json!({"podSecurityContext": {"runAsUser": null, "runAsGroup": null, "fsGroup": null}}),
        ),
        (
            "keys that the chart sets as well",
            json!({"podLabels": {"app.kubernetes.io/name": "a", "app.kubernetes.io/version": "1", "a.b/c.d": "e"},
                "podAnnotations": {"prometheus.io/scrape": "false"},
                "monitor": {"kind": "annotations", "labels": {"app.kubernetes.io/name": "a"}, "endpoint": {"interval": "5s", "scrapeTimeout": "4s"}},
                "prometheusRule": {"enabled": true, "labels": {"app.kubernetes.io/instance": "kube-prometheus"}},
                "dashboards": {"enabled": true, "labels": {"app.kubernetes.io/name": "grafana", "grafana_dashboard": "1"}}}),
        ),
        (
            "names that YAML reads as numbers",
            json!({"mongodb": {"uriSecret": {"name": "123", "key": "1.5"}, "username": "1e3", "passwordSecret": {"name": "0x1", "key": "on"},
                "tlsSecret": "1e5"}, "webConfigSecret": "7", "priorityClassName": "1", "nameOverride": "1",
                "serviceAccount": {"create": false, "name": "123"}}),
        ),
    ];
    for (_, values) in &mut all {
        let config = values["config"].as_str().unwrap_or_default();
        if values.get("mongodb").is_none() && !config.contains("mongodb://") {
            values["mongodb"] = json!({"uri": uri});
        }
    }
    // Everything at once.
    let mut every = json!({});
    for (_, values) in &all {
        merge(&mut every, values);
    }
    all.push(("everything", every));
    all
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Values that the chart refuses, each with a part of the message.
pub(super) fn refused() -> Vec<(Value, &'static str)> {
    let uri = json!({"uri": "mongodb://db/"});
    vec![
        (json!({}), "no deployment to export"),
        (json!({"mongodb": {"uri": "mongodb://user:hunter2@db/"}}), "contains a password"),
        (json!({"mongodb": {"uri": "http://db/"}}), "/mongodb/uri"),
        (json!({"mongodb": {"uri": "mongodb://db/", "username": "txnscope"}}), "mongodb.passwordSecret.name"),
        (
            json!({"config": "[mongodb]\nuri = [\"mongodb://user:hunter2@db/\"]\n"}),
            "config contains a password",
        ),
        (
            json!({"mongodb": uri, "config": "[mongodb]\npassword = \"hunter2\"\n"}),
            "config contains a password",
        ),
        (
            json!({"extraEnv": [{"name": "MONGODB_URI", "value": "mongodb://user:hunter2@db/"}]}),
            "valueFrom.secretKeyRef",
        ),
        (json!({"mongodb": uri, "extraEnv": [{"name": "A", "value": 5}]}), "/extraEnv/0/value"),
        (json!({"mongodb": uri, "nameOverride": "My exporter"}), "/nameOverride"),
        (json!({"mongodb": uri, "podSecurityContext": {"runAsUser": 0}}), "/podSecurityContext/runAsUser"),
        (json!({"mongodb": uri, "monitr": {}}), "monitr"),
        (json!({"mongodb": uri, "monitor": {"kind": "services"}}), "/monitor/kind"),
        (json!({"mongodb": uri, "service": {"port": 80}}), "/service/port"),
        (json!({"mongodb": uri, "image": {"digest": "latest"}}), "/image/digest"),
        (
            json!({"mongodb": uri, "prometheusRule": {"enabled": true, "objectives": {"unknown": 1}}}),
            "no objective",
        ),
        (
            json!({"mongodb": uri, "prometheusRule": {"jobs": [{"job": "a", "kind": "b"}]}}),
            "/prometheusRule/jobs",
        ),
    ]
}
