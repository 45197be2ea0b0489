//! From counts to a verdict: the success criteria, each with its evidence.

use txnscope_checks::{Check, CheckResult as Found, Report as Run};

use crate::checks::table::grouped;
use crate::verify::books::{Books, Span};
use txnscope_rollout::{Comparison, Limits, Measure, Operation, Outcome, analyze, compare};

/// So much of the traffic must be judged for a go, both of that before and of that after.
const COVERED: f64 = 0.95;
/// An operation that should have been called so often, and was not once, is gone.
const GONE: f64 = 50.0;

/// How a criterion came out, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Nobody asked, or there is nothing to ask. No more than that.
    Unasked,
    /// As it should be.
    Go,
    /// It cannot be said.
    Inconclusive,
    /// Worse than it was, or wrong.
    NoGo,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unasked => "-",
            Self::Go => "go",
            Self::Inconclusive => "inconclusive",
            Self::NoGo => "no-go",
        }
    }
}

/// One row of the success criteria.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Criterion {
    pub(crate) what: String,
    pub(crate) verdict: Verdict,
    pub(crate) evidence: String,
}

/// One operation, with all that was asked about it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) operation: Operation,
    pub(crate) comparisons: Vec<Comparison>,
}

impl Row {
    /// The worst of its comparisons. It is known to be as it was only if all of them are.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.comparisons.iter().any(|comparison| comparison.outcome == Outcome::Regressed) {
            Verdict::NoGo
        } else if self.comparisons.iter().all(|comparison| comparison.outcome == Outcome::NotWorse) {
            Verdict::Go
        } else {
            Verdict::Inconclusive
        }
    }

    pub(crate) fn comparison(&self, measure: Measure) -> Option<&Comparison> {
        self.comparisons.iter().find(|comparison| comparison.measure == measure)
    }
}

/// All that is said in the end.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) before: Span,
    pub(crate) after: Span,
    pub(crate) criteria: Vec<Criterion>,
    pub(crate) rows: Vec<Row>,
    /// The share of the time before of which there is data.
    pub(crate) baseline: f64,
}

impl Report {
    pub(crate) fn verdict(&self) -> Verdict {
        self.criteria.iter().map(|criterion| criterion.verdict).max().unwrap_or(Verdict::Inconclusive)
    }
}

/// What was found in the data, if it was looked at.
pub(crate) type Audit = Vec<(Check, Run)>;

