//! `cargo xtask sbom`: the bill of materials of each shipped artifact, as CycloneDX.
//!
//! The data comes from cargo itself, without another tool. Existing tools use `cargo metadata`, which enables every
//! feature that any member of the workspace uses, including tests: they list crates that are in no shipped binary,
//! and local paths of the machine.

mod cyclonedx;
mod resolved;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use cyclonedx::{Bom, Component, Dependency, ExternalReference, Hash, License, Metadata, Property};
use resolved::{Package, Packages};

/// The default target, for which binaries are shipped. Others have different dependencies: use `--target`.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

const SPECIFICATION: &str = "1.6";

/// The shipped artifacts.
struct Subject {
    file: &'static str,
    package: &'static str,
    /// The CycloneDX component type.
    kind: &'static str,
    /// The arguments for cargo.
    features: &'static [&'static str],
}

const SUBJECTS: &[Subject] = &[
    Subject { file: "txnscope-cli.cdx.json", package: "txnscope-cli", kind: "application", features: &[] },
    Subject { file: "txnscope.cdx.json", package: "txnscope", kind: "library", features: &[] },
    Subject {
        file: "txnscope-all-features.cdx.json",
        package: "txnscope",
        kind: "library",
        features: &["--all-features"],
    },
];

/// Writes one file for each shipped artifact into that folder.
pub(crate) fn run(folder: &Path, target: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let packages = Packages::read(target)?;
    for subject in SUBJECTS {
        let file = folder.join(subject.file);
        let bom = make(subject, &packages, target)?;
        fs::write(&file, bom.text()?).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("{}: {} components", file.display(), bom.components.len());
    }
    Ok(())
}

/// The output is reproducible: everything is sorted, there is no serial number, and the time is that of
/// `SOURCE_DATE_EPOCH`, or missing.
fn make(subject: &Subject, packages: &Packages, target: &str) -> Result<Bom> {
    let tree = resolved::tree(subject.package, subject.features, target, "normal,build")?;
    let at_run_time: BTreeSet<_> =
        resolved::tree(subject.package, subject.features, target, "normal,no-proc-macro")?
            .into_keys()
            .collect();
    let mut root = None;
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for (id, wanted) in &tree {
        let package = packages.get(id)?;
        let references: Result<BTreeSet<_>> = wanted.iter().map(|id| Ok(packages.get(id)?.purl())).collect();
        dependencies
            .push(Dependency { reference: package.purl(), depends_on: references?.into_iter().collect() });
        if package.name == subject.package {
            root = Some(component(package, subject.kind, None));
        } else {
            // `excluded` is CycloneDX's scope for components that are not called at run time.
            let scope = if at_run_time.contains(id) { "required" } else { "excluded" };
            components.push(component(package, "library", Some(scope)));
        }
    }
    let Some(root) = root else { bail!("cargo tree does not name {}", subject.package) };
    let properties = [Property { name: "cdx:rustc:sbom:target:triple", value: target.to_owned() }];
    let metadata = Metadata::new(timestamp()?, root, properties);
    Ok(Bom {
        bom_format: "CycloneDX",
        spec_version: SPECIFICATION,
        version: 1,
        metadata,
        components,
        dependencies,
    })
}

fn component(package: &Package, kind: &'static str, scope: Option<&'static str>) -> Component {
    let hash = package.checksum.clone().map(|content| Hash { alg: "SHA-256", content });
    let repository = package.repository.clone().map(|url| ExternalReference { kind: "vcs", url });
    // Before license expressions, a slash meant `OR`.
    let expression = package.license.replace('/', " OR ");
    Component {
        kind,
        bom_ref: package.purl(),
        name: package.name.clone(),
        version: package.version.clone(),
        description: package.description.clone(),
        scope,
        hashes: hash.into_iter().collect(),
        licenses: [License { expression }],
        purl: package.purl(),
        external_references: repository.into_iter().collect(),
    }
}

/// The variable with which reproducible builds set the time.
fn timestamp() -> Result<Option<String>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let time = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    // A year beyond 9999 cannot be represented.
    let year_10000 = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
    let Some(time) = time.filter(|time| *time < year_10000) else {
        bail!("SOURCE_DATE_EPOCH is not a number of seconds since 1970: correct or unset it");
    };
    Ok(Some(humantime::format_rfc3339_seconds(time).to_string()))
}
