//! The systemd unit of the packages.

use std::process::Command;

use super::output;

/// The highest exposure that is accepted, of at most 10: `systemd-analyze security` rates the unit.
const EXPOSURE: f64 = 1.5;

/// Without systemd's own program, which a minimal system lacks, there is nothing to rate the unit with.
#[test]
fn unit_is_hardened() {
    let unit = testkit::workspace().join("packaging/systemd/txnscope.service");
    let arguments = ["security", "--offline=true", "--no-pager"];
    let Ok(rated) = Command::new("systemd-analyze").args(arguments).arg(&unit).output() else { return };
    let text = String::from_utf8_lossy(&rated.stdout);
    let level = text.split("Overall exposure level for txnscope.service: ").nth(1);
    let level = level.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&rated.stderr)));
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE, "{level}: {text}");
}

/// systemd itself reads the unit, with a program that exists here instead of the packaged one.
#[test]
fn unit_has_no_unknown_key_and_no_invalid_value() {
    let unit =
        std::fs::read_to_string(testkit::workspace().join("packaging/systemd/txnscope.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let verify = |text: &str| {
        let file = folder.path().join("txnscope.service");
        std::fs::write(&file, text.replace("/usr/bin/txnscope", "/bin/sh")).unwrap();
        let verified =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(file).output().ok()?;
        Some(String::from_utf8_lossy(&verified.stderr).into_owned())
    };
    let Some(complaints) = verify(&unit) else { return };
    assert!(!complaints.contains("txnscope.service"), "{complaints}");
    let wrong = unit.replace("ProtectHome=yes", "ProtectHome=perhaps\nProtectHouse=yes");
    let complaints = verify(&wrong).unwrap();
    assert!(complaints.contains("perhaps") && complaints.contains("ProtectHouse"), "{complaints}");
}

#[test]
fn unit_notifies_and_has_a_watchdog() {
    let unit =
        std::fs::read_to_string(testkit::workspace().join("packaging/systemd/txnscope.service")).unwrap();
    for line in ["Type=notify", "WatchdogSec=30s", "User=txnscope", "ExecReload=/bin/kill -HUP $MAINPID"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}

/// `kubectl kustomize` adds the container to a StatefulSet of mongod.
#[test]
fn kustomize_component_adds_the_sidecar_to_a_stateful_set() {
    let folder = testkit::workspace().join("packaging/kubernetes/mongod-sidecar");
    let example = tempfile::tempdir_in(testkit::workspace().join("target")).unwrap();
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: { name: mongod }\nspec:\n  serviceName: mongod\n  selector: \
               { matchLabels: { app: mongod } }\n  template:\n    metadata: { labels: { app: mongod } }\n    spec:\n      \
               containers:\n        - { name: mongod, image: mongo }\n";
    std::fs::write(example.path().join("set.yaml"), set).unwrap();
    let relative = format!("../../{}", folder.strip_prefix(testkit::workspace()).unwrap().display());
    let kustomization = format!("resources: [set.yaml]\ncomponents: [{relative}]\n");
    std::fs::write(example.path().join("kustomization.yaml"), kustomization).unwrap();
    let mut kubectl = Command::new(testkit::workspace().join(".tools/kubectl"));
    let text = output(kubectl.arg("kustomize").arg(example.path())).unwrap();
    let made: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(super::kubernetes::Kubernetes::read().errors(&made), Vec::<String>::new());
    let containers = made["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let names: Vec<_> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"mongod") && names.contains(&"txnscope"), "{names:?}");
    let sidecar = containers.iter().find(|container| container["name"] == "txnscope").unwrap();
    assert_eq!(sidecar["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(
        sidecar["args"].to_string().contains("directConnection=true"),
        "a sidecar of one member polls that member"
    );
}
