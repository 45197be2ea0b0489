//! The checklist, for people and for machines.

use serde_json::{Value, json};

use crate::checks::table::table;
use crate::preflight::finding::{Finding, Verdict};
use crate::preflight::flags::Format;

pub(crate) fn render(format: Format, findings: &[Finding]) -> String {
    match format {
        Format::Table => people(findings),
        Format::Json => format!("{:#}\n", all(findings)),
    }
}

/// The worst of all. What was skipped is not better than a warning.
pub(crate) fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Skip)
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

fn people(findings: &[Finding]) -> String {
    let mut rows = vec![["", "CHECK", "EVIDENCE"].map(str::to_owned).to_vec()];
    for finding in findings {
        let Finding { check, verdict, evidence, cure } = finding;
        rows.push(vec![verdict.as_str().to_owned(), (*check).to_owned(), evidence.clone()]);
        if let Some(cure) = cure {
            rows.push(vec![String::new(), String::new(), format!("→ {cure}")]);
        }
    }
    let of = |verdict| count(findings, verdict);
    let mut text = table(&rows);
    text.push_str(&format!(
        "\n{}: {} passed, {} warnings, {} failed, {} skipped\n",
        if worst(findings) == Verdict::Fail { "NOT READY" } else { "READY" },
        of(Verdict::Pass),
        of(Verdict::Warn),
        of(Verdict::Fail),
        of(Verdict::Skip),
    ));
    text
}

fn all(findings: &[Finding]) -> Value {
    let one = |Finding { check, verdict, evidence, cure }: &Finding| json!({"check": check, "verdict": verdict.as_str(), "evidence": evidence, "cure": cure});
    json!({
        "ready": worst(findings) != Verdict::Fail,
        "passed": count(findings, Verdict::Pass),
        "warnings": count(findings, Verdict::Warn),
        "failed": count(findings, Verdict::Fail),
        "skipped": count(findings, Verdict::Skip),
        "checks": findings.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_ready_and_a_failure_is_not() {
        let warned = [Finding::pass("a", "is"), Finding::warn("b", "nearly", "mend it")];
        let text = people(&warned);
        assert!(text.contains("warn  b      nearly\n             → mend it\n"), "{text}");
        assert!(text.ends_with("READY: 1 passed, 1 warnings, 0 failed, 0 skipped\n"), "{text}");
        let failed = [Finding::fail("c", "is not", "make it"), Finding::skip("d", "no connection")];
        assert!(people(&failed).contains("NOT READY"));
        assert_eq!(all(&failed)["ready"], false);
        assert_eq!(all(&failed)["checks"][0]["cure"], "make it");
    }
}
