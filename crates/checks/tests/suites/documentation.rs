//! The samples in the documentation and the files to copy are valid check files.

use txnscope_checks::Checks;

fn read(path: &str) -> String {
    std::fs::read_to_string(testkit::workspace().join(path)).unwrap()
}

#[test]
fn documentation_samples_parse() {
    let page = read("docs/checks.md");
    let samples: Vec<_> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```\n").next()).collect();
    assert_eq!(samples.len(), 5, "one for each rule, and one with `stages`");
    let mut kinds = Vec::new();
    for sample in samples {
        let checks = Checks::parse(sample).unwrap_or_else(|error| panic!("{error}\n{sample}"));
        kinds.extend(checks.iter().map(|check| check.rule.kind()));
    }
    assert_eq!(kinds, ["forbid", "pipeline", "derived", "derived", "balance"]);
}

#[test]
fn sample_files_parse() {
    for file in ["examples/ledger/checks.toml", "examples/node-backend/checks.toml"] {
        let checks = Checks::parse(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            checks.iter().all(|check| !check.about.is_empty()),
            "{file}: a check does not say what it is about"
        );
    }
}
