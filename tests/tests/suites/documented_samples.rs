//! Samples in the documentation: each block of TOML, YAML and JSON is valid, and the README names the versions that the
//! workspace builds with.

use std::collections::BTreeMap;

use serde_json::Value;

use super::documented_names::documentation;

/// The blocks in this language, each with its place.
fn blocks(language: &str) -> Vec<(String, String)> {
    let begin = format!("```{language}");
    let mut found = Vec::new();
    for (path, text) in documentation() {
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line.trim() == begin {
                let indent = line.len() - line.trim_start().len();
                let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
                let body: Vec<_> = body.map(|line| line.get(indent..).unwrap_or("")).collect();
                found.push((format!("{}:{}", path.display(), number + 1), body.join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "there is no block of {language}");
    found
}

#[test]
fn every_sample_file_in_the_documentation_is_valid() {
    let mut invalid = Vec::new();
    for (place, text) in blocks("toml") {
        invalid.extend(toml::from_str::<toml::Table>(&text).err().map(|error| format!("{place}: {error}")));
    }
    for (place, text) in blocks("yaml") {
        invalid.extend(serde_saphyr::from_str::<Value>(&text).err().map(|error| format!("{place}: {error}")));
    }
    for (place, text) in blocks("json") {
        // One value, or several.
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        invalid.extend(values.filter_map(|value| value.err().map(|error| format!("{place}: {error}"))));
    }
    assert!(invalid.is_empty(), "{}", invalid.join("\n"));
}

/// A requirement such as `0.8` in the README, and `0.8.8` in the workspace.
#[test]
fn readme_names_the_versions_that_the_workspace_builds_with() {
    let read = |path: &str| std::fs::read_to_string(testkit::workspace().join(path)).unwrap();
    let readme = read("README.md");
    let sample = readme.split("```toml\n").nth(1).unwrap().split("```\n").next().unwrap();
    let dependencies = |table: &toml::Table| -> BTreeMap<String, String> {
        let version = |value: &toml::Value| {
            let version = value.as_str().or_else(|| value.get("version").and_then(toml::Value::as_str));
            version.map(|version| version.trim_start_matches('=').to_owned())
        };
        table.iter().filter_map(|(name, value)| Some((name.clone(), version(value)?))).collect()
    };
    let named = toml::from_str::<toml::Table>(sample).unwrap();
    let workspace = toml::from_str::<toml::Table>(&read("Cargo.toml")).unwrap();
    let built = dependencies(workspace["workspace"]["dependencies"].as_table().unwrap());
    let mut example = 0;
    for (name, version) in dependencies(named["dependencies"].as_table().unwrap()) {
        let with = &built[&name];
        assert!(
            with == &version || with.starts_with(&format!("{version}.")),
            "{name} {version}: built with {with}"
        );
        example += usize::from(readme.contains(&format!("use {}", name.replace('-', "_"))));
    }
    assert!(example > 5, "the sample uses these crates");
}
