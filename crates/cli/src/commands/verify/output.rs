//! The report as a table, as JSON and as Markdown.

use serde_json::{Value, json};
use txnscope_catalog::escape_line;

use crate::commands::verify::args::Format;
use crate::commands::verify::criteria::{percent, seconds};
use crate::commands::verify::report::{Criterion, Report, Row};
use crate::commands::verify::traffic::TimeRange;
use crate::output::table;
use txnscope_rollout::{Measure, Outcome, WindowCounts};

pub(crate) fn render(format: Format, report: &Report) -> String {
    match format {
        Format::Table => render_text(report),
        Format::Json => format!("{:#}\n", render_json(report)),
        Format::Markdown => render_markdown(report),
    }
}

/// Formats a time in UTC.
pub(crate) fn time(at: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "exact until the year 287396")]
    let date = mongodb::bson::DateTime::from_millis((at.round() * 1e3) as i64);
    date.try_to_rfc3339_string().unwrap_or_else(|_| format!("{at:.0}"))
}

fn time_range(range: TimeRange) -> String {
    format!("{} to {}", time(range.start), time(range.end))
}

const CRITERIA: [&str; 3] = ["", "CRITERION", "EVIDENCE"];
const OPERATIONS: [&str; 9] =
    ["OPERATION", "PER SECOND", "FAILED", "P50", "P95", "P99", "ATTEMPTS EACH", "ABORTED", "CONFLICTS"];

/// The share of the baseline that has data, if that is not all of it.
fn baseline_coverage(report: &Report) -> String {
    if report.baseline >= 0.995 {
        return String::new();
    }
    format!(" (data for {} of it)", percent(report.baseline))
}

fn criteria(report: &Report) -> Vec<Vec<String>> {
    let rows = report.criteria.iter().map(|criterion| {
        vec![criterion.decision.as_str().to_owned(), criterion.name.clone(), criterion.evidence.clone()]
    });
    [CRITERIA.map(str::to_owned).to_vec()].into_iter().chain(rows).collect()
}

/// The table of operations. `!` marks a regression, `?` an inconclusive comparison.
fn operations(report: &Report) -> Vec<Vec<String>> {
    let rows = report.rows.iter().map(|row| one(report, row));
    [OPERATIONS.map(str::to_owned).to_vec()].into_iter().chain(rows).collect()
}

fn one(report: &Report, row: &Row) -> Vec<String> {
    let (before, after) = (row.operation.before(), &row.operation.after);
    let pair = |was: Option<f64>, is: Option<f64>, format: fn(f64) -> String| {
        let one = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), format);
        if was.is_none() && is.is_none() { "-".to_owned() } else { format!("{} → {}", one(was), one(is)) }
    };
    let compared = |measure: Measure, format: fn(f64) -> String| {
        let Some(comparison) = row.comparison(measure) else { return "-".to_owned() };
        let mark = match comparison.outcome {
            Outcome::NotWorse => "",
            Outcome::Regressed => " !",
            Outcome::Inconclusive => " ?",
        };
        format!("{}{mark}", pair(comparison.before, comparison.after, format))
    };
    let ratio = |hits: f64, of: f64| (of > 0.5).then(|| hits / of);
    let rate = |count: f64, span: TimeRange| Some(count / span.seconds().max(1.0));
    let plain = |number: f64| format!("{number:.2}");
    vec![
        row.operation.name.clone(),
        pair(rate(before.ended, report.before), rate(after.ended, report.after), plain),
        compared(Measure::Failures, percent),
        compared(Measure::Latency(0.5), seconds),
        compared(Measure::Latency(0.95), seconds),
        compared(Measure::Latency(0.99), seconds),
        pair(ratio(before.started, before.ended), ratio(after.started, after.ended), plain),
        pair(ratio(before.aborted, before.started), ratio(after.aborted, after.started), percent),
        compared(Measure::Conflicts, percent),
    ]
}

fn render_text(report: &Report) -> String {
    format!(
        "before  {}{}\nafter   {}\n\n{}\n{}\n! significantly worse and beyond the limit; ? too little traffic\n\n{}\n",
        time_range(report.before),
        baseline_coverage(report),
        time_range(report.after),
        table(&operations(report)),
        table(&criteria(report)),
        report.decision().as_str().to_uppercase()
    )
}

