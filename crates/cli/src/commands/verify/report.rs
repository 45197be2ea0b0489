//! The success criteria of a rollout, each with its decision and its evidence.

use txnscope_checks::{Check, Report as CheckReport, Verdict as CheckOutcome};

use crate::commands::verify::traffic::{TimeRange, TrafficCounts};
use crate::output::grouped;
use txnscope_rollout::{Comparison, Limits, Measure, Operation, Outcome, analyze, compare};

/// The share of the traffic that must be compared for a go, before and after the deployment.
const MIN_COVERAGE: f64 = 0.95;
/// An operation with this many expected calls and no actual one has disappeared.
const DISAPPEARED: f64 = 50.0;

/// The decision of a criterion, or of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    /// The criterion was not checked, since it does not apply or an argument is missing.
    Skipped,
    /// The criterion is met.
    Go,
    /// The data is not sufficient.
    Inconclusive,
    /// The criterion is not met.
    NoGo,
}

impl Decision {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "-",
            Self::Go => "go",
            Self::Inconclusive => "inconclusive",
            Self::NoGo => "no-go",
        }
    }
}

/// A success criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Criterion {
    pub(crate) name: String,
    pub(crate) decision: Decision,
    pub(crate) evidence: String,
}

/// An operation with its comparisons.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) operation: Operation,
    pub(crate) comparisons: Vec<Comparison>,
}

impl Row {
    /// The decision about the operation: a go requires that all comparisons are not worse.
    pub(crate) fn decision(&self) -> Decision {
        if self.comparisons.iter().any(|comparison| comparison.outcome == Outcome::Regressed) {
            Decision::NoGo
        } else if self.comparisons.iter().all(|comparison| comparison.outcome == Outcome::NotWorse) {
            Decision::Go
        } else {
            Decision::Inconclusive
        }
    }

    pub(crate) fn comparison(&self, measure: Measure) -> Option<&Comparison> {
        self.comparisons.iter().find(|comparison| comparison.measure == measure)
    }
}

/// The report of a rollout analysis.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) before: TimeRange,
    pub(crate) after: TimeRange,
    pub(crate) criteria: Vec<Criterion>,
    pub(crate) rows: Vec<Row>,
    /// The share of the baseline that has data.
    pub(crate) baseline: f64,
}

impl Report {
    pub(crate) fn decision(&self) -> Decision {
        self.criteria.iter().map(|criterion| criterion.decision).max().unwrap_or(Decision::Inconclusive)
    }
}

/// The results of the checks on the data.
pub(crate) type Audit = Vec<(Check, CheckReport)>;

/// Decides all criteria. `limits.alpha` is the significance level of all comparisons together.
pub(crate) fn report(
    (before, after): (TimeRange, TimeRange),
    counts: &TrafficCounts,
    limits: &Limits,
    audit: Option<&Audit>,
) -> Report {
    if counts.operations.is_empty() && counts.missing_labels.is_empty() && !counts.servers.is_empty() {
        return report_on_servers((before, after), counts, limits, audit);
    }
    let mut all = compare(&counts.bounds, &counts.operations, limits);
    analyze(&mut all, limits.alpha);
    let rare = |name: &str| {
        all.iter().any(|comparison| {
            comparison.operation == name
                && comparison.measure == Measure::Failures
                && comparison.outcome == Outcome::Inconclusive
        })
    };
    let rare: Vec<&Operation> = counts.operations.iter().filter(|operation| rare(&operation.name)).collect();
    let pool = pool_rare_operations(&rare);
    if let Some(pool) = &pool {
        // Durations of different operations are not pooled: a changed mix would look like changed latency.
        let of_pool = compare(&counts.bounds, std::slice::from_ref(pool), limits);
        all.extend(of_pool.into_iter().filter(|comparison| comparison.measure == Measure::Failures));
        analyze(&mut all, limits.alpha);
    }
    let of = |operation: &Operation| Row {
        operation: operation.clone(),
        comparisons: all
            .iter()
            .filter(|comparison| comparison.operation == operation.name)
            .cloned()
            .collect(),
    };
    let rows: Vec<Row> = counts.operations.iter().map(of).collect();
    let pool = pool.as_ref().map(of);

    let mut criteria = Vec::new();
    data(&mut criteria, audit);
    criteria.push(failures(&rows, pool.as_ref()));
    criteria.push(latency(&rows));
    criteria.push(conflicts(&rows));
    criteria.push(traffic(&rows, before, after));
    if !counts.missing_labels.is_empty() {
        mark_missing_labels(&mut criteria, counts);
    }
    Report { before, after, criteria, rows, baseline: counts.baseline }
}

