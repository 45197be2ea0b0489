//! The packages for Debian and RPM, built by nfpm from `packaging/nfpm.yaml`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Build, VERSION, program};
use crate::fetch::{self, cargo_tools};
use crate::run::output;

pub(super) fn deb(build: &Build) -> Result<()> {
    changelog(build)?;
    nfpm(build, "deb", VERSION, &build.out.join(deb_name(build)?))
}

pub(super) fn rpm(build: &Build) -> Result<()> {
    nfpm(build, "rpm", VERSION, &build.out.join(rpm_name(build)?))
}

pub(super) fn deb_name(build: &Build) -> Result<String> {
    Ok(format!("txnscope_{VERSION}_{}.deb", build.architecture()?.0))
}

pub(super) fn rpm_name(build: &Build) -> Result<String> {
    Ok(format!("txnscope-{VERSION}-1.{}.rpm", build.architecture()?.1))
}

pub(super) fn nfpm(build: &Build, kind: &str, version: &str, file: &Path) -> Result<()> {
    let mut configuration = fs::read_to_string(crate::root().join("packaging/nfpm.yaml"))
        .context("cannot read packaging/nfpm.yaml")?;
    configuration = configuration.replace("target/package-dist/stage", &build.stage.display().to_string());
    if build.quick {
        // nfpm's compression of a program without optimization takes ten seconds.
        configuration.push_str("deb:\n  compression: none\n");
    }
    let written = build.stage.join("nfpm.yaml");
    fs::write(&written, configuration).context("cannot write a configuration for nfpm")?;
    output(
        Command::new(fetch::cargo_tool(&cargo_tools::NFPM)?)
            .current_dir(crate::root())
            .env("PACKAGE_ARCH", build.architecture()?.0)
            .env("PACKAGE_VERSION", version)
            .env("PACKAGE_GLIBC", program::glibc(build)?)
            .env("SOURCE_DATE_EPOCH", &build.time)
            .args(["package", "--packager", kind, "--config"])
            .arg(written)
            .arg("--target")
            .arg(file),
    )?;
    Ok(())
}

/// Debian's changelog refers to that of the repository, which has another format.
fn changelog(build: &Build) -> Result<()> {
    let date =
        output(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{}", build.time)]))?;
    let text = format!(
        "txnscope ({VERSION}) stable; urgency=medium\n\n  * The changes are listed in\n    \
         https://github.com/txnscope/txnscope/blob/v{VERSION}/CHANGELOG.md\n\n \
         -- The txnscope authors <txnscope@users.noreply.github.com>  {}\n",
        date.trim()
    );
    let file = fs::File::create(build.stage.join("changelog.gz")).context("cannot create the changelog")?;
    let mut gzip = Command::new("gzip")
        .arg("-9n")
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .context("cannot run gzip")?;
    gzip.stdin.take().context("gzip has no input")?.write_all(text.as_bytes())?;
    if !gzip.wait()?.success() {
        bail!("gzip failed");
    }
    Ok(())
}
