//! The success criteria of a rollout.

use txnscope_checks::CheckResult as CheckOutcome;
use txnscope_rollout::{Comparison, Measure, Operation, Outcome};

use super::report::{Audit, Criterion, Decision, Row};
use super::traffic::TimeRange;
use crate::output::grouped;

/// The share of the traffic that must be compared for a go, before and after the deployment.
const MIN_COVERAGE: f64 = 0.95;
/// An operation with this many expected calls and no actual one has disappeared.
const DISAPPEARED: f64 = 50.0;

pub(super) const FAILURES: &str = "Failure rate";
pub(super) const LATENCY: &str = "Latency";
pub(super) const CONFLICTS: &str = "Write-conflict rate";
pub(super) const TRAFFIC: &str = "Traffic";

pub(super) fn data(criteria: &mut Vec<Criterion>, audit: Option<&Audit>) {
    let Some(audit) = audit else {
        criteria.push(Criterion {
            name: "Data".to_owned(),
            decision: Decision::Skipped,
            evidence: "not checked: --checks.file was not given".to_owned(),
        });
        return;
    };
    for (check, run) in audit {
        let name = if check.about.is_empty() {
            check.name.clone()
        } else {
            check.about.trim_end_matches('.').to_owned()
        };
        let (decision, evidence) = match &run.result {
            // An empty collection proves nothing, since its name may be misspelled, unless the check allows it to be missing.
            CheckOutcome::Clean { documents: 0 } if !check.may_be_missing => (
                Decision::Inconclusive,
                format!("{}: {} has no documents, so nothing was checked", check.name, check.collection),
            ),
            CheckOutcome::Clean { documents } => {
                (Decision::Go, format!("{}: no violations in {} documents", check.name, grouped(*documents)))
            }
            CheckOutcome::Violated { count, .. } => (
                Decision::NoGo,
                format!("{}: {} violations; `txnscope audit` lists them", check.name, grouped(*count)),
            ),
            CheckOutcome::Failed(failure) => {
                // The summary quotes no document, since reports are published in pipelines and merge requests.
                (Decision::Inconclusive, format!("{}: unknown: {}", check.name, failure.summary()))
            }
        };
        criteria.push(Criterion { name, decision, evidence });
    }
}

/// The share of the traffic of some operations, before or after, whichever is smaller.
fn coverage(rows: &[Row], included: impl Fn(&Row) -> bool) -> f64 {
    let part = |of: fn(&Row) -> f64| {
        let all: f64 = rows.iter().map(of).sum();
        let covered: f64 = rows.iter().filter(|row| included(row)).map(of).sum();
        if all > 0.0 { covered / all } else { 0.0 }
    };
    part(|row| row.operation.before().ended).min(part(|row| row.operation.after.ended))
}

fn has_outcome(row: &Row, measure: Measure, outcome: Outcome) -> bool {
    row.comparison(measure).is_some_and(|comparison| comparison.outcome == outcome)
}

pub(super) fn failures(rows: &[Row], pool: Option<&Row>) -> Criterion {
    let name = FAILURES.to_owned();
    let regressions = regressions(rows.iter().chain(pool), |measure| measure == Measure::Failures);
    if !regressions.is_empty() {
        return Criterion { name, decision: Decision::NoGo, evidence: regressions.join("; ") };
    }
    let pool_is_not_worse = pool.is_some_and(|pool| has_outcome(pool, Measure::Failures, Outcome::NotWorse));
    // The pool does not cover an operation that has disappeared or is new.
    let comparable = |row: &Row| {
        row.operation.before().ended > 0.0
            && (row.operation.after.ended > 0.0 || row.operation.before().ended < DISAPPEARED)
    };
    let covered = coverage(rows, |row| {
        has_outcome(row, Measure::Failures, Outcome::NotWorse) || (pool_is_not_worse && comparable(row))
    });
    let share = |of: fn(&Operation) -> (f64, f64)| {
        let (failed, ended) = rows
            .iter()
            .map(|row| of(&row.operation))
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if ended > 0.0 { failed / ended } else { 0.0 }
    };
    let was = share(|operation| (operation.before().failed, operation.before().ended));
    let is = share(|operation| (operation.after.failed, operation.after.ended));
    decide(name, covered, &format!("{} → {} failed", percent(was), percent(is)))
}

