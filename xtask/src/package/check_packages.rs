//! Tests of the packages: Debian's in a minimal Debian, RPM's in an empty root.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Build, VERSION, packages};
use crate::bare;
use crate::run::{checked, output};

/// What happens in the minimal Debian.
const SCRIPT: &str = include_str!("debian.sh");

/// Lints the package, and installs, starts, upgrades and purges it. Needs root.
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
    fs::write(root.join("tmp/check.sh"), SCRIPT).context("cannot write a script")?;
    let inside =
        "PACKAGE=/tmp/package.deb UPGRADE=/tmp/upgrade.deb DEBIAN_FRONTEND=noninteractive sh /tmp/check.sh";
    isolated(&format!(
        "mount -t proc proc {0}/proc && exec chroot {0} /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {inside}",
        root.display()
    ))
}

/// Runs a shell command in namespaces of its own: its mounts and processes end with it, and its ports are no others'.
pub(super) fn isolated(line: &str) -> Result<()> {
    let script = format!("set -e; ip link set lo up; {line}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c"]).arg(script);
    checked(&mut command).context("this needs root, util-linux and iproute2")
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
    let configuration =
        output(Command::new("rpm").args(["--query", "--configfiles", "--package"]).arg(&package))?;
    if configuration.trim() != "/etc/txnscope/txnscope.toml" {
        bail!("an upgrade would replace the configuration: {configuration}");
    }
    for script in ["post", "preun", "postun"] {
        let file = crate::root().join("packaging/rpm").join(script);
        output(Command::new("sh").arg("-n").arg(file))?;
    }
    rpm(&["--erase", "--nodeps", "--noscripts"], Path::new("txnscope"))?;
    if ["usr/bin/txnscope", "usr/share/licenses/txnscope", "etc/txnscope"]
        .iter()
        .any(|name| root.join(name).exists())
    {
        bail!("the package left files after it was erased");
    }
    Ok(())
}
