//! Words for transactions, waits and times. Text of a server is escaped here, for every view.

use std::time::Duration;

use txnscope_catalog::escape_line;
use txnscope_sidecar::live::{LiveReport, Reference, Transaction, TreeRow, WaitingOperation, WaitsFor};

use crate::output::grouped;

/// A text of a server, on one line and without control characters.
pub(super) fn plain(text: &str) -> String {
    escape_line(text).into_owned()
}

/// A text of a server that may be missing.
pub(super) fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), plain)
}

/// A time in the two units that matter: `0.4 s`, `12 s`, `3m 05s`, `2h 07m`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", (duration.as_secs_f64() * 10.0).floor() / 10.0),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

pub(super) fn optional_time(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), time)
}

/// The state in words.
pub(super) fn state(transaction: &Transaction) -> String {
    transaction.state.as_str().replace('_', " ")
}

/// The name of a transaction: its operation, else its application, else its session.
pub(super) fn name(transaction: &Transaction) -> String {
    match (&transaction.operation, &transaction.application) {
        (Some(operation), Some(application)) => format!("{} ({})", plain(operation), plain(application)),
        (Some(name), None) | (None, Some(name)) => plain(name),
        (None, None) => format!("session {}", plain(&transaction.session)),
    }
}

pub(super) fn namespaces(transaction: &Transaction) -> String {
    match transaction.namespaces.as_slice() {
        [] => "-".to_owned(),
        all => plain(&all.join(", ")),
    }
}

/// What an operation waits for, and what is known about the holder.
pub(super) fn waits_for(waiting: &WaitingOperation) -> String {
    match &waiting.waits_for {
        WaitsFor::Lock { resource: Some(resource), name, mode: Some(mode) } => match name {
            Some(name) => format!("lock {mode} on {resource} {}", plain(name)),
            None => format!("lock {mode} on {}", plain(resource)),
        },
        WaitsFor::Lock { .. } => "a lock".to_owned(),
        WaitsFor::Document => {
            format!("a document, holder unknown, {} write conflicts", grouped(waiting.write_conflicts))
        }
        WaitsFor::PreparedTransaction => "a prepared transaction".to_owned(),
    }
}

/// A reference as in the JSON, such as `transaction 0`.
pub(super) fn reference(reference: Reference) -> String {
    match reference {
        Reference::Transaction(index) => format!("transaction {index}"),
        Reference::Waiting(index) => format!("waiting {index}"),
        Reference::Running(index) => format!("running {index}"),
    }
}

pub(super) fn references(all: &[Reference]) -> String {
    match all {
        [] => "-".to_owned(),
        all => all.iter().copied().map(reference).collect::<Vec<_>>().join(", "),
    }
}

/// A row of the tree: its branch and its text.
pub(super) fn tree_row(report: &LiveReport, row: &TreeRow) -> String {
    let branch = match (row.depth, row.certain) {
        (0, _) => String::new(),
        (depth, true) => format!("{}└─ ", "   ".repeat(depth - 1)),
        (depth, false) => format!("{}└? ", "   ".repeat(depth - 1)),
    };
    let behind = match row.blocks {
        0 => String::new(),
        1 => ", 1 waits behind".to_owned(),
        blocks => format!(", {} wait behind", grouped(blocks as u64)),
    };
    // The number is before what may be cut off on a narrow screen.
    let (subject, rest) = tree_entry(report, &row.entries).unwrap_or_default();
    format!("{branch}{subject}{behind}: {rest}")
}

/// What an entry is, and what is known about it.
fn tree_entry(report: &LiveReport, entries: &[Reference]) -> Option<(String, String)> {
    match entries {
        [Reference::Transaction(index)] => report.transactions.get(*index).map(transaction_entry),
        [Reference::Running(index)] => report.running.get(*index).map(|running| {
            let subject = on(&running.command, running.namespace.as_deref());
            (subject, format!("runs for {}", time(running.running)))
        }),
        [Reference::Waiting(index)] => report.waiting.get(*index).map(waiting_entry),
        _ => group_entry(report, entries),
    }
}

/// A command on its namespace.
fn on(command: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{} on {}", plain(command), plain(namespace)),
        None => plain(command),
    }
}

fn transaction_entry(transaction: &Transaction) -> (String, String) {
    let since = match transaction.idle {
        Some(idle) => format!("{} for {}", state(transaction), time(idle)),
        None => state(transaction),
    };
    let holds = match transaction.namespaces.as_slice() {
        [] => String::new(),
        _ => format!(", holds {}", namespaces(transaction)),
    };
    let rest = format!("{since}, open for {}{holds}", time(transaction.age));
    (format!("transaction {}", name(transaction)), rest)
}

fn waiting_entry(waiting: &WaitingOperation) -> (String, String) {
    let candidates = match (&waiting.waits_for, waiting.candidates.len()) {
        (WaitsFor::Document | WaitsFor::PreparedTransaction, 2..) => {
            format!(", candidates: {}", references(&waiting.candidates))
        }
        _ => String::new(),
    };
    let rest = format!("waits {} for {}{candidates}", time(waiting.waiting), waits_for(waiting));
    (on(&waiting.command, waiting.namespace.as_deref()), rest)
}

fn group_entry(report: &LiveReport, entries: &[Reference]) -> Option<(String, String)> {
    let waiting: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Reference::Waiting(index) => report.waiting.get(*index),
            Reference::Transaction(_) | Reference::Running(_) => None,
        })
        .collect();
    let first = waiting.first()?;
    let longest = waiting.iter().map(|waiting| waiting.waiting).max().unwrap_or_default();
    let what = match &first.waits_for {
        WaitsFor::Document => "a document, holder unknown".to_owned(),
        WaitsFor::Lock { .. } | WaitsFor::PreparedTransaction => waits_for(first),
    };
    let subject = on(&first.command, first.namespace.as_deref());
    let subject = format!("{} × {subject}", grouped(waiting.len() as u64));
    Some((subject, format!("wait up to {} for {what}", time(longest))))
}

/// A number of things: `1 open transaction`, `31 open transactions`.
pub(super) fn counted(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

/// A rate with one digit; `-` if it is unknown.
pub(super) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        for (milliseconds, text) in [
            (0, "0.0 s"),
            (9_990, "9.9 s"),
            (12_700, "12 s"),
            (185_000, "3m 05s"),
            (7_620_000, "2h 07m"),
            (90_000_000, "25h 00m"),
        ] {
            assert_eq!(time(Duration::from_millis(milliseconds)), text);
        }
    }
}
