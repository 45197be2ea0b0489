//! Compares the lists with sources other than `cargo tree`: Cargo.lock, the manifests, CycloneDX's own schema.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jsonschema::Registry;
use serde_json::Value;

use super::{SUBJECTS, Subject, TARGET, make};
use crate::run::{cargo, output};
use crate::sbom::resolved::Packages;

fn lists() -> impl Iterator<Item = (&'static Subject, &'static Value)> {
    static LISTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let packages = Packages::read(TARGET).unwrap();
        let text = |subject| make(subject, &packages, TARGET).unwrap().text().unwrap();
        SUBJECTS.iter().map(|subject| serde_json::from_str(&text(subject)).unwrap()).collect()
    });
    SUBJECTS.iter().zip(LISTS.iter())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn components(list: &Value) -> BTreeMap<(&str, &str), &Value> {
    let found: BTreeMap<_, _> =
        array(&list["components"]).iter().map(|component| (id(component), component)).collect();
    assert_eq!(found.len(), array(&list["components"]).len(), "a crate is listed twice");
    found
}

fn id(package: &Value) -> (&str, &str) {
    (package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

/// The metadata of the whole workspace, with all kinds of dependencies.
fn metadata() -> &'static Value {
    static METADATA: LazyLock<Value> = LazyLock::new(|| {
        let arguments = ["--format-version=1", "--locked", "--all-features", "--filter-platform", TARGET];
        serde_json::from_str(&output(cargo().arg("metadata").args(arguments)).unwrap()).unwrap()
    });
    &METADATA
}

/// An upper bound: the dependencies with every feature that any workspace member enables.
fn at_most(subject: &Subject) -> BTreeSet<(&'static str, &'static str)> {
    let packages: BTreeMap<_, _> = array(&metadata()["packages"])
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package))
        .collect();
    let nodes: BTreeMap<_, _> = array(&metadata()["resolve"]["nodes"])
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let root = packages.iter().find(|(_, package)| package["name"] == subject.package).unwrap().0;
    let mut found = BTreeSet::from([*root]);
    let mut next = vec![*root];
    while let Some(package) = next.pop() {
        for wanted in array(&nodes[package]["deps"]) {
            let shipped = array(&wanted["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            let wanted = wanted["pkg"].as_str().unwrap();
            if shipped && found.insert(wanted) {
                next.push(wanted);
            }
        }
    }
    found.remove(root);
    found.iter().map(|package| id(packages[package])).collect()
}

#[test]
fn sbom_matches_cargo_lock() {
    let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).unwrap();
    let lock: Value = serde_json::to_value(lock.parse::<toml::Table>().unwrap()).unwrap();
    let locked: BTreeMap<_, _> =
        array(&lock["package"]).iter().map(|package| (id(package), package)).collect();
    for (subject, list) in lists() {
        let found = components(list);
        for (id, component) in &found {
            let locked = locked.get(id).unwrap_or_else(|| panic!("{}: {id:?} is not locked", subject.file));
            let hash = &component["hashes"][0]["content"];
            assert_eq!(*hash, locked["checksum"], "{}: {id:?}", subject.file);
            assert!(
                hash.is_string() || id.0 == "txnscope" || id.0.starts_with("txnscope-"),
                "{}: {id:?} has no hash",
                subject.file
            );
        }
        assert_eq!(list["metadata"]["component"]["name"], subject.package);
    }
}

#[test]
fn sbom_excludes_dev_dependencies() {
    for (subject, list) in lists() {
        let found: BTreeSet<_> = components(list).into_keys().collect();
        let at_most = at_most(subject);
        let surplus: Vec<_> = found.difference(&at_most).collect();
        assert!(surplus.is_empty(), "{}: only tests want {surplus:?}", subject.file);
        // Other members enable a dozen additional crates, and more for the library without its features.
        let (count, at_most) = (found.len(), at_most.len());
        let whole = subject.kind == "application" || !subject.features.is_empty();
        assert!(!whole || count * 10 > at_most * 9, "{}: {count} of {at_most}", subject.file);

        let packages = array(&metadata()["packages"]);
        let package = packages.iter().find(|package| package["name"] == subject.package).unwrap();
        let wanted = array(&package["dependencies"]).iter().filter(|dependency| {
            dependency["kind"] != "dev" && (dependency["optional"] != true || !subject.features.is_empty())
        });
        for dependency in wanted {
            let name = dependency["name"].as_str().unwrap();
            assert!(found.iter().any(|(found, _)| *found == name), "{}: no {name}", subject.file);
        }
    }
}

