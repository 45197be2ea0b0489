//! Tests of the container image: its settings, its size, and its root folder, read-only and without privileges.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::check_packages::isolated;
use super::{Build, image};
use crate::run::output;

/// The largest image, in bytes.
const LIMIT: u64 = 30_000_000;

pub(super) fn check(build: &Build) -> Result<()> {
    settings(build)?;
    run(build)?;
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
    if !config["Env"].to_string().contains("TXNSCOPE_WEB_LISTEN_ADDRESS=:9917") {
        bail!("the exporter would listen on 127.0.0.1 of the container: {config}");
    }
    Ok(())
}

/// Starts the container's command in its root folder, as an engine does with a read-only root and no capabilities, and runs the
/// health check.
fn run(build: &Build) -> Result<()> {
    let root = image::root(build);
    let (root, page, log) = (root.display(), build.stage.join("page"), build.stage.join("log"));
    let (page, log) = (page.display(), log.display());
    isolated(&format!(
        "mount --bind {root} {root}
        mount -o remount,bind,ro,nosuid,nodev {root}
        as_container=\"env -i PATH=$PATH TXNSCOPE_WEB_LISTEN_ADDRESS=:9917 MONGODB_URI=mongodb://127.0.0.1:27017/ \
         setpriv --no-new-privs chroot --userspec=65532:65532 --groups= {root} /usr/bin/txnscope\"
        $as_container serve >{log} 2>&1 &
        sidecar=$!
        scrape() {{
            bash -c 'exec 3<>/dev/tcp/127.0.0.1/9917; printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'
        }}
        tries=0
        until $as_container healthcheck && scrape >{page} && grep -q '^mongodb_up{{' {page}; do
            tries=$((tries + 1))
            kill -0 $sidecar && [ $tries -lt 600 ] || {{ cat {log} {page}; exit 1; }}
            sleep 0.1
        done
        kill $sidecar
        wait $sidecar"
    ))?;
    let log = fs::read_to_string(build.stage.join("log")).context("cannot read the log")?;
    if !log.contains("other machines can connect") {
        bail!("the log does not mention that other machines can connect:\n{log}");
    }
    Ok(())
}
