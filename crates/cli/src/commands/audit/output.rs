//! The results of an audit as a table, as JSON and as CSV.

use mongodb::bson::{Bson, Document};
use serde_json::{Value, json};
use txnscope_catalog::escape_line;
use txnscope_checks::{Check, CheckResult, Report, extended_json};

use super::args::Format;
use crate::args::checks::privilege_hint;
use crate::output::{grouped, table};

pub(crate) type Results<'a> = [(&'a Check, Report)];

pub(crate) fn render(format: Format, results: &Results<'_>) -> String {
    match format {
        Format::Table => render_text(results),
        Format::Json => format!("{:#}\n", render_json(results)),
        Format::Csv => render_csv(results),
    }
}

fn word(outcome: &CheckResult) -> &'static str {
    match outcome {
        CheckResult::Clean { .. } => "clean",
        CheckResult::Violated { .. } => "violated",
        CheckResult::Failed(_) => "failed",
    }
}

/// A document on one line, as Extended JSON.
pub(crate) fn line(document: &Document) -> String {
    extended_json(&Bson::Document(document.clone()))
}

fn extended(document: &Document) -> Value {
    serde_json::from_str(&line(document)).unwrap_or(Value::Null)
}

fn render_text(results: &Results<'_>) -> String {
    let head = ["CHECK", "SEVERITY", "RESULT", "VIOLATIONS", "DOCUMENTS", "SECONDS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), grouped);
    for (check, report) in results {
        let outcome = &report.result;
        let result = match outcome {
            CheckResult::Failed(failure) => format!("failed: {}", failure.reason.as_str()),
            CheckResult::Clean { .. } | CheckResult::Violated { .. } => word(outcome).to_owned(),
        };
        rows.push(vec![
            check.name.clone(),
            check.severity.as_str().to_owned(),
            result,
            number(outcome.violations()),
            number(outcome.documents()),
            format!("{:.2}", report.took.as_secs_f64()),
        ]);
    }
    let mut text = table(&rows);
    for (check, report) in results {
        details(&mut text, check, &report.result);
    }
    text
}

fn details(text: &mut String, check: &Check, outcome: &CheckResult) {
    match outcome {
        CheckResult::Clean { .. } => return,
        CheckResult::Violated { .. } | CheckResult::Failed(_) => text.push_str(&format!("\n{}", check.name)),
    }
    match outcome {
        CheckResult::Clean { .. } => {}
        CheckResult::Violated { count, sample, .. } => {
            if !check.about.is_empty() {
                text.push_str(&format!(": {}", escape_line(&check.about)));
            }
            text.push('\n');
            sample.iter().for_each(|document| text.push_str(&format!("  {}\n", line(document))));
            let left = count.saturating_sub(sample.len() as u64);
            if left > 0 {
                text.push_str(&format!("  … and {} more\n", grouped(left)));
            }
        }
        CheckResult::Failed(failure) => {
            let hint = privilege_hint(failure.reason, false);
            text.push_str(&format!(" could not be checked: {failure}{hint}\n"));
        }
    }
}

fn render_json(results: &Results<'_>) -> Value {
    let one = |(check, report): &(&Check, Report)| {
        let mut value = json!({
            "check": check.name,
            "about": check.about,
            "severity": check.severity.as_str(),
            "database": check.database,
            "collection": check.collection,
            "result": word(&report.result),
            "violations": report.result.violations(),
            "documents": report.result.documents(),
            "seconds": report.took.as_secs_f64(),
        });
        match &report.result {
            CheckResult::Clean { .. } => {}
            CheckResult::Violated { sample, .. } => {
                value["sample"] = sample.iter().map(extended).collect();
            }
            CheckResult::Failed(failure) => {
                value["reason"] = failure.reason.as_str().into();
                value["message"] = failure.message.clone().into();
            }
        }
        value
    };
    json!({"checks": results.iter().map(one).collect::<Vec<_>>()})
}

fn render_csv(results: &Results<'_>) -> String {
    let mut text = "check,severity,result,violations,reason,document\n".to_owned();
    for (check, report) in results {
        let outcome = &report.result;
        let (reason, documents) = match outcome {
            CheckResult::Clean { .. } => ("", vec![String::new()]),
            CheckResult::Failed(failure) => (failure.reason.as_str(), vec![String::new()]),
            CheckResult::Violated { sample, .. } if sample.is_empty() => ("", vec![String::new()]),
            CheckResult::Violated { sample, .. } => ("", sample.iter().map(line).collect()),
        };
        let violations = outcome.violations().map(|number| number.to_string()).unwrap_or_default();
        for document in documents {
            let document = if document.is_empty() { document } else { quoted(&document) };
            let severity = check.severity.as_str();
            text.push_str(&format!(
                "{},{severity},{},{violations},{reason},{document}\n",
                check.name,
                word(outcome)
            ));
        }
    }
    text
}

/// Quotes a cell of CSV (RFC 4180).
fn quoted(cell: &str) -> String {
    format!("\"{}\"", cell.replace('"', "\"\""))
}
