//! Tests of the container image: its settings, its size, and its root folder, read-only and without privileges.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::isolation::{Container, PORT};
use super::{Build, image};
use crate::run::output;

/// The largest image, in bytes.
const LIMIT: u64 = 30_000_000;

pub(super) fn contents(build: &Build) -> Result<()> {
    settings(build)?;
    let size = fs::metadata(build.artifact(&image::name(build)?)?)?.len();
    if size > LIMIT {
        bail!("the image has {size} bytes, and may have {LIMIT}");
    }
    Ok(())
}

/// The settings of the image, which an engine applies.
fn settings(build: &Build) -> Result<()> {
    let archive = build.artifact(&image::name(build)?)?;
    let read = |name: &str| -> Result<Value> {
        let text = output(Command::new("tar").arg("-xOf").arg(&archive).arg(name))?;
        serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))
    };
    let manifest = read("manifest.json")?;
    let config =
        read(manifest[0]["Config"].as_str().context("the image has no configuration")?)?["config"].clone();
    for (key, expected) in [
        ("User", json!("65532:65532")),
        ("Entrypoint", json!(["/usr/bin/txnscope"])),
        ("Cmd", json!(["serve"])),
    ] {
        if config[key] != expected {
            bail!("{key} is {}, and not {expected}", config[key]);
        }
    }
    if config["Healthcheck"]["Test"][2] != "healthcheck" {
        bail!("there is no health check: {config}");
    }
    if let Some(missing) = image::ENVIRONMENT.iter().find(|line| !config["Env"].to_string().contains(*line)) {
        bail!("{missing} is not set, and the exporter would listen on 127.0.0.1 of the container: {config}");
    }
    Ok(())
}

/// Starts the container's command, and runs the health check.
pub(super) fn install(build: &Build) -> Result<()> {
    let container = Container {
        arguments: vec!["serve".to_owned()],
        environment: vec![format!("MONGODB_URI=mongodb://127.0.0.1:{PORT}/")],
        files: Vec::new(),
        user: (65532, 65532, 65532),
        health: vec!["healthcheck".to_owned()],
        probe: "/-/healthy".to_owned(),
    };
    let log = container.run(build)?;
    if !log.contains("other machines can connect") {
        bail!("the log does not mention that other machines can connect:\n{log}");
    }
    Ok(())
}