/// Judges the books, with that level of error for all questions together.
pub(crate) fn report(
    (before, after): (Span, Span),
    books: &Books,
    limits: &Limits,
    audit: Option<&Audit>,
) -> Report {
    if books.operations.is_empty() && books.lacking.is_empty() && !books.servers.is_empty() {
        return of_servers((before, after), books, limits, audit);
    }
    let mut all = compare(&books.bounds, &books.operations, limits);
    analyze(&mut all, limits.alpha);
    let rare = |name: &str| {
        all.iter().any(|comparison| {
            comparison.operation == name
                && comparison.measure == Measure::Failures
                && comparison.outcome == Outcome::Inconclusive
        })
    };
    let rare: Vec<&Operation> = books.operations.iter().filter(|operation| rare(&operation.name)).collect();
    let pool = pooled(&rare);
    if let Some(pool) = &pool {
        // Durations of different operations cannot be pooled: a change of the mix would look like one of speed.
        let of_pool = compare(&books.bounds, std::slice::from_ref(pool), limits);
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
    let rows: Vec<Row> = books.operations.iter().map(of).collect();
    let pool = pool.as_ref().map(of);

    let mut criteria = Vec::new();
    data(&mut criteria, audit);
    criteria.push(failures(&rows, pool.as_ref()));
    criteria.push(latency(&rows));
    criteria.push(conflicts(&rows));
    criteria.push(traffic(&rows, before, after));
    if !books.lacking.is_empty() {
        unlabelled(&mut criteria, books);
    }
    Report { before, after, criteria, rows, baseline: books.baseline }
}

/// What has no label cannot be told apart: whatever was judged good was not all, and without an outcome nothing failed
/// that could be seen.
fn unlabelled(criteria: &mut [Criterion], books: &Books) {
    let labels: Vec<&str> = books.lacking.iter().copied().collect();
    let evidence = format!(
        "series of transaction_duration_seconds or mongodb_client_* are without the label {}: export it as docs/metrics.md has it",
        labels.join(" and ")
    );
    for criterion in criteria {
        let of_traffic = [FAILURES, LATENCY, CONFLICTS, TRAFFIC].contains(&criterion.what.as_str());
        if of_traffic && criterion.verdict != Verdict::NoGo {
            criterion.verdict = Verdict::Inconclusive;
            criterion.evidence.clone_from(&evidence);
        }
    }
}

/// Where no backend exports the callers' metrics, the servers' counters are all there is: whether more of the
/// transactions abort than before.
fn of_servers(
    (before, after): (Span, Span),
    books: &Books,
    limits: &Limits,
    audit: Option<&Audit>,
) -> Report {
    let mut all = compare(&books.bounds, &books.servers, limits);
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
    let rows: Vec<Row> = books.servers.iter().map(of).collect();
    let mut criteria = Vec::new();
    data(&mut criteria, audit);
    criteria.extend([FAILURES, LATENCY].map(|what| Criterion {
        what: what.to_owned(),
        verdict: Verdict::Unasked,
        evidence: "not looked at: no backend exports transaction_duration_seconds".to_owned(),
    }));
    let mut aborts = conflicts(&rows);
    "Transactions commit as before, by the servers' counters".clone_into(&mut aborts.what);
    // Of nothing before, or nothing after, there is no share to compare.
    if aborts.verdict == Verdict::Unasked {
        (aborts.verdict, aborts.evidence) =
            (Verdict::Inconclusive, "no transaction ended on the servers before".to_owned());
    } else if aborts.verdict == Verdict::Go {
        aborts.evidence = aborts.evidence.replace("write conflicts are", "the share of aborts is");
    }
    criteria.push(aborts);
    Report { before, after, criteria, rows, baseline: books.baseline }
}

const FAILURES: &str = "Error rates have not increased";
const LATENCY: &str = "Response times are acceptable";
const CONFLICTS: &str = "Concurrent operations get along";
const TRAFFIC: &str = "Operations are called as before";

/// Those with too little traffic of their own, as one.
fn pooled(rare: &[&Operation]) -> Option<Operation> {
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
            what: "The data is right".to_owned(),
            verdict: Verdict::Unasked,
            evidence: "not looked at: --checks was not given".to_owned(),
        });
        return;
    };
    for (check, run) in audit {
        let what = if check.about.is_empty() {
            check.name.clone()
        } else {
            check.about.trim_end_matches('.').to_owned()
        };
        let (verdict, evidence) = match &run.result {
            // Of an empty collection nothing is known: a name may be mistyped, unless the check says that it may be missing.
            Found::Clean { documents: 0 } if !check.may_be_missing => (
                Verdict::Inconclusive,
                format!("{}: nothing was read: {} has no documents", check.name, check.collection),
            ),
            Found::Clean { documents } => {
                (Verdict::Go, format!("{}: none in {} documents", check.name, grouped(*documents)))
            }
            Found::Violated { count, .. } => (
                Verdict::NoGo,
                format!("{}: {} violations; `txnscope audit` shows them", check.name, grouped(*count)),
            ),
            Found::Failed(failure) => {
                // A report goes into pipelines and merge requests: it quotes no document.
                (Verdict::Inconclusive, format!("{}: not known: {}", check.name, failure.summary()))
            }
        };
        criteria.push(Criterion { what, verdict, evidence });
    }
}

/// Which part of the traffic those operations are, before and after: the smaller.
fn covered(rows: &[Row], judged: impl Fn(&Row) -> bool) -> f64 {
    let part = |of: fn(&Row) -> f64| {
        let all: f64 = rows.iter().map(of).sum();
        let judged: f64 = rows.iter().filter(|row| judged(row)).map(of).sum();
        if all > 0.0 { judged / all } else { 0.0 }
    };
    part(|row| row.operation.before().ended).min(part(|row| row.operation.after.ended))
}

fn is(row: &Row, measure: Measure, judged: Outcome) -> bool {
    row.comparison(measure).is_some_and(|comparison| comparison.outcome == judged)
}

