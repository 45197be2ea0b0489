//! Tests of the packages: Debian's in a minimal Debian, RPM's in an empty root.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::isolation::{FUNCTIONS, exported, isolated};
use super::{Build, VERSION, packages};
use crate::bare;
use crate::run::output;

/// What happens in the minimal Debian.
const SCRIPT: &str = include_str!("debian.sh");

/// Lints the package, and installs, configures, starts, upgrades and purges it. Needs root.
pub(super) fn deb(build: &Build) -> Result<()> {
    let package = build.artifact(&packages::deb_name(build)?)?;
    output(Command::new("lintian").args(["--allow-root", "--fail-on=error,warning"]).arg(&package))
        .context("lintian has complaints, or is not installed: apt-get install lintian")?;
    let root = build.stage.join("debian");
    output(
        Command::new("debootstrap")
            .args([
                "--variant=minbase",
                "--include=systemd-standalone-sysusers,init-system-helpers",
                bare::SUITE,
            ])
            .arg(&root)
            .args(bare::mirror()),
    )
    .context("a minimal Debian is made by root, with debootstrap: apt-get install debootstrap")?;
    let upgrade = build.stage.join("upgrade.deb");
    packages::nfpm(build, "deb", &format!("{VERSION}+upgrade"), &upgrade)?;
    for (file, name) in [(package.as_path(), "package.deb"), (&upgrade, "upgrade.deb")] {
        fs::copy(file, root.join("tmp").join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    fs::write(root.join("tmp/check.sh"), [FUNCTIONS, SCRIPT].concat()).context("cannot write a script")?;
    let inside = format!(
        "PACKAGE=/tmp/package.deb UPGRADE=/tmp/upgrade.deb EXPORTED='{}' DEBIAN_FRONTEND=noninteractive sh /tmp/check.sh",
        exported(build)?
    );
    let root = root.display();
    let script = format!(
        "mount -t proc proc {root}/proc
        exec chroot {root} /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {inside}"
    );
    isolated(build, &script)
}

/// Installs, verifies and erases the package in an empty root, without its scripts, which need systemd.
pub(super) fn rpm(build: &Build) -> Result<()> {
    let package = build.artifact(&packages::rpm_name(build)?)?;
    let root = build.stage.join("rpm");
    fs::create_dir_all(&root).context("cannot create a folder")?;
    let rpm = |arguments: &[&str], last: &Path| {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(&root).args(arguments).arg(last);
        output(&mut command).context("rpm installs the package: apt-get install rpm")
    };
    rpm(&["--install", "--nodeps", "--noscripts", "--ignorearch"], &package)?;
    for file in ["usr/bin/txnscope", "etc/txnscope/txnscope.toml", "usr/lib/systemd/system/txnscope.service"]
    {
        if !root.join(file).is_file() {
            bail!("the package did not install /{file}");
        }
    }
    rpm(&["--verify", "--nodeps"], Path::new("txnscope"))?;
    rpm(&["--erase", "--nodeps", "--noscripts"], Path::new("txnscope"))?;
    if ["usr/bin/txnscope", "usr/share/licenses/txnscope", "etc/txnscope"]
        .iter()
        .any(|name| root.join(name).exists())
    {
        bail!("the package left files after it was erased");
    }
    Ok(())
}
