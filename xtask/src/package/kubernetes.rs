//! The Helm chart, and plain manifests for those who do not use Helm.
//!
//! `tests/tests/suites/packaging` tests the chart; this tests what is packed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::isolation::{Container, MountedFile, PORT};
use super::{Build, VERSION};
use crate::fetch;
use crate::run::output;

/// The values of the plain manifests: a secret with the URI, which the user creates.
const PLAIN: &[&str] = &["--set=mongodb.uriSecret.name=txnscope-mongodb", "--set=monitor.kind=annotations"];

/// What begins the plain manifests.
const INTRODUCTION: &str = "# txnscope without Helm:\n#\n#   kubectl create secret generic txnscope-mongodb --from-file=uri=FILE\n\
                            #   kubectl apply --filename THIS-FILE\n#\n# FILE contains the URI, with its user and password.\n";

pub(super) fn make(build: &Build) -> Result<()> {
    let helm = fetch::helm()?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&helm);
        output(command.current_dir(crate::root().join("packaging/helm")).args(arguments))
    };
    run(&[
        "package",
        "txnscope",
        "--version",
        VERSION,
        "--app-version",
        VERSION,
        "--destination",
        &build.out.display().to_string(),
    ])?;
    let chart = build.artifact(&format!("txnscope-{VERSION}.tgz"))?.display().to_string();
    let text = run(&[&["template", "txnscope", &chart, "--namespace=default"], PLAIN].concat())?;
    let lines =
        text.lines().filter(|line| !line.starts_with("# Source:") && !line.contains("helm.sh/chart:"));
    let lines = lines.map(|line| line.replace("managed-by: Helm", "managed-by: kubectl"));
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    fs::write(build.out.join(format!("txnscope-{VERSION}-kubernetes.yaml")), format!("{INTRODUCTION}{text}"))
        .context("cannot write the manifests")
}

pub(super) fn contents(build: &Build) -> Result<()> {
    let chart = build.artifact(&format!("txnscope-{VERSION}.tgz"))?;
    let listed = output(Command::new("tar").arg("-tzf").arg(&chart))?;
    for (pattern, number) in
        [("files/rules/", 6), ("files/dashboards/txnscope-", 5), ("values.schema.json", 1)]
    {
        let found = listed.lines().filter(|line| line.contains(pattern)).count();
        if found != number {
            bail!("the chart has {found} files {pattern}, and not {number}");
        }
    }
    if let Some(other) = listed.lines().find(|line| line.contains("dashboards/") && !line.ends_with(".json"))
    {
        bail!("the chart contains {other}");
    }
    let helm = fetch::helm()?;
    output(Command::new(helm).args(["lint", "--strict", "--set=mongodb.uri=mongodb://db/"]).arg(&chart))?;
    let plain = fs::read_to_string(build.artifact(&format!("txnscope-{VERSION}-kubernetes.yaml"))?)?;
    for expected in ["kind: Deployment", "kind: Service", "kind: ServiceAccount"] {
        if !plain.contains(expected) {
            bail!("the manifests have no `{expected}`");
        }
    }
    if plain.to_lowercase().contains("helm") && !plain.starts_with(INTRODUCTION) {
        bail!("the manifests mention Helm");
    }
    // The program accepts the arguments, as it does in a container.
    container(&plain)?.check_arguments(build)
}

/// Starts the container of the plain manifests.
pub(super) fn install(build: &Build) -> Result<()> {
    let plain = fs::read_to_string(build.artifact(&format!("txnscope-{VERSION}-kubernetes.yaml"))?)?;
    container(&plain)?.run(build)?;
    Ok(())
}

/// The container of the manifests, as a kubelet starts it. The files of the secret are made here.
fn container(manifests: &str) -> Result<Container> {
    let resources = manifests.split("\n---\n").filter(|document| document.contains("kind: Deployment"));
    let resources: Vec<Value> = resources.map(serde_saphyr::from_str).collect::<Result<_, _>>()?;
    let [deployment] = &resources[..] else { bail!("there are {} Deployments", resources.len()) };
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let secret = &pod["volumes"][0];
    let mount = &container["volumeMounts"][0];
    if secret["secret"]["secretName"] != "txnscope-mongodb" || mount["name"] != secret["name"] {
        bail!("the secret is not mounted: {pod}");
    }
    let text =
        |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"));
    let number = |value: &Value| value.as_u64().with_context(|| format!("{value} is no number"));
    let arguments = container["args"].as_array().context("the container has no arguments")?;
    let context = &pod["securityContext"];
    Ok(Container {
        arguments: arguments.iter().map(text).collect::<Result<_>>()?,
        environment: Vec::new(),
        files: vec![MountedFile {
            path: format!("{}/uri", text(&mount["mountPath"])?),
            text: format!("mongodb://127.0.0.1:{PORT}/\n"),
            mode: number(&secret["secret"]["defaultMode"])?,
        }],
        user: (number(&context["runAsUser"])?, number(&context["runAsGroup"])?, number(&context["fsGroup"])?),
        health: ["healthcheck", "--web.listen-address=:9917"].map(str::to_owned).to_vec(),
        probe: text(&container["livenessProbe"]["httpGet"]["path"])?,
    })
}
