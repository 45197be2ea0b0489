//! `cargo xtask package`: builds what a release consists of into `target/package-dist`, and tests it with `--check`.
//!
//! | part | files |
//! | --- | --- |
//! | `program` | the program as a tar archive |
//! | `deb`, `rpm` | the packages |
//! | `image` | the container image, as an archive that every engine loads |
//! | `chart` | the Helm chart, and the same as plain manifests |
//! | `monitoring` | alerting rules and dashboards, also as grafana.com publishes them |
//! | `sbom` | the bills of materials |
//!
//! `SHA256SUMS` covers all of them. `cargo xtask test` builds some of the parts as well, from the program that the tests have run.

mod archives;
mod check_image;
mod check_packages;
mod contents;
mod image;
mod isolation;
mod kubernetes;
mod packages;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::run::output;
use crate::sbom;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the parts need: the folders, the target, and the time of all files.
struct Build {
    /// The folder of the artifacts.
    out: PathBuf,
    /// The folder of intermediate files, which nfpm's configuration names.
    stage: PathBuf,
    target: String,
    /// A program that is built already.
    program: Option<PathBuf>,
    /// Seconds since 1970, so that equal sources result in equal archives.
    time: String,
    /// The commit, for `txnscope --version`; empty outside of a repository.
    commit: String,
    /// Leave out what takes long and changes no content.
    quick: bool,
}

struct Part {
    name: &'static str,
    make: fn(&Build) -> Result<()>,
    /// Reads the artifact.
    contents: fn(&Build) -> Result<()>,
    /// Installs and starts it. Needs root, and programs of Debian.
    install: fn(&Build) -> Result<()>,
}

const PARTS: &[Part] = &[
    Part { name: "program", make: program::make, contents: program::contents, install: nothing },
    Part { name: "deb", make: packages::deb, contents: contents::deb, install: check_packages::deb },
    Part { name: "rpm", make: packages::rpm, contents: contents::rpm, install: check_packages::rpm },
    Part { name: "image", make: image::make, contents: check_image::contents, install: check_image::install },
    Part {
        name: "chart",
        make: kubernetes::make,
        contents: kubernetes::contents,
        install: kubernetes::install,
    },
    Part { name: "monitoring", make: archives::monitoring, contents: archives::contents, install: nothing },
    Part {
        name: "sbom",
        make: |build| sbom::run(&build.out, &build.target),
        contents: nothing,
        install: nothing,
    },
];

fn nothing(_: &Build) -> Result<()> {
    Ok(())
}

/// Builds the given parts, or all, and tests them if `check` is set.
pub(crate) fn run(
    only: &[String],
    target: String,
    program: Option<PathBuf>,
    check: bool,
) -> Result<ExitCode> {
    if let Some(unknown) = only.iter().find(|name| PARTS.iter().all(|part| part.name != name.as_str())) {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        bail!("there is no part `{unknown}`; valid names are {}", names.join(", "));
    }
    let build = Build::new("target/package-dist", target, program, false)?;
    let parts = PARTS.iter().filter(|part| only.is_empty() || only.iter().any(|name| name == part.name));
    let parts: Vec<_> = parts.collect();
    make(&build, &parts)?;
    for part in parts.iter().filter(|_| check) {
        eprintln!("==> checking {}", part.name);
        check_with(part, part.contents, &build)?;
        check_with(part, part.install, &build)?;
    }
    fs::remove_dir_all(&build.stage).context("cannot remove intermediate files")?;
    checksums(&build)?;
    Ok(ExitCode::SUCCESS)
}

/// What can be tested in seconds, without root and without a build for release: the parts from the program that the tests have run,
/// which must be built already, and the crates.
pub(crate) fn quick() -> Result<()> {
    let program = crate::root().join("target/debug/txnscope");
    if !program.is_file() {
        bail!("{} is missing: cargo build --workspace --all-features", program.display());
    }
    let build = Build::new("target/package-test", sbom::TARGET.to_owned(), Some(program), true)?;
    let parts = PARTS.iter().filter(|part| ["deb", "rpm", "chart", "monitoring"].contains(&part.name));
    let parts: Vec<_> = parts.collect();
    make(&build, &parts)?;
    program::is_sound(&build, &build.stage.join("txnscope"))?;
    for part in parts {
        check_with(part, part.contents, &build)?;
    }
    contents::crates()?;
    fs::remove_dir_all(&build.out).context("cannot remove the artifacts")
}

