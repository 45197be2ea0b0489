//! The resolved dependencies of a package, and their metadata, from cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo, output};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A name and a version, which identify a crate because deny.toml allows crates.io only.
pub(super) type Id = (String, String);

/// A package, from its manifest and Cargo.lock.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: String,
    pub(super) description: Option<String>,
    pub(super) repository: Option<String>,
    /// The SHA-256 of the file on crates.io; `None` for our own crates.
    pub(super) checksum: Option<String>,
}

impl Package {
    /// The package URL.
    pub(super) fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }
}

/// All possible dependencies of all workspace members.
pub(super) struct Packages(BTreeMap<Id, Package>);

impl Packages {
    pub(super) fn read(target: &str) -> Result<Self> {
        let said = output(cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--all-features",
            "--filter-platform",
            target,
        ]))?;
        let metadata: Value = serde_json::from_str(&said).context("cargo metadata is JSON")?;
        let checksums = checksums()?;
        let packages = metadata["packages"].as_array().context("cargo metadata has packages")?;
        packages.iter().map(|package| read(package, &checksums)).collect::<Result<_>>().map(Self)
    }

    pub(super) fn get(&self, id: &Id) -> Result<&Package> {
        self.0.get(id).with_context(|| format!("cargo metadata does not know {} {}", id.0, id.1))
    }
}

fn read(package: &Value, checksums: &BTreeMap<Id, String>) -> Result<(Id, Package)> {
    let text = |field: &str| package[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (name, version) = text("name").zip(text("version")).context("a package has a name and a version")?;
    let Some(license) = text("license") else {
        bail!("{name} {version} declares no license: add one to its manifest, or remove the dependency");
    };
    let id = (name.clone(), version.clone());
    let checksum = checksums.get(&id).cloned();
    match text("source").as_deref() {
        None => {}
        Some(CRATES_IO) if checksum.is_some() => {}
        Some(CRATES_IO) => bail!("Cargo.lock has no checksum of {name} {version}"),
        Some(source) => {
            bail!("{name} {version} is from {source}: the list has no name for such a package yet")
        }
    }
    // Line breaks in a description depend on the manifest's formatting.
    let description = text("description").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let repository = text("repository");
    Ok((id, Package { name, version, license, description, repository, checksum }))
}

fn checksums() -> Result<BTreeMap<Id, String>> {
    let lock = fs::read_to_string(crate::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: toml::Table = lock.parse().context("Cargo.lock is TOML")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has packages")?;
    Ok(packages
        .iter()
        .filter_map(|package| {
            let text = |field: &str| package.get(field)?.as_str().map(str::to_owned);
            Some(((text("name")?, text("version")?), text("checksum")?))
        })
        .collect())
}

/// All crates from which the package is built by itself, including itself, with their dependencies.
pub(super) fn tree(
    package: &str,
    features: &[&str],
    target: &str,
    edges: &str,
) -> Result<BTreeMap<Id, BTreeSet<Id>>> {
    let said = output(
        cargo()
            .args(["tree", "--locked", "--prefix=depth", "--format={p}", "--package", package])
            .args(["--target", target, "--edges", edges])
            .args(features),
    )?;
    let mut wanted: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    let mut path: Vec<Id> = Vec::new();
    for line in said.lines() {
        let (depth, id) = node(line).with_context(|| format!("cargo tree says {line:?}"))?;
        // A repeated node has no children in the output.
        path.truncate(depth);
        if let Some(parent) = path.last() {
            wanted.entry(parent.clone()).or_default().insert(id.clone());
        }
        wanted.entry(id.clone()).or_default();
        path.push(id);
    }
    Ok(wanted)
}

/// Parses `2serde v1.0.0 (proc-macro) (*)`.
fn node(line: &str) -> Option<(usize, Id)> {
    let name = line.find(|character: char| !character.is_ascii_digit())?;
    let (depth, package) = line.split_at(name);
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((depth.parse().ok()?, (name.to_owned(), version.to_owned())))
}