#[test]
fn sbom_components_have_dependents_and_licenses() {
    for (subject, list) in lists() {
        let root = list["metadata"]["component"]["bom-ref"].as_str().unwrap();
        let wants: BTreeMap<_, _> = array(&list["dependencies"])
            .iter()
            .map(|row| (row["ref"].as_str().unwrap(), array(&row["dependsOn"])))
            .collect();
        let mut reached = BTreeSet::from([root]);
        let mut next = vec![root];
        while let Some(one) = next.pop() {
            next.extend(
                wants[one].iter().map(|other| other.as_str().unwrap()).filter(|one| reached.insert(one)),
            );
        }
        let found = components(list);
        let mut named: BTreeSet<_> =
            found.values().map(|component| component["bom-ref"].as_str().unwrap()).collect();
        named.insert(root);
        assert_eq!(reached, named, "{}", subject.file);
        for (id, component) in found {
            let license = component["licenses"][0]["expression"].as_str().unwrap();
            assert!(!license.is_empty() && !license.contains('/'), "{id:?}: {license}");
        }
    }
}

#[test]
fn sbom_marks_build_time_dependencies() {
    let scope = |list: &Value, name: &str| {
        let found = components(list);
        found.iter().find(|((found, _), _)| *found == name).map(|(_, one)| one["scope"].clone()).unwrap()
    };
    for (subject, list) in lists() {
        for (name, expected) in
            [("thiserror", "required"), ("thiserror-impl", "excluded"), ("proc-macro2", "excluded")]
        {
            assert_eq!(scope(list, name), expected, "{}: {name}", subject.file);
        }
    }
}

#[test]
fn sbom_is_reproducible_and_has_no_local_paths() {
    let packages = Packages::read(TARGET).unwrap();
    for (subject, list) in lists() {
        let text = make(subject, &packages, TARGET).unwrap().text().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *list);
        assert_eq!(text, make(subject, &packages, TARGET).unwrap().text().unwrap());
        // Only at the beginning of a value, because the folder may be named like the repository, which occurs in
        // URLs.
        let folder = format!("\"{}", crate::root().display());
        assert!(!text.contains(&folder) && !text.contains("file:"), "{}", subject.file);
        assert!(list.get("serialNumber").is_none());
    }
}

#[test]
fn sbom_is_valid_cyclonedx() {
    let folder = crate::root().join(".tools/cyclonedx/cyclonedx/schema/_res");
    assert!(folder.is_dir(), "{} is not there; run `cargo xtask fetch`", folder.display());
    let read = |name: &str| -> Value {
        let file = folder.join(format!("{name}.SNAPSHOT.schema.json"));
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    };
    let mut registry = Registry::new();
    for name in ["spdx", "jsf-0.82"] {
        let address = format!("http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json");
        registry = registry.add(address, read(name)).unwrap();
    }
    let registry = registry.prepare().unwrap();
    let schema = read("bom-1.6");
    let validator =
        jsonschema::options().with_registry(&registry).should_validate_formats(true).build(&schema).unwrap();
    for (subject, list) in lists() {
        let errors: Vec<_> = validator.iter_errors(list).map(|error| error.to_string()).take(5).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", subject.file);
    }
    let mut wrong = lists().next().unwrap().1.clone();
    wrong["components"][0]["hashes"][0]["alg"] = "SHA-0".into();
    assert!(!validator.is_valid(&wrong));
}
