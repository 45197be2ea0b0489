//! The rules and dashboards of a release, for those who have no copy of the repository.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Build, VERSION, copy};
use crate::fetch;
use crate::run::output;

const DASHBOARDS: [&str; 5] = ["overview", "operation", "server", "consistency", "self"];
const RULES: [&str; 6] = ["objectives", "recording", "transactions", "mongodb", "consistency", "txnscope"];

fn name() -> String {
    format!("txnscope-{VERSION}-monitoring")
}

/// Rules, Alertmanager's routes, and dashboards; the folder `grafana-com` has the dashboards as grafana.com publishes them.
pub(super) fn monitoring(build: &Build) -> Result<()> {
    let folder = build.stage.join(name());
    for below in ["alerts/rules", "dashboards", "grafana-com"] {
        fs::create_dir_all(folder.join(below)).with_context(|| format!("cannot create {below}"))?;
    }
    for rules in RULES {
        copy(&format!("alerts/rules/{rules}.yml"), &folder.join("alerts/rules"))?;
    }
    copy("alerts/alertmanager.yml", &folder.join("alerts"))?;
    copy("alerts/README.md", &folder.join("alerts"))?;
    for uid in DASHBOARDS {
        copy(&format!("dashboards/txnscope-{uid}.json"), &folder.join("dashboards"))?;
        let published = publish(uid)?;
        fs::write(folder.join(format!("grafana-com/txnscope-{uid}.json")), published)
            .with_context(|| format!("cannot write the dashboard {uid}"))?;
    }
    build.archive(&format!("{}.tar.gz", name()), &build.stage, &name())
}

/// The dashboard as grafana.com publishes it.
fn publish(uid: &str) -> Result<String> {
    const EVALUATE: &str =
        "import _jsonnet, sys; print(_jsonnet.evaluate_snippet('package', sys.argv[1]), end='')";
    let snippet = format!("(import 'packaging/mixin/grafana-com.libsonnet')['txnscope-{uid}.json']");
    let mut python = Command::new("python3");
    python.current_dir(crate::root()).env("PYTHONPATH", fetch::jsonnet()?).args(["-c", EVALUATE, &snippet]);
    output(&mut python)
}

pub(super) fn contents(build: &Build) -> Result<()> {
    let archive = build.artifact(&format!("{}.tar.gz", name()))?;
    let listed = output(Command::new("tar").arg("-tzf").arg(archive))?;
    let files = listed.lines().filter(|line| !line.ends_with('/')).count();
    if files != RULES.len() + 2 * DASHBOARDS.len() + 2 {
        bail!("the archive has {files} files:\n{listed}");
    }
    Ok(())
}