fn make(build: &Build, parts: &[&Part]) -> Result<()> {
    // The other parts contain the program.
    program::build(build)?;
    for part in parts {
        eprintln!("==> {}", part.name);
        (part.make)(build).with_context(|| format!("cannot build the part `{}`", part.name))?;
    }
    Ok(())
}

fn check_with(part: &Part, check: fn(&Build) -> Result<()>, build: &Build) -> Result<()> {
    check(build).with_context(|| format!("the part `{}` is not as it should be", part.name))
}

impl Build {
    /// With empty folders.
    fn new(folder: &str, target: String, program: Option<PathBuf>, quick: bool) -> Result<Self> {
        let out = crate::root().join(folder);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
        }
        let stage = out.join("stage");
        // The tests need no git.
        let time = if quick { "0".to_owned() } else { commit_time()? };
        fs::create_dir_all(&stage).with_context(|| format!("cannot create {}", stage.display()))?;
        Ok(Self { out, stage, target, program, time, commit: commit(), quick })
    }

    /// The machine in the names of Debian, of RPM, and of the compiler.
    fn architecture(&self) -> Result<(&'static str, &'static str, &'static str)> {
        match self.target.as_str() {
            "x86_64-unknown-linux-gnu" => Ok(("amd64", "x86_64", "x86_64")),
            "aarch64-unknown-linux-gnu" => Ok(("arm64", "aarch64", "aarch64")),
            other => bail!(
                "there are no packages for {other}; x86_64-unknown-linux-gnu and aarch64-unknown-linux-gnu are supported"
            ),
        }
    }

    /// An artifact, which must be there.
    fn artifact(&self, name: &str) -> Result<PathBuf> {
        let file = self.out.join(name);
        if !file.is_file() {
            bail!("{} is missing", file.display());
        }
        Ok(file)
    }

    /// A compressed tar archive of that entry of a folder, with the same bytes on every machine.
    fn archive(&self, name: &str, folder: &Path, entry: &str) -> Result<()> {
        output(
            Command::new("tar")
                .args([
                    "--sort=name",
                    "--owner=0",
                    "--group=0",
                    "--numeric-owner",
                    "--use-compress-program=gzip -9n",
                ])
                .arg(format!("--mtime=@{}", self.time))
                .arg("--create")
                .arg("--file")
                .arg(self.out.join(name))
                .arg("--directory")
                .arg(folder)
                .arg(entry),
        )?;
        Ok(())
    }
}

/// `SOURCE_DATE_EPOCH`, or the time of the last commit.
fn commit_time() -> Result<String> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(time);
    }
    let time = output(Command::new("git").current_dir(crate::root()).args(["log", "-1", "--format=%ct"]))?;
    Ok(time.trim().to_owned())
}

/// `TXNSCOPE_COMMIT`, or the last commit, with `-dirty` if files have been changed since.
fn commit() -> String {
    const DESCRIBE: [&str; 5] = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"];
    let described = || output(Command::new("git").current_dir(crate::root()).args(DESCRIBE));
    let commit = std::env::var("TXNSCOPE_COMMIT").or_else(|_| described()).unwrap_or_default();
    commit.trim().to_owned()
}

/// Copies a file of the repository into a folder.
fn copy(name: &str, into: &Path) -> Result<()> {
    let file = crate::root().join(name);
    let base = file.file_name().with_context(|| format!("{name} is no file"))?;
    fs::copy(&file, into.join(base)).with_context(|| format!("cannot copy {name}"))?;
    Ok(())
}

fn checksums(build: &Build) -> Result<()> {
    let entries = fs::read_dir(&build.out).context("cannot read the artifacts")?;
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let sums = output(Command::new("sha256sum").current_dir(&build.out).args(&names))?;
    fs::write(build.out.join("SHA256SUMS"), &sums).context("cannot write SHA256SUMS")?;
    eprint!("{sums}");
    Ok(())
}
