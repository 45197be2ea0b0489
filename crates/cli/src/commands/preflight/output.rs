//! The findings as a table and as JSON.

use serde_json::{Value, json};

use crate::commands::preflight::args::Format;
use crate::commands::preflight::finding::{Finding, Status};
use crate::output::table;

pub(crate) fn render(format: Format, findings: &[Finding]) -> String {
    match format {
        Format::Table => render_text(findings),
        Format::Json => format!("{:#}\n", render_json(findings)),
    }
}

/// The worst status of all findings.
pub(crate) fn worst(findings: &[Finding]) -> Status {
    findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Skip)
}

fn count(findings: &[Finding], status: Status) -> usize {
    findings.iter().filter(|finding| finding.status == status).count()
}

fn render_text(findings: &[Finding]) -> String {
    let mut rows = vec![["", "CHECK", "EVIDENCE"].map(str::to_owned).to_vec()];
    for finding in findings {
        let Finding { check, status, evidence, remediation } = finding;
        rows.push(vec![status.as_str().to_owned(), (*check).to_owned(), evidence.clone()]);
        if let Some(remediation) = remediation {
            rows.push(vec![String::new(), String::new(), format!("→ {remediation}")]);
        }
    }
    let of = |status| count(findings, status);
    let mut text = table(&rows);
    text.push_str(&format!(
        "\n{}: {} passed, {} warnings, {} failed, {} skipped\n",
        if worst(findings) == Status::Fail { "NOT READY" } else { "READY" },
        of(Status::Pass),
        of(Status::Warn),
        of(Status::Fail),
        of(Status::Skip),
    ));
    text
}

fn render_json(findings: &[Finding]) -> Value {
    let one = |Finding { check, status, evidence, remediation }: &Finding| json!({"check": check, "status": status.as_str(), "evidence": evidence, "remediation": remediation});
    json!({
        "ready": worst(findings) != Status::Fail,
        "passed": count(findings, Status::Pass),
        "warnings": count(findings, Status::Warn),
        "failed": count(findings, Status::Fail),
        "skipped": count(findings, Status::Skip),
        "checks": findings.iter().map(one).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_with_warnings_is_ready_and_with_failures_is_not() {
        let warned = [Finding::pass("a", "is"), Finding::warn("b", "nearly", "fix it")];
        let text = render_text(&warned);
        assert!(text.contains("warn  b      nearly\n             → fix it\n"), "{text}");
        assert!(text.ends_with("READY: 1 passed, 1 warnings, 0 failed, 0 skipped\n"), "{text}");
        let failed = [Finding::fail("c", "is not", "make it"), Finding::skip("d", "no connection")];
        assert!(render_text(&failed).contains("NOT READY"));
        assert_eq!(render_json(&failed)["ready"], false);
        assert_eq!(render_json(&failed)["checks"][0]["remediation"], "make it");
    }
}
