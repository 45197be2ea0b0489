//! Who makes transactions abort: idle transactions, while others meet write conflicts.

use std::time::Duration;

use super::model::{Reference, Transaction, TransactionState};
use super::rates::Rates;
use super::report::MemberReport;
use super::transactions::may_have_written;

/// Conflicts and aborts per second from which on a cause is looked for.
const MIN_RATE: f64 = 1.0;
/// A transaction that is idle for less does its client's ordinary work between two statements.
const MIN_IDLE: Duration = Duration::from_secs(1);
/// The most candidates of a member.
const MAX_CANDIDATES: usize = 10;

/// The transactions of a member that may have changed the documents on which others conflict now, the oldest first.
/// `transactions` are those of the whole report.
pub(super) fn candidates(member: &MemberReport, transactions: &[Transaction]) -> Vec<Reference> {
    let conflict = |rates: Rates| {
        let is_frequent = |rate: Option<f64>| rate.is_some_and(|rate| rate >= MIN_RATE);
        is_frequent(rates.write_conflicts) && is_frequent(rates.aborts)
    };
    if !member.rates.is_some_and(conflict) {
        return Vec::new();
    }
    let is_candidate = |transaction: &Transaction| {
        transaction.member == member.member
            && transaction.state == TransactionState::Idle
            && transaction.idle.is_some_and(|idle| idle >= MIN_IDLE)
            && may_have_written(transaction, None)
    };
    let found = transactions.iter().enumerate().filter(|(_, transaction)| is_candidate(transaction));
    found.map(|(index, _)| Reference::Transaction(index)).take(MAX_CANDIDATES).collect()
}