fn render_markdown(report: &Report) -> String {
    let grid = |rows: Vec<Vec<String>>| {
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().map(|cell| literal(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = format!("|{}\n", " --- |".repeat(rows.first().map_or(0, Vec::len)));
        let head: String = rows.iter().take(1).map(line).collect();
        let body: String = rows.iter().skip(1).map(line).collect();
        head + &rule + &body
    };
    format!(
        "**{}**: {} compared with {}{}\n\n{}\n{}\n`!` significantly worse and beyond the limit; `?` too little traffic\n",
        report.decision().as_str().to_uppercase(),
        time_range(report.after),
        time_range(report.before),
        baseline_coverage(report),
        grid(criteria(report)),
        grid(operations(report)),
    )
}

/// Escapes a text for Markdown, so that it contains no HTML, link, image or mention. Operation names are not trusted.
fn literal(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in escape_line(cell).chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            // Some hosts recognize links, mentions and issues even after a backslash.
            '@' => text.push_str("&#64;"),
            '#' => text.push_str("&#35;"),
            ':' => text.push_str("&#58;"),
            '\\' | '`' | '*' | '_' | '~' | '|' | '[' | ']' | '!' | '$' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    // The one form of a link that needs no colon.
    text.replace("www.", "www&#46;").replace("WWW.", "WWW&#46;")
}

fn render_json(report: &Report) -> Value {
    let criterion = |criterion: &Criterion| {
        json!({
            "criterion": criterion.name,
            "decision": criterion.decision.as_str(),
            "evidence": criterion.evidence,
        })
    };
    let operation = |row: &Row| {
        let (before, after) = (row.operation.before(), &row.operation.after);
        let comparisons = row.comparisons.iter().map(|comparison| {
            let measure = match comparison.measure {
                Measure::Failures => "failures".to_owned(),
                Measure::Latency(q) => format!("p{:.0}", q * 100.0),
                Measure::Conflicts => "conflicts".to_owned(),
            };
            let outcome = match comparison.outcome {
                Outcome::NotWorse => "not_worse",
                Outcome::Regressed => "regressed",
                Outcome::Inconclusive => "inconclusive",
            };
            json!({"measure": measure, "before": comparison.before, "after": comparison.after, "p": comparison.p, "outcome": outcome})
        });
        let comparisons = comparisons.collect::<Vec<_>>();
        let counts = |window: &WindowCounts| {
            json!({
                "ended": window.ended,
                "failed": window.failed,
                "attempts": window.started,
                "aborted": window.aborted,
                "conflicts": window.conflicts,
            })
        };
        json!({
            "operation": row.operation.name,
            "decision": row.decision().as_str(),
            "before": counts(&before),
            "after": counts(after),
            "comparisons": comparisons,
        })
    };
    let range = |range: TimeRange| json!({"start": time(range.start), "end": time(range.end)});
    json!({
        "decision": report.decision().as_str(),
        "before": range(report.before),
        "after": range(report.after),
        "baseline_with_data": report.baseline,
        "criteria": report.criteria.iter().map(criterion).collect::<Vec<_>>(),
        "operations": report.rows.iter().map(operation).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_names_are_escaped_in_markdown() {
        for (cell, text) in [
            ("POST /api/retainers/{id}/consume", "POST /api/retainers/{id}/consume"),
            ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
            ("a | b\\|", "a \\| b\\\\\\|"),
            ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
            ("[a](http://b) ![c](//d)", "\\[a\\](http&#58;//b) \\!\\[c\\](//d)"),
            ("`a` *b* _c_ ~d~ $e$", "\\`a\\` \\*b\\* \\_c\\_ \\~d\\~ \\$e\\$"),
            ("@all #1 www.a.b mailto:a@b", "&#64;all &#35;1 www&#46;a.b mailto&#58;a&#64;b"),
            ("a\nb\u{1b}[2J\u{202e}", "a\\\\nb\\\\u001b\\[2J\\\\u202e"),
        ] {
            assert_eq!(literal(cell), text);
        }
    }
}
