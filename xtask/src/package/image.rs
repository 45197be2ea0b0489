//! The container image: its root folder, which contains no more than the program needs, and the archive of the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Build, VERSION, copy};
use crate::run::output;

/// The certificate authorities on Debian.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The container's user has a name, for error messages of the C library and of engines.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "txnscope:x:65532:65532:txnscope:/:/usr/sbin/nologin\n"),
    ("etc/group", "txnscope:x:65532:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

pub(super) fn name(build: &Build) -> Result<String> {
    Ok(format!("txnscope-{VERSION}-image-{}.tar", build.architecture()?.0))
}

/// The variables that the Containerfile sets.
pub(super) const ENVIRONMENT: [&str; 1] = ["TXNSCOPE_WEB_LISTEN_ADDRESS=:9917"];

/// The root folder of the image, which is made if it is missing.
pub(super) fn root(build: &Build) -> Result<PathBuf> {
    let root = build.stage.join("image/root");
    if !root.exists() {
        make_root(build, &root)?;
    }
    Ok(root)
}

pub(super) fn make(build: &Build) -> Result<()> {
    root(build)?;
    copy("packaging/container/Containerfile", &build.stage.join("image"))?;
    let tag = format!("ghcr.io/txnscope/txnscope:{VERSION}");
    let archive = build.out.join(name(build)?);
    let storage = build.stage.join("containers");
    // Without a daemon, a registry or a file system for layers.
    let buildah = || {
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver=vfs", "--root"])
            .arg(&storage)
            .arg("--runroot")
            .arg(storage.join("run"));
        command
    };
    output(
        buildah()
            // OCI's format has no health check.
            .args(["build", "--isolation=chroot", "--format=docker", "--quiet"])
            .arg(format!("--timestamp={}", build.time))
            .arg(format!("--platform=linux/{}", build.architecture()?.0))
            .arg(format!("--build-arg=VERSION={VERSION}"))
            .arg(format!("--build-arg=REVISION={}", build.commit))
            .arg(format!("--tag={tag}"))
            .arg(build.stage.join("image")),
    )
    .context("buildah builds the image: apt-get install buildah, or leave out the part `image`")?;
    output(
        buildah().args(["push", "--quiet", &tag]).arg(format!("docker-archive:{}:{tag}", archive.display())),
    )?;
    Ok(())
}

fn make_root(build: &Build, root: &Path) -> Result<()> {
    let program = build.stage.join("txnscope");
    place(&program, &root.join("usr/bin/txnscope"))?;
    for line in output(Command::new("ldd").arg(&program))?.lines() {
        // `name => path (address)`, or only a path for the loader.
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        place(Path::new(path), &root.join(path.trim_start_matches('/')))?;
    }
    if !Path::new(AUTHORITIES).is_file() {
        bail!("{AUTHORITIES} is missing: apt-get install ca-certificates");
    }
    place(Path::new(AUTHORITIES), &root.join(AUTHORITIES.trim_start_matches('/')))?;
    for (path, text) in FILES {
        fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    let licenses = root.join("usr/share/licenses/txnscope");
    fs::create_dir_all(&licenses).context("cannot create a folder for licenses")?;
    copy("LICENSE-APACHE", &licenses)?;
    copy("LICENSE-MIT", &licenses)?;
    // The mount points of the chart and of a read-only root.
    fs::create_dir_all(root.join("etc/txnscope")).context("cannot create /etc/txnscope")
}

/// Copies the content of a file, and not a link to it.
fn place(file: &Path, into: &Path) -> Result<()> {
    let folder = into.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(file, into).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}
