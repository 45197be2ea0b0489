//! The Helm chart, and plain manifests for those who do not use Helm.
//!
//! `tests/tests/suites/packaging` tests the chart; this tests what is packed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

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

pub(super) fn check(build: &Build) -> Result<()> {
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
    for expected in
        ["kind: Deployment", "kind: Service", "kind: ServiceAccount", "secretName: txnscope-mongodb"]
    {
        if !plain.contains(expected) {
            bail!("the manifests have no `{expected}`");
        }
    }
    if plain.to_lowercase().contains("helm") && !plain.starts_with(INTRODUCTION) {
        bail!("the manifests mention Helm");
    }
    container_command(build, &plain)
}

/// Runs the program with the arguments of the container, which must be valid. The files of the secret are made here.
fn container_command(build: &Build, manifests: &str) -> Result<()> {
    let secret = build.stage.join("uri");
    fs::write(&secret, "mongodb://127.0.0.1:27017/").context("cannot write a URI")?;
    let (_, arguments) = manifests.split_once("args:\n").context("the container has no arguments")?;
    let arguments = arguments.lines().map(str::trim).map_while(|line| line.strip_prefix("- "));
    let arguments =
        arguments.map(|text| text.replace("/etc/txnscope/uri/uri", &secret.display().to_string()));
    let arguments: Vec<_> = arguments.chain(["--check-config".to_owned()]).collect();
    output(Command::new(build.stage.join("txnscope")).args(&arguments))?;
    Ok(())
}
