//! What of the books is shown.
//!
//! The labels of a check are its own name and that of the replica set. Where two deployments have the same name, or two
//! URIs lead to one deployment, the series are shared and show the worse of the two: a page with a series twice is
//! refused as a whole, and a violation must not hide behind its namesake.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use txnscope_catalog as catalog;
use txnscope_checks::Reason;

use super::books::{Books, Entry, Record};
use crate::export::Builder;
use crate::snapshot::Snapshot;

/// After so many intervals without a success, the last one is no longer shown.
const STALE_AFTER: u32 = 3;

/// The books of one deployment, and who knows the name of its replica set.
#[derive(Debug, Clone)]
pub(crate) struct Inspected {
    pub(crate) books: Books,
    pub(crate) snapshot: Snapshot,
}

/// Adds to the page what the checks have found.
pub(crate) fn show(families: &mut Builder, inspected: &[Inspected], now: Instant) {
    let mut namesakes: BTreeMap<(String, &str), Vec<&Arc<Entry>>> = BTreeMap::new();
    for Inspected { books, snapshot } in inspected {
        let rs = snapshot.rs();
        for entry in books.entries() {
            namesakes.entry((rs.clone(), &entry.check.name)).or_default().push(entry);
        }
    }
    for ((rs, _), entries) in namesakes {
        of_check(families, &rs, &entries, now);
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
fn of_check(families: &mut Builder, rs: &str, entries: &[&Arc<Entry>], now: Instant) {
    let Some(check) = entries.first().map(|entry| &entry.check) else { return };
    let records: Vec<Record> = entries.iter().map(|entry| entry.record()).collect();
    let who = [rs, check.name.as_str()];
    families.number(&catalog::MONGODB_CONSISTENCY_INTERVAL, &who, check.interval.as_secs_f64());
    let last = records.iter().map(|record| record.success.map_or(0.0, |success| success.unix));
    families.number(&catalog::MONGODB_CONSISTENCY_LAST_SUCCESS, &who, last.fold(f64::INFINITY, f64::min));
    if let Some(took) = records.iter().filter_map(|record| record.took).max() {
        families.number(&catalog::MONGODB_CONSISTENCY_CHECK_DURATION, &who, took.as_secs_f64());
    }
    for reason in Reason::ALL {
        let failures: u64 = records.iter().map(|record| record.failures[reason as usize]).sum();
        let labels = [rs, check.name.as_str(), reason.as_str()];
        families.number(&catalog::MONGODB_CONSISTENCY_CHECK_ERRORS, &labels, failures as f64);
    }
    let fresh = records.iter().filter_map(|record| record.success);
    let limit = check.interval * STALE_AFTER;
    let fresh: Vec<_> = fresh.filter(|success| now.saturating_duration_since(success.at) <= limit).collect();
    let Some(violations) = fresh.iter().map(|success| success.violations).max() else { return };
    // Not clean while of one nothing is known.
    if violations > 0 || fresh.len() == records.len() {
        let labels = [rs, check.name.as_str(), check.severity.as_str()];
        families.number(&catalog::MONGODB_CONSISTENCY_VIOLATIONS, &labels, violations as f64);
        let documents = fresh.iter().map(|success| success.documents).max().unwrap_or_default();
        families.number(&catalog::MONGODB_CONSISTENCY_DOCUMENTS_EXAMINED, &who, documents as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;
    use testkit::Scrape;
    use txnscope_checks::{CheckResult, Checks, Failure, Report};

    use super::*;
    use crate::board::Board;
    use crate::export::Page;

    const FILE: &str = r#"
        [[check]]
        name = "balance"
        severity = "critical"
        database = "d"
        collection = "c"
        interval = "10s"
        forbid = '{}'
    "#;
    const SECOND: Duration = Duration::from_secs(1);

    fn checks(text: &str) -> Checks {
        Checks::parse(text).unwrap()
    }

    fn books() -> (Books, Board) {
        let books = Books::new(&checks(FILE), &Books::default());
        let board = Board::default();
        board.inspect(vec![inspected(&books)]);
        (books, board)
    }

    fn inspected(books: &Books) -> Inspected {
        Inspected { books: books.clone(), snapshot: Snapshot::default() }
    }

    fn violations(board: &Board) -> Option<f64> {
        let labels = [("check", "balance"), ("severity", "critical")];
        scrape(board).value("mongodb_consistency_violations", &labels)
    }

    fn scrape(board: &Board) -> Scrape {
        let families = Page::new(board.clone()).unwrap().families();
        Scrape::parse(&TextEncoder::new().encode_to_string(&families).unwrap()).unwrap()
    }

    fn found(count: u64) -> Report {
        let verdict = match count {
            0 => CheckResult::Clean { documents: 7 },
            count => CheckResult::Violated { count, sample: Vec::new(), documents: 7 },
        };
        Report::new(verdict, SECOND)
    }

    fn failed(reason: Reason) -> Report {
        Report::failed(Failure::new(reason, "no"), SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_has_not_run_is_no_zero_and_its_errors_are() {
        let (books, board) = books();
        let errors = |board: &Board, reason| {
            let labels = [("check", "balance"), ("reason", reason)];
            scrape(board).value("mongodb_consistency_check_errors_total", &labels)
        };
        assert_eq!(violations(&board), None);
        assert_eq!(errors(&board, "timeout"), Some(0.0));
        let last = "mongodb_consistency_last_success_timestamp_seconds";
        assert_eq!(scrape(&board).value(last, &[]), Some(0.0), "time() less this is older than any interval");
        books.entries()[0].note("rs0", &failed(Reason::Timeout));
        assert_eq!(violations(&board), None);
        assert_eq!((errors(&board, "timeout"), errors(&board, "network")), (Some(1.0), Some(0.0)));
        assert_eq!(scrape(&board).value(last, &[]), Some(0.0));
        books.entries()[0].note("rs0", &found(0));
        assert_eq!(violations(&board), Some(0.0));
        assert!(scrape(&board).value(last, &[]) > Some(1e9));
    }

    #[tokio::test(start_paused = true)]
    async fn violations_of_a_check_that_fails_vanish_after_three_intervals() {
        let (books, board) = books();
        books.entries()[0].note("rs0", &found(3));
        assert_eq!(violations(&board), Some(3.0));
        for _ in 0..3 {
            tokio::time::advance(10 * SECOND).await;
            books.entries()[0].note("rs0", &failed(Reason::Network));
            assert_eq!(violations(&board), Some(3.0));
        }
        tokio::time::advance(SECOND).await;
        assert_eq!(violations(&board), None);
        assert_eq!(scrape(&board).value("mongodb_consistency_documents_examined", &[]), None);
        assert_eq!(scrape(&board).value("mongodb_consistency_interval_seconds", &[]), Some(10.0));
    }

    #[tokio::test(start_paused = true)]
    async fn of_namesakes_the_worse_is_shown_and_each_series_once() {
        let (first, board) = books();
        let second = Books::new(&checks(FILE), &Books::default());
        board.inspect(vec![inspected(&first), inspected(&second)]);
        first.entries()[0].note("rs0", &found(0));
        assert_eq!(violations(&board), None, "of the second nothing is known");
        second.entries()[0].note("rs0", &found(2));
        assert_eq!(violations(&board), Some(2.0));
        tokio::time::advance(31 * SECOND).await;
        first.entries()[0].note("rs0", &found(3));
        second.entries()[0].note("rs0", &failed(Reason::Network));
        assert_eq!(violations(&board), Some(3.0), "what is wrong is wrong, whatever else is not known");
        let series = scrape(&board);
        assert_eq!(series.matching("mongodb_consistency_violations", &[]).count(), 1);
        let errors = [("check", "balance"), ("reason", "network")];
        assert_eq!(series.value("mongodb_consistency_check_errors_total", &errors), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_a_check_that_stays_as_it_is_outlives_a_reload() {
        let (before, board) = books();
        before.entries()[0].note("rs0", &found(3));
        let more = format!("{FILE}{}", FILE.replace("\"balance\"", "\"other\""));
        board.inspect(vec![inspected(&Books::new(&checks(&more), &before))]);
        assert_eq!(violations(&board), Some(3.0));
        let changed = FILE.replace("'{}'", "'{ \"a\": 1 }'");
        board.inspect(vec![inspected(&Books::new(&checks(&changed), &before))]);
        assert_eq!(violations(&board), None, "another question, which nobody has asked yet");
    }
}
