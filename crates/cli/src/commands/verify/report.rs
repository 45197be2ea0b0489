//! The success criteria of a rollout, each with its decision and its evidence.

use txnscope_checks::{Check, Report as CheckReport};
use txnscope_rollout::{Comparison, Limits, Measure, Operation, Outcome, analyze, compare};

use super::criteria::{CONFLICTS, FAILURES, LATENCY, TRAFFIC, conflicts, data, failures, latency, traffic};
use super::traffic::{TimeRange, TrafficCounts};

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
    /// The comparisons of one operation, or of one server.
    fn of(operation: &Operation, all: &[Comparison]) -> Self {
        let own = all.iter().filter(|comparison| comparison.operation == operation.name);
        Self { operation: operation.clone(), comparisons: own.cloned().collect() }
    }

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
    let rows: Vec<Row> = counts.operations.iter().map(|operation| Row::of(operation, &all)).collect();
    let pool = pool.as_ref().map(|pool| Row::of(pool, &all));

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
    let rows: Vec<Row> = counts.servers.iter().map(|server| Row::of(server, &all)).collect();
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