/// Makes criteria inconclusive if labels are missing: some operations were not compared, and without an outcome no failure
/// is visible.
fn mark_missing_labels(criteria: &mut [Criterion], counts: &TrafficCounts) {
    let labels: Vec<&str> = counts.missing_labels.iter().copied().collect();
    let evidence = format!(
        "series of transaction_duration_seconds or mongodb_client_* lack the label {}: export it as documented in docs/metrics.md",
        labels.join(" and ")
    );
    for criterion in criteria {
        let is_about_traffic = [FAILURES, LATENCY, CONFLICTS, TRAFFIC].contains(&criterion.name.as_str());
        if is_about_traffic && criterion.decision != Decision::NoGo {
            criterion.decision = Decision::Inconclusive;
            criterion.evidence.clone_from(&evidence);
        }
    }
}

/// The report from the servers' counters, if no backend exports the callers' metrics: compares the share of aborted
/// transactions.
fn report_on_servers(
    (before, after): (TimeRange, TimeRange),
    counts: &TrafficCounts,
    limits: &Limits,
    audit: Option<&Audit>,
) -> Report {
    let mut all = compare(&counts.bounds, &counts.servers, limits);
    all.retain(|comparison| comparison.measure == Measure::Conflicts);
    analyze(&mut all, limits.alpha);
    let of = |operation: &Operation| Row {
        operation: operation.clone(),
        comparisons: all
            .iter()
            .filter(|comparison| comparison.operation == operation.name)
            .cloned()
            .collect(),
    };
    let rows: Vec<Row> = counts.servers.iter().map(of).collect();
    let mut criteria = Vec::new();
    data(&mut criteria, audit);
    criteria.extend([FAILURES, LATENCY].map(|name| Criterion {
        name: name.to_owned(),
        decision: Decision::Skipped,
        evidence: "not checked: no backend exports transaction_duration_seconds".to_owned(),
    }));
    let mut aborts = conflicts(&rows);
    "Share of aborted transactions (server counters)".clone_into(&mut aborts.name);
    // Without transactions before or after, there is no share to compare.
    if aborts.decision == Decision::Skipped {
        (aborts.decision, aborts.evidence) =
            (Decision::Inconclusive, "no transaction ended on the servers before the deployment".to_owned());
    } else if aborts.decision == Decision::Go {
        aborts.evidence = aborts.evidence.replace("the write-conflict rate is", "the share of aborts is");
    }
    criteria.push(aborts);
    Report { before, after, criteria, rows, baseline: counts.baseline }
}

const FAILURES: &str = "Failure rate";
const LATENCY: &str = "Latency";
const CONFLICTS: &str = "Write-conflict rate";
const TRAFFIC: &str = "Traffic";

/// The sum of the operations that have too little traffic for a comparison of their own.
fn pool_rare_operations(rare: &[&Operation]) -> Option<Operation> {
    let slices = rare.iter().map(|operation| operation.slices.len()).max()?;
    if rare.len() < 2 {
        return None;
    }
    let mut pool =
        Operation { name: format!("{} rare operations together", rare.len()), ..Operation::default() };
    pool.slices.resize_with(slices, Default::default);
    for operation in rare {
        pool.slices.iter_mut().zip(&operation.slices).for_each(|(sum, slice)| sum.add(slice));
        pool.after.add(&operation.after);
    }
    Some(pool)
}