pub(super) fn latency(rows: &[Row]) -> Criterion {
    let name = LATENCY.to_owned();
    let is_latency = |measure| matches!(measure, Measure::Latency(_));
    let regressions = regressions(rows.iter(), is_latency);
    if !regressions.is_empty() {
        return Criterion { name, decision: Decision::NoGo, evidence: regressions.join("; ") };
    }
    let covered = coverage(rows, |row| {
        row.comparisons
            .iter()
            .filter(|comparison| is_latency(comparison.measure))
            .all(|comparison| comparison.outcome == Outcome::NotWorse)
    });
    decide(name, covered, "p50, p95 and p99 of successful operations are within the limit")
}

pub(super) fn conflicts(rows: &[Row]) -> Criterion {
    let name = CONFLICTS.to_owned();
    let regressions = regressions(rows.iter(), |measure| measure == Measure::Conflicts);
    if !regressions.is_empty() {
        return Criterion { name, decision: Decision::NoGo, evidence: regressions.join("; ") };
    }
    let is_compared = |row: &Row| row.comparison(Measure::Conflicts).is_some();
    let attempts = |row: &Row| row.operation.before().started;
    let all: f64 = rows.iter().filter(|row| is_compared(row)).map(attempts).sum();
    if all <= 0.0 {
        let evidence =
            "not checked: the transaction runner and the listener counted no attempts before the deployment"
                .to_owned();
        return Criterion { name, decision: Decision::Skipped, evidence };
    }
    let not_worse = rows
        .iter()
        .filter(|row| has_outcome(row, Measure::Conflicts, Outcome::NotWorse))
        .map(attempts)
        .sum::<f64>();
    decide(name, not_worse / all, "the write-conflict rate is within the limit")
}

pub(super) fn traffic(rows: &[Row], before: TimeRange, after: TimeRange) -> Criterion {
    let name = TRAFFIC.to_owned();
    let rate = |count: f64, span: TimeRange| count / span.seconds().max(1.0);
    let disappeared: Vec<String> = rows
        .iter()
        .map(|row| (row, rate(row.operation.before().ended, before) * after.seconds()))
        .filter(|(row, expected)| *expected >= DISAPPEARED && row.operation.after.ended < 0.5)
        .map(|(row, expected)| {
            format!("{} was not called, and about {expected:.0} calls were expected", row.operation.name)
        })
        .collect();
    if !disappeared.is_empty() {
        return Criterion { name, decision: Decision::Inconclusive, evidence: disappeared.join("; ") };
    }
    let sum = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>();
    let (was, is) = (sum(|row| row.operation.before().ended), sum(|row| row.operation.after.ended));
    let decision = if is < 0.5 { Decision::Inconclusive } else { Decision::Go };
    // The sum of an empty iterator is a negative zero.
    let (was, is) = (rate(was, before) + 0.0, rate(is, after) + 0.0);
    let evidence = format!("{was:.2} → {is:.2} operations per second");
    Criterion { name, decision, evidence }
}

fn decide(name: String, covered: f64, evidence: &str) -> Criterion {
    if covered >= MIN_COVERAGE {
        let evidence = format!("{evidence}; {} of the traffic compared", percent(covered));
        return Criterion { name, decision: Decision::Go, evidence };
    }
    Criterion {
        name,
        decision: Decision::Inconclusive,
        evidence: format!(
            "not enough traffic: {} of it can be compared, and {} is required; wait longer, or give a longer --baseline",
            percent(covered),
            percent(MIN_COVERAGE)
        ),
    }
}

fn regressions<'a>(rows: impl Iterator<Item = &'a Row>, about: impl Fn(Measure) -> bool) -> Vec<String> {
    let comparisons = rows.flat_map(|row| &row.comparisons);
    let regressed = comparisons
        .filter(|comparison| about(comparison.measure) && comparison.outcome == Outcome::Regressed);
    regressed.map(describe).collect()
}

/// `POST /pay: p99 80.0 ms → 190.0 ms (p = 0.000010)`
fn describe(comparison: &Comparison) -> String {
    let of = |value: Option<f64>| match comparison.measure {
        Measure::Latency(_) => value.map_or_else(|| "-".to_owned(), seconds),
        Measure::Failures | Measure::Conflicts => value.map_or_else(|| "-".to_owned(), percent),
    };
    let measure = match comparison.measure {
        Measure::Failures => "failed".to_owned(),
        Measure::Latency(q) => format!("p{:.0}", q * 100.0),
        Measure::Conflicts => "conflicts".to_owned(),
    };
    let p = if comparison.p < 1e-6 { "p < 0.000001".to_owned() } else { format!("p = {:.6}", comparison.p) };
    format!("{}: {measure} {} → {} ({p})", comparison.operation, of(comparison.before), of(comparison.after))
}

pub(crate) fn percent(share: f64) -> String {
    // The sum of an empty iterator is a negative zero.
    format!("{:.2} %", share * 100.0 + 0.0)
}

pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
