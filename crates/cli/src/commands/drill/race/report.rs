//! The report of a race test as a table and as JSON.

use serde_json::{Value, json};

use crate::commands::drill::args::{Format, RaceArgs};
use crate::commands::drill::race::burst::{ReplyCounts, ReplyKind};
use crate::commands::drill::race::{RaceEnvironment, RaceResult, ScenarioReport};
use crate::output::{grouped, table};

/// The maximum number of lines of evidence for one scenario in a table.
const MAX_EVIDENCE: usize = 6;

pub(super) fn render(
    args: &RaceArgs,
    env: &RaceEnvironment,
    reports: &[ScenarioReport],
    result: RaceResult,
) -> String {
    match args.output {
        Format::Table => render_text(env, reports, result),
        Format::Json => format!("{:#}\n", render_json(args, env, reports, result)),
    }
}

fn render_text(env: &RaceEnvironment, reports: &[ScenarioReport], result: RaceResult) -> String {
    let head = ["SCENARIO", "ROUNDS", "REQUESTS", "RESULT", "RESPONSES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for report in reports {
        rows.push(vec![
            report.name.clone(),
            report.rounds.to_string(),
            grouped(report.findings.replies.total()),
            report.result().as_str().to_owned(),
            render_replies(&report.findings.replies),
        ]);
    }
    let mut text = table(&rows);
    for report in reports.iter().filter(|report| report.result() != RaceResult::Passed) {
        text.push_str(&format!("\n{}: {}\n", report.name, report.invariant));
        let findings = &report.findings;
        let evidence: Vec<_> =
            findings.violations.iter().chain(&findings.uncertainties).chain(&report.not_offered).collect();
        evidence.iter().take(MAX_EVIDENCE).for_each(|line| text.push_str(&format!("  {line}\n")));
        let left = evidence.len().saturating_sub(MAX_EVIDENCE);
        if left > 0 {
            text.push_str(&format!("  … and {left} more; --output=json prints all\n"));
        }
    }
    let missing = reports.iter().filter(|report| report.not_offered.is_some()).count();
    let missing = match missing {
        0 => String::new(),
        _ if result == RaceResult::NotOffered => {
            ": the backend has the routes of none of these scenarios".to_owned()
        }
        missing => format!(", {missing} not offered"),
    };
    text.push_str(&format!("\n{}{missing}; the data of this run is marked {}\n", result.as_str(), env.mark));
    text
}

/// `4 × 200, 36 × 400 Insufficient balance`
fn render_replies(replies: &ReplyCounts) -> String {
    let render = |(ReplyKind { status, text }, count): (&ReplyKind, &u64)| {
        let status = status.map_or_else(String::new, |status| status.to_string());
        let text = text.as_deref().unwrap_or_default();
        format!("{} × {}", grouped(*count), [status.as_str(), text].join(" ").trim())
    };
    replies.0.iter().map(render).collect::<Vec<_>>().join(", ")
}

fn render_json(
    args: &RaceArgs,
    env: &RaceEnvironment,
    reports: &[ScenarioReport],
    result: RaceResult,
) -> Value {
    let one = |report: &ScenarioReport| {
        let responses = report.findings.replies.0.iter();
        let responses: Vec<_> = responses
            .map(|(kind, count)| json!({"status": kind.status, "text": kind.text, "count": count}))
            .collect();
        let mut scenario = json!({
            "scenario": report.name,
            "about": report.invariant,
            "result": report.result().as_str(),
            "rounds": report.rounds,
            "requests": report.findings.replies.total(),
            "responses": responses,
            "violations": report.findings.violations,
            "uncertainties": report.findings.uncertainties,
        });
        if let Some(reason) = &report.not_offered {
            scenario["not_offered"] = reason.as_str().into();
        }
        scenario
    };
    json!({
        "url": env.backend.display_address(),
        "mark": env.mark,
        "concurrency": env.n,
        "rounds": args.rounds,
        "result": result.as_str(),
        "scenarios": reports.iter().map(one).collect::<Vec<_>>(),
    })
}
