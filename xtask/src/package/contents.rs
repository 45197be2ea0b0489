//! What is in the packages and in the crates, without installing them.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Build, packages};
use crate::run::{cargo, output};

/// The files of both packages, besides man pages.
const FILES: [&str; 6] = [
    "/etc/txnscope/txnscope.toml",
    "/usr/bin/txnscope",
    "/usr/lib/sysusers.d/txnscope.conf",
    "/usr/share/bash-completion/completions/txnscope",
    "/usr/share/fish/vendor_completions.d/txnscope.fish",
    "/usr/share/man/man1/txnscope-serve.1.gz",
];
const OF_DEBIAN: [&str; 4] = [
    "/lib/systemd/system/txnscope.service",
    "/usr/share/doc/txnscope/changelog.gz",
    "/usr/share/doc/txnscope/copyright",
    "/usr/share/zsh/vendor-completions/_txnscope",
];
const OF_RPM: [&str; 4] = [
    "/usr/lib/systemd/system/txnscope.service",
    "/usr/share/licenses/txnscope/LICENSE-APACHE",
    "/usr/share/licenses/txnscope/LICENSE-MIT",
    "/usr/share/zsh/site-functions/_txnscope",
];

const CONFIGURATION: &str = "/etc/txnscope/txnscope.toml\n";

pub(super) fn deb(build: &Build) -> Result<()> {
    let package = build.artifact(&packages::deb_name(build)?)?;
    let listed = output(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
    let mut files = Vec::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, _, _, _, path] = words[..] else { bail!("dpkg-deb lists {line}") };
        let expected = match path {
            _ if path.ends_with('/') => "drwxr-xr-x",
            "./usr/bin/txnscope" => "-rwxr-xr-x",
            _ => "-rw-r--r--",
        };
        ensure!(mode == expected && owner == "root/root", "the owner or the mode is not as expected: {line}");
        files.extend(path.strip_prefix('.').filter(|path| !path.ends_with('/')).map(str::to_owned));
    }
    are_expected(&files, &OF_DEBIAN)?;
    let info = |file: &str| output(Command::new("dpkg-deb").arg("--info").arg(&package).arg(file));
    ensure!(info("conffiles")? == CONFIGURATION, "an upgrade would replace the configuration");
    let control = info("control")?;
    let control_has = |line: &str| control.lines().any(|found| found == line);
    ensure!(control_has("Recommends: ca-certificates"), "TLS needs certificate authorities:\n{control}");
    ensure!(control.contains("\nDepends: libc6 (>= 2."), "the package needs a version of glibc:\n{control}");
    scripts_parse(&["debian/postinst", "debian/prerm", "debian/postrm"])
}

/// Without rpm, which few systems of Debian have, only the scripts are read.
pub(super) fn rpm(build: &Build) -> Result<()> {
    scripts_parse(&["rpm/post", "rpm/preun", "rpm/postun"])?;
    if Command::new("rpm").arg("--version").output().is_err() {
        return Ok(());
    }
    let package = build.artifact(&packages::rpm_name(build)?)?;
    let query = |what: &str| {
        let database = build.stage.join("rpm-database");
        output(
            Command::new("rpm")
                .arg("--dbpath")
                .arg(database)
                .args(["--query", "--package", what])
                .arg(&package),
        )
    };
    let listed = query("--list")?;
    let folders = ["/etc/txnscope", "/usr/share/licenses/txnscope"];
    let files = listed.lines().filter(|path| !folders.contains(path)).map(str::to_owned);
    are_expected(&files.collect::<Vec<_>>(), &OF_RPM)?;
    ensure!(query("--configfiles")? == CONFIGURATION, "an upgrade would replace the configuration");
    ensure!(query("--recommends")?.contains("ca-certificates"), "TLS needs certificate authorities");
    Ok(())
}

fn are_expected(files: &[String], of_the_format: &[&str]) -> Result<()> {
    for expected in FILES.iter().chain(of_the_format) {
        ensure!(files.iter().any(|file| file == expected), "{expected} is missing");
    }
    let is_page = |file: &str| file.starts_with("/usr/share/man/man1/txnscope") && file.ends_with(".1.gz");
    let is_expected = |file: &str| FILES.contains(&file) || of_the_format.contains(&file) || is_page(file);
    if let Some(other) = files.iter().find(|file| !is_expected(file)) {
        bail!("{other} is not expected");
    }
    Ok(())
}

fn scripts_parse(names: &[&str]) -> Result<()> {
    for name in names {
        output(Command::new("sh").arg("-n").arg(crate::root().join("packaging").join(name)))?;
    }
    Ok(())
}

/// The metadata and the files of each crate, as `cargo publish` would pack them. It compiles them as well, which takes minutes.
pub(super) fn crates() -> Result<()> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo's metadata is JSON")?;
    let packages = metadata["packages"].as_array().context("cargo's metadata has packages")?;
    for package in packages.iter().filter(|package| package["publish"].is_null()) {
        let name = package["name"].as_str().unwrap_or_default();
        has_metadata(package).with_context(|| format!("the Cargo.toml of {name}"))?;
        let listed = output(cargo().args(["package", "--list", "--allow-dirty", "--package", name]))?;
        for expected in ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"] {
            ensure!(listed.lines().any(|file| file == expected), "{name}: the crate has no {expected}");
        }
        if package["targets"].to_string().contains("custom-build") {
            ensure!(listed.lines().any(|file| file == "build.rs"), "{name}: the crate has no build.rs");
        }
        let needs_repository = |file: &&str| file.starts_with("tests/") || file.starts_with("fixtures/");
        if let Some(file) = listed.lines().find(needs_repository) {
            bail!("{name}: {file} needs the repository");
        }
    }
    Ok(())
}

/// What crates.io and docs.rs show, and the limits of crates.io.
fn has_metadata(package: &Value) -> Result<()> {
    for key in ["description", "documentation", "license", "readme", "repository", "rust_version"] {
        ensure!(package[key].as_str().is_some_and(|text| !text.is_empty()), "{key} is missing");
    }
    for key in ["keywords", "categories"] {
        let words: Vec<_> = package[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        ensure!((1..=5).contains(&words.len()), "{key} has {} entries, and may have 5", words.len());
        let is_too_long = |word: &&str| key == "keywords" && word.len() > 20;
        ensure!(!words.iter().any(is_too_long), "a keyword has more than 20 characters: {words:?}");
    }
    let metadata = &package["metadata"];
    if package["name"] == "txnscope-cli" {
        let url = metadata["binstall"]["pkg-url"].as_str().unwrap_or_default();
        ensure!(
            url.ends_with("/v{ version }/txnscope-{ version }-{ target }.tar.gz"),
            "cargo binstall would not find the archive of the program: {url}"
        );
    } else {
        ensure!(metadata["docs"]["rs"]["targets"].is_array(), "package.metadata.docs.rs is missing");
    }
    Ok(())
}
