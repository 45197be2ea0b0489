//! The verdict, for people, for machines, and for a merge request.

use serde_json::{Value, json};
use txnscope_catalog::escape_line;

use crate::checks::table::table;
use crate::verify::books::Span;
use crate::verify::flags::Format;
use crate::verify::report::{Report, Row, percent, seconds};
use txnscope_rollout::{Measure, Outcome};

pub(crate) fn render(format: Format, report: &Report) -> String {
    match format {
        Format::Table => people(report),
        Format::Json => format!("{:#}\n", all(report)),
        Format::Markdown => markdown(report),
    }
}

/// A time for people, in UTC.
pub(crate) fn time(at: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "milliseconds since 1970 are exact in an f64 for 285,000 years"
    )]
    let date = mongodb::bson::DateTime::from_millis((at.round() * 1e3) as i64);
    date.try_to_rfc3339_string().unwrap_or_else(|_| format!("{at:.0}"))
}

fn span(span: Span) -> String {
    format!("{} to {}", time(span.start), time(span.end))
}

const CRITERIA: [&str; 3] = ["", "CRITERION", "EVIDENCE"];
const OPERATIONS: [&str; 9] =
    ["OPERATION", "PER SECOND", "FAILED", "P50", "P95", "P99", "ATTEMPTS EACH", "ABORTED", "CONFLICTS"];

/// How much of the time before there is data of, where that is not all.
fn history(report: &Report) -> String {
    if report.baseline >= 0.995 {
        return String::new();
    }
    format!(" (data for {} of it)", percent(report.baseline))
}

fn criteria(report: &Report) -> Vec<Vec<String>> {
    let rows = report.criteria.iter().map(|criterion| {
        vec![criterion.verdict.as_str().to_owned(), criterion.what.clone(), criterion.evidence.clone()]
    });
    [CRITERIA.map(str::to_owned).to_vec()].into_iter().chain(rows).collect()
}

/// What is known to be worse has a `!`, what cannot be judged a `?`.
fn operations(report: &Report) -> Vec<Vec<String>> {
    let rows = report.rows.iter().map(|row| one(report, row));
    [OPERATIONS.map(str::to_owned).to_vec()].into_iter().chain(rows).collect()
}

fn one(report: &Report, row: &Row) -> Vec<String> {
    let (before, after) = (row.operation.before(), &row.operation.after);
    let pair = |was: Option<f64>, is: Option<f64>, shown: fn(f64) -> String| {
        let one = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), shown);
        if was.is_none() && is.is_none() { "-".to_owned() } else { format!("{} → {}", one(was), one(is)) }
    };
    let claimed = |measure: Measure, shown: fn(f64) -> String| {
        let Some(comparison) = row.comparison(measure) else { return "-".to_owned() };
        let mark = match comparison.outcome {
            Outcome::NotWorse => "",
            Outcome::Regressed => " !",
            Outcome::Inconclusive => " ?",
        };
        format!("{}{mark}", pair(comparison.before, comparison.after, shown))
    };
    let ratio = |hits: f64, of: f64| (of > 0.5).then(|| hits / of);
    let rate = |count: f64, span: Span| Some(count / span.seconds().max(1.0));
    let plain = |number: f64| format!("{number:.2}");
    vec![
        row.operation.name.clone(),
        pair(rate(before.ended, report.before), rate(after.ended, report.after), plain),
        claimed(Measure::Failures, percent),
        claimed(Measure::Latency(0.5), seconds),
        claimed(Measure::Latency(0.95), seconds),
        claimed(Measure::Latency(0.99), seconds),
        pair(ratio(before.started, before.ended), ratio(after.started, after.ended), plain),
        pair(ratio(before.aborted, before.started), ratio(after.aborted, after.started), percent),
        claimed(Measure::Conflicts, percent),
    ]
}

fn people(report: &Report) -> String {
    format!(
        "before  {}{}\nafter   {}\n\n{}\n{}\n! worse beyond chance and beyond the limit; ? too little traffic to say\n\n{}\n",
        span(report.before),
        history(report),
        span(report.after),
        table(&operations(report)),
        table(&criteria(report)),
        report.verdict().as_str().to_uppercase()
    )
}

fn markdown(report: &Report) -> String {
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
        "**{}**: {} compared with {}{}\n\n{}\n{}\n`!` worse beyond chance and beyond the limit; `?` too little traffic to say\n",
        report.verdict().as_str().to_uppercase(),
        span(report.after),
        span(report.before),
        history(report),
        grid(criteria(report)),
        grid(operations(report)),
    )
}

/// A text as Markdown shows it: no HTML, no link, no picture, nobody who is mentioned, whoever has named the operation.
fn literal(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in escape_line(cell).chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            // What is a link, a person or an issue to some hosts even behind a backslash.
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

fn all(report: &Report) -> Value {
    let criterion = |criterion: &crate::verify::report::Criterion| {
        json!({
            "criterion": criterion.what,
            "verdict": criterion.verdict.as_str(),
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
            let judged = match comparison.outcome {
                Outcome::NotWorse => "same",
                Outcome::Regressed => "worse",
                Outcome::Inconclusive => "unknown",
            };
            json!({"measure": measure, "before": comparison.before, "after": comparison.after, "p": comparison.p, "judged": judged})
        });
        let comparisons = comparisons.collect::<Vec<_>>();
        let counts = |stretch: &txnscope_rollout::WindowCounts| {
            json!({
                "ended": stretch.ended,
                "failed": stretch.failed,
                "attempts": stretch.started,
                "aborted": stretch.aborted,
                "conflicts": stretch.conflicts,
            })
        };
        json!({
            "operation": row.operation.name,
            "verdict": row.verdict().as_str(),
            "before": counts(&before),
            "after": counts(after),
            "judged": comparisons,
        })
    };
    let span = |span: Span| json!({"start": time(span.start), "end": time(span.end)});
    json!({
        "verdict": report.verdict().as_str(),
        "before": span(report.before),
        "after": span(report.after),
        "baseline_with_data": report.baseline,
        "criteria": report.criteria.iter().map(criterion).collect::<Vec<_>>(),
        "operations": report.rows.iter().map(operation).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_named_is_text_in_markdown() {
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
