//! The runbooks: one for each alert, with all sections that the on-call engineer needs.

use std::collections::BTreeSet;

use end_to_end::promql;

use super::files::{alert_names, files, folder, read, recorded};

/// Procedures that follow an alert and belong to no single alert.
const PROCEDURES: [&str; 2] = ["rollback", "manual-correction"];

const PARTS: [&str; 6] =
    ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verifying recovery", "False positives"];

#[test]
fn every_alert_has_one_runbook() {
    let runbooks: BTreeSet<_> = files("runbooks", "md")
        .iter()
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| !PROCEDURES.contains(&name.as_str()))
        .collect();
    assert_eq!(runbooks, alert_names());
    for procedure in PROCEDURES {
        read(&folder().join(format!("runbooks/{procedure}.md")));
    }
}

#[test]
fn runbooks_have_all_sections_in_order() {
    for name in alert_names() {
        let text = read(&folder().join(format!("runbooks/{name}.md")));
        assert!(text.starts_with(&format!("# {name}\n")), "{name}: the title is the alert's name");
        let parts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(parts, PARTS, "{name}");
        assert!(text.contains("](../../docs/symptoms.md"), "{name}: link the map by symptom");
    }
}

/// A block of `promql` has one query per line.
#[test]
fn runbooks_query_only_exported_or_recorded_metrics() {
    let recorded = recorded();
    for file in files("runbooks", "md") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = read(&file);
        let blocks = text.split("```promql\n").skip(1).map(|block| block.split("```").next().unwrap());
        let queries: Vec<_> = blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).collect();
        let of_alert = !PROCEDURES.contains(&name.trim_end_matches(".md"));
        assert!(!of_alert || !queries.is_empty(), "{name} has no query to paste");
        for query in queries {
            if let Err(wrong) = promql::check(query, &recorded) {
                panic!("{name}: {}\n{query}", wrong.join("; "));
            }
        }
    }
}

#[test]
fn runbook_links_resolve() {
    for file in files("runbooks", "md") {
        let text = read(&file);
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let path = file.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(target.starts_with("https://") || path.exists(), "{}: {target}", file.display());
        }
    }
}