fn data(criteria: &mut Vec<Criterion>, audit: Option<&Audit>) {
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
        let (decision, evidence) = match &run.verdict {
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

fn failures(rows: &[Row], pool: Option<&Row>) -> Criterion {
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

fn latency(rows: &[Row]) -> Criterion {
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

fn conflicts(rows: &[Row]) -> Criterion {
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

fn traffic(rows: &[Row], before: TimeRange, after: TimeRange) -> Criterion {
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

#[cfg(test)]
mod tests {
    use super::*;
    use txnscope_rollout::WindowCounts;

    const LIMITS: Limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };
    const BEFORE: TimeRange = TimeRange { start: 0.0, end: 36_000.0 };
    const AFTER: TimeRange = TimeRange { start: 36_000.0, end: 39_600.0 };

    fn operation(name: &str, before: f64, after: f64, failed: f64) -> Operation {
        let window = |ended: f64, failed: f64| WindowCounts {
            ended,
            failed,
            cumulative: vec![ended * 0.999, ended, ended],
            ..WindowCounts::default()
        };
        Operation {
            name: name.to_owned(),
            slices: vec![window(before, 0.0); 10],
            after: window(after, failed),
        }
    }

    fn decide_on(operations: Vec<Operation>) -> (Decision, String) {
        let counts =
            TrafficCounts { bounds: vec![0.1, 1.0], operations, baseline: 1.0, ..TrafficCounts::default() };
        let report = report((BEFORE, AFTER), &counts, &LIMITS, None);
        (report.decision(), format!("{:#?}", report.criteria))
    }

    #[test]
    fn go_requires_a_comparison_of_most_traffic() {
        let busy = operation("busy", 10_000.0, 10_000.0, 3.0);
        assert_eq!(decide_on(vec![busy.clone()]).0, Decision::Go);
        let rare = operation("rare", 3.0, 3.0, 0.0);
        assert_eq!(
            decide_on(vec![busy.clone(), rare]).0,
            Decision::Go,
            "a small share of the traffic need not be compared"
        );
        let half = operation("half", 100.0, 8_000.0, 0.0);
        let new = Operation { slices: Vec::new(), ..half };
        let (decision, evidence) = decide_on(vec![busy.clone(), new]);
        assert_eq!(decision, Decision::Inconclusive, "{evidence}");
        assert!(evidence.contains("not enough traffic: 55.56 %"), "{evidence}");
        let (decision, evidence) = decide_on(vec![busy, operation("gone", 2_000.0, 0.0, 0.0)]);
        assert_eq!(decision, Decision::Inconclusive, "{evidence}");
        assert!(evidence.contains("gone was not called, and about 2000 calls"), "{evidence}");
        assert_eq!(decide_on(Vec::new()).0, Decision::Inconclusive);
    }

    #[test]
    fn rare_operations_are_pooled() {
        let busy = operation("busy", 10_000.0, 10_000.0, 3.0);
        let many =
            |failed: f64| (0..40).map(move |index| operation(&format!("rare {index}"), 50.0, 50.0, failed));
        let (decision, evidence) = decide_on(many(4.0).chain([busy.clone()]).collect());
        assert_eq!(decision, Decision::NoGo, "{evidence}");
        assert!(evidence.contains("40 rare operations together: failed 0.00 % → 8.00 %"), "{evidence}");
        let (_, evidence) = decide_on(many(0.0).chain([busy]).collect());
        assert!(evidence.contains("100.00 % of the traffic compared"), "{evidence}");
    }

    #[test]
    fn server_counters_are_compared_without_callers_metrics() {
        let set = |after: f64| {
            let window = |started: f64, aborted: f64| WindowCounts {
                started,
                aborted,
                conflicts: aborted,
                ..WindowCounts::default()
            };
            Operation {
                name: "replica set rs0".to_owned(),
                slices: vec![window(10_000.0, 100.0); 10],
                after: window(10_000.0, after),
            }
        };
        let report_on = |servers: Vec<Operation>| {
            let counts = TrafficCounts { servers, baseline: 1.0, ..TrafficCounts::default() };
            report((BEFORE, AFTER), &counts, &LIMITS, None)
        };
        assert_eq!(report_on(vec![set(120.0)]).decision(), Decision::Go);
        let worse = report_on(vec![set(4_000.0)]);
        assert_eq!(worse.decision(), Decision::NoGo, "{:#?}", worse.criteria);
        assert_eq!(report_on(Vec::new()).decision(), Decision::Inconclusive);
        let mut few = set(0.0);
        few.slices.iter_mut().for_each(|slice| slice.started = 0.0);
        assert_eq!(report_on(vec![few]).decision(), Decision::Inconclusive);
    }

    #[test]
    fn missing_label_is_inconclusive() {
        let operations = vec![operation("busy", 10_000.0, 10_000.0, 3.0)];
        let counts = TrafficCounts {
            bounds: vec![0.1, 1.0],
            operations,
            missing_labels: ["outcome"].into(),
            baseline: 1.0,
            ..TrafficCounts::default()
        };
        let report = report((BEFORE, AFTER), &counts, &LIMITS, None);
        assert_eq!(report.decision(), Decision::Inconclusive);
        assert!(report.criteria[1].evidence.contains("lack the label outcome"), "{:#?}", report.criteria);
    }
}