fn failures(rows: &[Row], pool: Option<&Row>) -> Criterion {
    let what = FAILURES.to_owned();
    let worse = worse(rows.iter().chain(pool), |measure| measure == Measure::Failures);
    if !worse.is_empty() {
        return Criterion { what, verdict: Verdict::NoGo, evidence: worse.join("; ") };
    }
    let pool_is_judged = pool.is_some_and(|pool| is(pool, Measure::Failures, Outcome::NotWorse));
    // An operation that is gone, or new, hides in no pool.
    let comparable = |row: &Row| {
        row.operation.before().ended > 0.0
            && (row.operation.after.ended > 0.0 || row.operation.before().ended < GONE)
    };
    let covered = covered(rows, |row| {
        is(row, Measure::Failures, Outcome::NotWorse) || (pool_is_judged && comparable(row))
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
    judged(what, covered, &format!("{} → {} failed", percent(was), percent(is)))
}

fn latency(rows: &[Row]) -> Criterion {
    let what = LATENCY.to_owned();
    let is_latency = |measure| matches!(measure, Measure::Latency(_));
    let worse = worse(rows.iter(), is_latency);
    if !worse.is_empty() {
        return Criterion { what, verdict: Verdict::NoGo, evidence: worse.join("; ") };
    }
    let covered = covered(rows, |row| {
        row.comparisons
            .iter()
            .filter(|comparison| is_latency(comparison.measure))
            .all(|comparison| comparison.outcome == Outcome::NotWorse)
    });
    judged(what, covered, "p50, p95 and p99 of what succeeded are within the limit")
}

fn conflicts(rows: &[Row]) -> Criterion {
    let what = CONFLICTS.to_owned();
    let worse = worse(rows.iter(), |measure| measure == Measure::Conflicts);
    if !worse.is_empty() {
        return Criterion { what, verdict: Verdict::NoGo, evidence: worse.join("; ") };
    }
    let asked = |row: &Row| row.comparison(Measure::Conflicts).is_some();
    let attempts = |row: &Row| row.operation.before().started;
    let all: f64 = rows.iter().filter(|row| asked(row)).map(attempts).sum();
    if all <= 0.0 {
        let evidence =
            "not looked at: no attempts of the transaction runner or the listener before".to_owned();
        return Criterion { what, verdict: Verdict::Unasked, evidence };
    }
    let same =
        rows.iter().filter(|row| is(row, Measure::Conflicts, Outcome::NotWorse)).map(attempts).sum::<f64>();
    judged(what, same / all, "write conflicts are within the limit")
}

fn traffic(rows: &[Row], before: Span, after: Span) -> Criterion {
    let what = TRAFFIC.to_owned();
    let rate = |count: f64, span: Span| count / span.seconds().max(1.0);
    let gone: Vec<String> = rows
        .iter()
        .map(|row| (row, rate(row.operation.before().ended, before) * after.seconds()))
        .filter(|(row, expected)| *expected >= GONE && row.operation.after.ended < 0.5)
        .map(|(row, expected)| {
            format!("{} is not called: about {expected:.0} times was to be expected", row.operation.name)
        })
        .collect();
    if !gone.is_empty() {
        return Criterion { what, verdict: Verdict::Inconclusive, evidence: gone.join("; ") };
    }
    let sum = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>();
    let (was, is) = (sum(|row| row.operation.before().ended), sum(|row| row.operation.after.ended));
    let verdict = if is < 0.5 { Verdict::Inconclusive } else { Verdict::Go };
    // A sum of nothing is a negative zero.
    let (was, is) = (rate(was, before) + 0.0, rate(is, after) + 0.0);
    let evidence = format!("{was:.2} → {is:.2} operations a second");
    Criterion { what, verdict, evidence }
}

fn judged(what: String, covered: f64, evidence: &str) -> Criterion {
    if covered >= COVERED {
        let evidence = format!("{evidence}; judged on {} of the traffic", percent(covered));
        return Criterion { what, verdict: Verdict::Go, evidence };
    }
    Criterion {
        what,
        verdict: Verdict::Inconclusive,
        evidence: format!(
            "not enough traffic: {} of it can be judged, and it takes {}; wait longer, or take a longer --baseline",
            percent(covered),
            percent(COVERED)
        ),
    }
}

fn worse<'a>(rows: impl Iterator<Item = &'a Row>, about: impl Fn(Measure) -> bool) -> Vec<String> {
    let comparisons = rows.flat_map(|row| &row.comparisons);
    let worse = comparisons
        .filter(|comparison| about(comparison.measure) && comparison.outcome == Outcome::Regressed);
    worse.map(told).collect()
}

/// `POST /pay: p99 0.08 s → 0.19 s (by chance: 1 in 100,000)`
fn told(comparison: &Comparison) -> String {
    let of = |value: Option<f64>| match comparison.measure {
        Measure::Latency(_) => value.map_or_else(|| "-".to_owned(), seconds),
        Measure::Failures | Measure::Conflicts => value.map_or_else(|| "-".to_owned(), percent),
    };
    let what = match comparison.measure {
        Measure::Failures => "failed".to_owned(),
        Measure::Latency(q) => format!("p{:.0}", q * 100.0),
        Measure::Conflicts => "conflicts".to_owned(),
    };
    let chance =
        if comparison.p < 1e-6 { "p < 0.000001".to_owned() } else { format!("p = {:.6}", comparison.p) };
    format!(
        "{}: {what} {} → {} ({chance})",
        comparison.operation,
        of(comparison.before),
        of(comparison.after)
    )
}

pub(crate) fn percent(share: f64) -> String {
    // A sum of nothing is a negative zero.
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
    const BEFORE: Span = Span { start: 0.0, end: 36_000.0 };
    const AFTER: Span = Span { start: 36_000.0, end: 39_600.0 };

    fn operation(name: &str, before: f64, after: f64, failed: f64) -> Operation {
        let stretch = |ended: f64, failed: f64| WindowCounts {
            ended,
            failed,
            cumulative: vec![ended * 0.999, ended, ended],
            ..WindowCounts::default()
        };
        Operation {
            name: name.to_owned(),
            slices: vec![stretch(before, 0.0); 10],
            after: stretch(after, failed),
        }
    }

    fn verdict(operations: Vec<Operation>) -> (Verdict, String) {
        let books = Books { bounds: vec![0.1, 1.0], operations, baseline: 1.0, ..Books::default() };
        let report = report((BEFORE, AFTER), &books, &LIMITS, None);
        (report.verdict(), format!("{:#?}", report.criteria))
    }

    #[test]
    fn a_go_needs_nearly_all_of_the_traffic() {
        let busy = operation("busy", 10_000.0, 10_000.0, 3.0);
        assert_eq!(verdict(vec![busy.clone()]).0, Verdict::Go);
        let rare = operation("rare", 3.0, 3.0, 0.0);
        assert_eq!(
            verdict(vec![busy.clone(), rare]).0,
            Verdict::Go,
            "a hundredth of the traffic may be unknown"
        );
        let half = operation("half", 100.0, 8_000.0, 0.0);
        let new = Operation { slices: Vec::new(), ..half };
        let (judged, told) = verdict(vec![busy.clone(), new]);
        assert_eq!(judged, Verdict::Inconclusive, "{told}");
        assert!(told.contains("not enough traffic: 55.56 %"), "{told}");
        let (judged, told) = verdict(vec![busy, operation("gone", 2_000.0, 0.0, 0.0)]);
        assert_eq!(judged, Verdict::Inconclusive, "{told}");
        assert!(told.contains("gone is not called: about 2000 times"), "{told}");
        assert_eq!(verdict(Vec::new()).0, Verdict::Inconclusive);
    }

    #[test]
    fn rare_operations_are_judged_together() {
        let busy = operation("busy", 10_000.0, 10_000.0, 3.0);
        let many =
            |failed: f64| (0..40).map(move |index| operation(&format!("rare {index}"), 50.0, 50.0, failed));
        let (judged, told) = verdict(many(4.0).chain([busy.clone()]).collect());
        assert_eq!(judged, Verdict::NoGo, "{told}");
        assert!(told.contains("40 rare operations together: failed 0.00 % → 8.00 %"), "{told}");
        let (_, told) = verdict(many(0.0).chain([busy]).collect());
        assert!(told.contains("judged on 100.00 % of the traffic"), "{told}");
    }

    #[test]
    fn without_callers_metrics_the_servers_counters_are_judged() {
        let set = |after: f64| {
            let stretch = |started: f64, aborted: f64| WindowCounts {
                started,
                aborted,
                conflicts: aborted,
                ..WindowCounts::default()
            };
            Operation {
                name: "replica set rs0".to_owned(),
                slices: vec![stretch(10_000.0, 100.0); 10],
                after: stretch(10_000.0, after),
            }
        };
        let judged = |servers: Vec<Operation>| {
            let books = Books { servers, baseline: 1.0, ..Books::default() };
            report((BEFORE, AFTER), &books, &LIMITS, None)
        };
        assert_eq!(judged(vec![set(120.0)]).verdict(), Verdict::Go);
        let worse = judged(vec![set(4_000.0)]);
        assert_eq!(worse.verdict(), Verdict::NoGo, "{:#?}", worse.criteria);
        assert_eq!(judged(Vec::new()).verdict(), Verdict::Inconclusive);
        let mut few = set(0.0);
        few.slices.iter_mut().for_each(|slice| slice.started = 0.0);
        assert_eq!(judged(vec![few]).verdict(), Verdict::Inconclusive);
    }

    #[test]
    fn a_missing_label_is_named_and_never_a_go() {
        let operations = vec![operation("busy", 10_000.0, 10_000.0, 3.0)];
        let books = Books {
            bounds: vec![0.1, 1.0],
            operations,
            lacking: ["outcome"].into(),
            baseline: 1.0,
            ..Books::default()
        };
        let report = report((BEFORE, AFTER), &books, &LIMITS, None);
        assert_eq!(report.verdict(), Verdict::Inconclusive);
        assert!(report.criteria[1].evidence.contains("without the label outcome"), "{:#?}", report.criteria);
    }
}
