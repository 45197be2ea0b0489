//! What a race has shown, for people and for machines.

use serde_json::{Value, json};

use crate::checks::table::{grouped, table};
use crate::drill::flags::{Format, RaceFlags};
use crate::drill::race::volley::{Said, Tally};
use crate::drill::race::{Outcome, Stage, Verdict};

/// So many lines of evidence tell what is wrong; more of them tell nothing new.
const MOST_EVIDENCE: usize = 6;

pub(super) fn render(flags: &RaceFlags, stage: &Stage, results: &[Outcome], verdict: Verdict) -> String {
    match flags.output {
        Format::Table => people(stage, results, verdict),
        Format::Json => format!("{:#}\n", all(flags, stage, results, verdict)),
    }
}

fn people(stage: &Stage, results: &[Outcome], verdict: Verdict) -> String {
    let head = ["SCENARIO", "ROUNDS", "REQUESTS", "VERDICT", "ANSWERS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for result in results {
        rows.push(vec![
            result.scenario.name().to_owned(),
            result.rounds.to_string(),
            grouped(result.findings.tally.total()),
            result.verdict().as_str().to_owned(),
            answers(&result.findings.tally),
        ]);
    }
    let mut text = table(&rows);
    for result in results.iter().filter(|result| result.verdict() != Verdict::Proven) {
        text.push_str(&format!("\n{}: {}\n", result.scenario.name(), result.scenario.about(stage.n)));
        let evidence: Vec<_> = result.findings.faults.iter().chain(&result.findings.doubts).collect();
        evidence.iter().take(MOST_EVIDENCE).for_each(|line| text.push_str(&format!("  {line}\n")));
        let left = evidence.len().saturating_sub(MOST_EVIDENCE);
        if left > 0 {
            text.push_str(&format!("  … and {left} more, which --output=json has\n"));
        }
    }
    text.push_str(&format!("\n{}; what it made is marked {}\n", verdict.as_str(), stage.mark));
    text
}

/// `4 × 200, 36 × 400 Insufficient balance`
fn answers(tally: &Tally) -> String {
    let told = |(Said { status, text }, count): (&Said, &u64)| {
        let status = status.map_or_else(String::new, |status| status.to_string());
        let text = text.as_deref().unwrap_or_default();
        format!("{} × {}", grouped(*count), [status.as_str(), text].join(" ").trim())
    };
    tally.0.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn all(flags: &RaceFlags, stage: &Stage, results: &[Outcome], verdict: Verdict) -> Value {
    let one = |result: &Outcome| {
        let answers = result.findings.tally.0.iter();
        let answers: Vec<_> = answers
            .map(|(said, count)| json!({"status": said.status, "text": said.text, "count": count}))
            .collect();
        json!({
            "scenario": result.scenario.name(),
            "about": result.scenario.about(stage.n),
            "verdict": result.verdict().as_str(),
            "rounds": result.rounds,
            "requests": result.findings.tally.total(),
            "answers": answers,
            "faults": result.findings.faults,
            "doubts": result.findings.doubts,
        })
    };
    json!({
        "url": stage.backend.shown(),
        "mark": stage.mark,
        "concurrency": stage.n,
        "rounds": flags.rounds,
        "verdict": verdict.as_str(),
        "scenarios": results.iter().map(one).collect::<Vec<_>>(),
    })
}
