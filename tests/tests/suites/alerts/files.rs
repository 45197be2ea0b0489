//! Reads the files in `alerts/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) fn folder() -> PathBuf {
    testkit::workspace().join("alerts")
}

/// The files with that extension in a folder of `alerts/`, in order.
pub(crate) fn files(below: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder().join(below)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "there is no .{extension} in {below}");
    files
}

pub(crate) fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn yaml<T: DeserializeOwned>(file: &Path) -> T {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// An alerting or recording rule.
#[derive(Deserialize)]
pub(crate) struct Rule {
    pub(crate) record: Option<String>,
    pub(crate) alert: Option<String>,
    pub(crate) expr: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

pub(crate) fn rules() -> Vec<Rule> {
    let files = files("rules", "yml").into_iter().map(|file| yaml::<RuleFile>(&file));
    files.flat_map(|file| file.groups).flat_map(|group| group.rules).collect()
}

pub(crate) fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| rule.alert.is_some()).collect()
}

pub(crate) fn alert_names() -> BTreeSet<String> {
    alerts().into_iter().filter_map(|rule| rule.alert).collect()
}

/// The names of the recording rules.
pub(crate) fn recorded() -> BTreeSet<String> {
    rules().into_iter().filter_map(|rule| rule.record).collect()
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    #[serde(default)]
    alert_rule_test: Vec<Expectation>,
}

/// The expectation of a rule test for one alert at one time.
#[derive(Deserialize)]
pub(crate) struct Expectation {
    pub(crate) alertname: String,
    #[serde(default)]
    pub(crate) exp_alerts: Vec<Expected>,
}

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) exp_labels: BTreeMap<String, String>,
    pub(crate) exp_annotations: BTreeMap<String, String>,
}

/// The expectations of each scenario, with the name of its file.
pub(crate) fn scenarios() -> Vec<(String, Vec<Expectation>)> {
    let name = |file: &Path| file.file_stem().unwrap().to_string_lossy().into_owned();
    let scenarios = |file: PathBuf| {
        let tests = yaml::<TestFile>(&file).tests.into_iter();
        tests.map(|test| (name(&file), test.alert_rule_test)).collect::<Vec<_>>()
    };
    files("tests", "yml").into_iter().flat_map(scenarios).collect()
}
