//! The program, and its tar archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Build, VERSION, copy};
use crate::run::{cargo, checked, output};

/// The shared objects that the program may link to: the C library, in its parts, and the unwinder of the compiler.
pub(super) const LINKED: [&str; 5] =
    ["linux-vdso.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];

/// Builds the program for release, unless one is given, and copies it without symbols into the stage.
pub(super) fn build(build: &Build) -> Result<()> {
    let program = match &build.program {
        Some(program) => program.clone(),
        None => compile(build)?,
    };
    output(Command::new("strip").arg("-o").arg(build.stage.join("txnscope")).arg(program))
        .context("strip belongs to binutils, which a C compiler needs as well")?;
    shell_files(build)
}

/// Has the program write its man pages, compressed, and its completions for the shells.
fn shell_files(build: &Build) -> Result<()> {
    let program = build.stage.join("txnscope");
    let (man, completions) = (build.stage.join("man"), build.stage.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    output(Command::new(&program).args(["man", "--output-dir"]).arg(&man))?;
    for page in fs::read_dir(&man).context("cannot list the man pages")? {
        output(Command::new("gzip").arg("-9nf").arg(page?.path()))?;
    }
    for shell in ["bash", "zsh", "fish"] {
        let text = output(Command::new(&program).args(["completions", shell]))?;
        fs::write(completions.join(shell), text)
            .with_context(|| format!("cannot write those for {shell}"))?;
    }
    Ok(())
}

fn compile(build: &Build) -> Result<PathBuf> {
    let target = build.target.as_str();
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    // Without --target, the folder is the one of every other release build of this machine.
    let cross = (host.trim() != target).then_some(target);
    let mut cargo = cargo();
    cargo.env("TXNSCOPE_COMMIT", &build.commit);
    cargo.args(["build", "--release", "--locked", "--package", "txnscope-cli"]);
    cargo.args(cross.map(|target| format!("--target={target}")));
    checked(&mut cargo)?;
    let folder = crate::root().join("target").join(cross.unwrap_or_default());
    Ok(folder.join("release/txnscope"))
}

/// The newest version of glibc whose symbols the program uses.
pub(super) fn glibc(build: &Build) -> Result<String> {
    let symbols = output(Command::new("objdump").arg("-T").arg(build.stage.join("txnscope")))?;
    let version = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split(')').next()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    };
    let newest = symbols.split("GLIBC_").skip(1).filter_map(version).max();
    let (major, minor) = newest.context("the program uses no symbol of glibc")?;
    Ok(format!("{major}.{minor}"))
}

fn name(build: &Build) -> String {
    format!("txnscope-{VERSION}-{}", build.target)
}

pub(super) fn make(build: &Build) -> Result<()> {
    let folder = build.stage.join(name(build));
    fs::create_dir_all(&folder).context("cannot create a folder")?;
    for file in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "packaging/txnscope.toml",
        "packaging/systemd/txnscope.service",
    ] {
        copy(file, &folder)?;
    }
    fs::copy(build.stage.join("txnscope"), folder.join("txnscope")).context("cannot copy the program")?;
    build.archive(&format!("{}.tar.gz", name(build)), &build.stage, &name(build))
}

pub(super) fn contents(build: &Build) -> Result<()> {
    let scratch = build.stage.join("unpacked");
    fs::create_dir_all(&scratch).context("cannot create a folder")?;
    let archive = build.artifact(&format!("{}.tar.gz", name(build)))?;
    output(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&scratch))?;
    let folder = scratch.join(name(build));
    is_sound(build, &folder.join("txnscope"))?;
    for file in
        ["txnscope.toml", "txnscope.service", "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]
    {
        if !folder.join(file).is_file() {
            bail!("the archive has no {file}");
        }
    }
    Ok(())
}

/// Whether a program has its version, links to nothing that a system may lack, and accepts the packaged configuration.
pub(super) fn is_sound(build: &Build, program: &Path) -> Result<()> {
    let version = output(Command::new(program).arg("--version"))?;
    // The commit of a program that was given is not known.
    let commit = build.program.as_ref().map_or(build.commit.get(..12), |_| None).unwrap_or_default();
    let details = version.trim().strip_prefix(&format!("txnscope {VERSION} ({commit}"));
    if !details.is_some_and(|details| details.ends_with(&format!("{})", build.target))) {
        bail!("its version is {version}");
    }
    for line in output(Command::new("ldd").arg(program))?.lines() {
        let object = line.split_whitespace().next().unwrap_or_default();
        let base = object.rsplit('/').next().unwrap_or_default();
        if !LINKED.iter().any(|allowed| base.starts_with(allowed)) {
            bail!("the program links to {object}, which not every system has");
        }
    }
    let configuration = crate::root().join("packaging/txnscope.toml");
    let configuration = format!("--config.file={}", configuration.display());
    output(Command::new(program).args(["serve", "--check-config", &configuration]))?;
    Ok(())
}
